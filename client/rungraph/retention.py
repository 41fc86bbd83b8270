"""`rungraph retention`: for how many days projects keep what their ended runs measured and printed."""

from typing import Annotated, Any

import typer

from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output

app = typer.Typer(help="Say how long metrics and logs are kept.", no_args_is_help=True)

FOR_EVER = "forever"
PROJECT = "id name metricsDays logsDays"

PROJECTS = f"query Retention {{ viewer {{ projects {{ {PROJECT} }} }} }}"

SET = f"""mutation SetRetention($input: SetRetentionInput!) {{
  setRetention(input: $input) {{ project {{ {PROJECT} }} errors {{ code message path retryable }} }}
}}"""

Days = Annotated[str | None, typer.Option(metavar="DAYS", help=f"So many days, or {FOR_EVER}.")]


@app.command("show")
def show(ctx: typer.Context) -> None:
    """Show for how many days each project keeps what."""

    async def action(client: Client, output: Output) -> None:
        projects = (await client.execute(PROJECTS))["viewer"]["projects"]
        if output.as_json:
            output.document(projects)
        else:
            output.table(("PROJECT", "METRICS", "LOGS", "ID"), map(_row, projects))

    perform(ctx, action)


@app.command("set")
def set_(
    ctx: typer.Context,
    metrics: Days = None,
    logs: Days = None,
    project: Annotated[
        str | None, typer.Option(metavar="ID", help="The default project when not given.")
    ] = None,
) -> None:
    """Keep every point, and every line, for so many days after a run's end; what is gone does not come back.

    Of older points the least, the greatest and the last of every 64 are kept; of older lines how many they were.
    """

    async def action(client: Client, output: Output) -> None:
        given = {"metricsDays": metrics, "logsDays": logs}
        wanted: dict[str, Any] = {name: _days(text) for name, text in given.items() if text is not None}
        if not wanted:
            raise BadUsage("give --metrics or --logs")
        if project is not None:
            wanted["project"] = project
        answer = await client.execute(SET, {"input": wanted}, repeatable=True)
        kept = answer["setRetention"]["project"]
        if output.as_json:
            output.document(kept)
        else:
            output.write(
                f"{kept['name']} keeps metrics {_for(kept['metricsDays'])} and logs {_for(kept['logsDays'])}"
            )

    perform(ctx, action)


def _days(text: str) -> int | None:
    if text == FOR_EVER:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise BadUsage(f"{text!r} is no number of days: give 1 or more, or {FOR_EVER}")
    return int(text)


def _for(days: int | None) -> str:
    return "for ever" if days is None else "for 1 day" if days == 1 else f"for {days} days"


def _row(project: dict[str, Any]) -> tuple[str, str, str, str]:
    metrics, logs = project["metricsDays"], project["logsDays"]
    return project["name"], _shown(metrics), _shown(logs), project["id"]


def _shown(days: int | None) -> str:
    return FOR_EVER if days is None else f"{days}d"
