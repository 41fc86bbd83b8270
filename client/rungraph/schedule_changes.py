"""`rungraph schedule update`: what is given changes, the rest stays; --no-starts and --no-ends take a bound away."""

from typing import Annotated, Any

import typer

from rungraph import pipelines, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.schedules import ERRORS, FIELDS, CatchUp, Overlap, ScheduleWord, get, show

UPDATE = f"""mutation UpdateSchedule($input: UpdateScheduleInput!) {{
  updateSchedule(input: $input) {{ schedule {{ {FIELDS} }} {ERRORS} }}
}}"""


def add_to(app: typer.Typer) -> None:
    """Add it to the verbs of `rungraph schedule`."""
    app.command("update")(update_)


def update_(
    ctx: typer.Context,
    schedule: ScheduleWord,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    pipeline: Annotated[str, typer.Option(help="Another pipeline, by name or id.")] = "",
    cron: Annotated[str, typer.Option(help="A cron expression from now on.")] = "",
    zone: Annotated[str, typer.Option(help="The cron's IANA time zone.")] = "UTC",
    every: Annotated[str, typer.Option(metavar="DURATION", help="An interval from now on.")] = "",
    catch_up: Annotated[CatchUp | None, typer.Option(case_sensitive=False, help="Another policy.")] = None,
    overlap: Annotated[Overlap | None, typer.Option(case_sensitive=False, help="Another policy.")] = None,
    jitter: Annotated[str, typer.Option(metavar="DURATION", help="Up to so much later than due.")] = "",
    starts: Annotated[str, typer.Option(metavar="TIME", help="Not before.")] = "",
    no_starts: Annotated[bool, typer.Option("--no-starts", help="No such bound any more.")] = False,
    ends: Annotated[str, typer.Option(metavar="TIME", help="Not after.")] = "",
    no_ends: Annotated[bool, typer.Option("--no-ends", help="No such bound any more.")] = False,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Change a schedule; it then acts in the name of who changed it."""

    async def action(client: Client, output: Output) -> None:
        if (cron and every) or (starts and no_starts) or (ends and no_ends):
            raise BadUsage(
                "give one of --cron and --every, of --starts and --no-starts, of --ends and --no-ends"
            )
        changes: dict[str, Any] = {
            **({} if name is None else {"name": name}),
            **({} if description is None else {"description": description}),
            **({"pipeline": (await pipelines.get(client, pipeline))["id"]} if pipeline else {}),
            **({"cron": {"expression": cron, "timeZone": zone}} if cron else {}),
            **({"interval": {"everySeconds": values.seconds(every, "--every")}} if every else {}),
            **({"catchUp": catch_up.value} if catch_up else {}),
            **({"overlap": overlap.value} if overlap else {}),
            **({"jitterSeconds": values.seconds(jitter, "--jitter")} if jitter else {}),
            **({"startsAt": starts or None} if starts or no_starts else {}),
            **({"endsAt": ends or None} if ends or no_ends else {}),
        }
        if not changes:
            raise BadUsage("say what to change: see `rungraph schedule update --help`")
        changes["id"] = (await get(client, schedule))["id"]
        show(output, (await client.execute(UPDATE, {"input": changes}))["updateSchedule"]["schedule"])

    perform(ctx, action)
