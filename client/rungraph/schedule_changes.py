"""`rungraph schedule create` and `rungraph schedule update`: when a schedule fires, and what it starts.

In an update what is given changes and the rest stays, as in `rungraph run rerun`: --set changes these arguments,
--ask what these steps ask for, any other option what it says; --reset makes an option as if it had never been given.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import groups, pipelines, requests, triggers, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.schedules import ERRORS, WHOLE, ScheduleWord, get, show

CREATE = f"""mutation CreateSchedule($input: CreateScheduleInput!) {{
  createSchedule(input: $input) {{ schedule {{ {WHOLE} }} {ERRORS} }}
}}"""
UPDATE = f"""mutation UpdateSchedule($input: UpdateScheduleInput!) {{
  updateSchedule(input: $input) {{ schedule {{ {WHOLE} }} {ERRORS} }}
}}"""

STARTED = {
    "set": "arguments",
    "ask": "resources",
    "retry": "retry",
    "file": "files",
    "dataset": "datasets",
    "source": "sources",
    "backend": "backend",
    "tag": "tags",
    "priority": "priority",
    "fail-fast": "failFast",
    "no-cache": "cache",
    "run-name": "name",
}
"""Options that say what is started, and what the API calls it."""


class CatchUp(StrEnum):
    """What --catch-up takes."""

    SKIP = "SKIP"
    LAST = "LAST"
    ALL = "ALL"


class Overlap(StrEnum):
    """What --overlap takes."""

    ALLOW = "ALLOW"
    SKIP = "SKIP"
    CANCEL_PREVIOUS = "CANCEL_PREVIOUS"


@dataclass(frozen=True, slots=True)
class Policy:
    """What else was said of a schedule: a group of options (groups.py)."""

    run_name: Annotated[str, typer.Option(help="What its runs are called.")] = ""
    catch_up: Annotated[
        CatchUp | None, typer.Option(case_sensitive=False, help="What is done about missed times; else SKIP.")
    ] = None
    overlap: Annotated[
        Overlap | None,
        typer.Option(case_sensitive=False, help="What is done when a run is still active; else ALLOW."),
    ] = None
    jitter: Annotated[str, typer.Option(metavar="DURATION", help="Up to so much later than due.")] = ""
    starts: Annotated[str, typer.Option(metavar="TIME", help="Not before, such as 2026-12-01T00:00Z.")] = ""
    ends: Annotated[str, typer.Option(metavar="TIME", help="Not after.")] = ""
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None

    def asked(self) -> dict[str, Any]:
        """It as the API takes it, but for the name of runs; raises BadUsage."""
        return {
            **({} if self.description is None else {"description": self.description}),
            **({"catchUp": self.catch_up.value} if self.catch_up else {}),
            **({"overlap": self.overlap.value} if self.overlap else {}),
            **({"jitterSeconds": values.seconds(self.jitter, "--jitter")} if self.jitter else {}),
            **({"startsAt": values.moment(self.starts, "--starts")} if self.starts else {}),
            **({"endsAt": values.moment(self.ends, "--ends")} if self.ends else {}),
        }


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph schedule`."""
    app.command("create")(create_)
    app.command("update")(update_)


@groups.spread
def create_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the schedule is called.")],
    pipeline: Annotated[str, typer.Argument(help="The pipeline it starts, by name or id.")],
    trigger: triggers.Trigger,
    given: requests.Given,
    policy: Policy,
) -> None:
    """Create a schedule: exactly one of --cron, --every, --on-file and --after says when."""

    async def action(client: Client, output: Output) -> None:
        if not trigger.one():
            raise BadUsage("give exactly one of --cron, --every, --on-file and --after")
        run, policies = given.plain(policy.run_name), policy.asked()
        wanted = {
            "name": name,
            **await trigger.asked(client, {}),
            "pipeline": (await pipelines.get(client, pipeline))["id"],
            **policies,
            "run": {**run, **await given.inputs(client, output)},
        }
        show(output, (await client.execute(CREATE, {"input": wanted}))["createSchedule"]["schedule"])

    perform(ctx, action)


@groups.spread
def update_(
    ctx: typer.Context,
    schedule: ScheduleWord,
    trigger: triggers.Trigger,
    given: requests.Given,
    policy: Policy,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    pipeline: Annotated[str, typer.Option(help="Another pipeline, by name or id.")] = "",
    no_starts: Annotated[bool, typer.Option("--no-starts", help="No such bound any more.")] = False,
    no_ends: Annotated[bool, typer.Option("--no-ends", help="No such bound any more.")] = False,
    reset: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="As if it had not been given: tag, no-cache, zone…; repeatable."),
    ] = None,
) -> None:
    """Change a schedule; it then acts in the name of who changed it. What is not given stays."""

    async def action(client: Client, output: Output) -> None:
        if (policy.starts and no_starts) or (policy.ends and no_ends):
            raise BadUsage("give one of --starts and --no-starts, of --ends and --no-ends")
        trigger.one()
        forgotten = _options(reset or [])
        run = given.plain(policy.run_name)
        changes: dict[str, Any] = {
            **({} if name is None else {"name": name}),
            **policy.asked(),
            **({"startsAt": None} if no_starts else {}),
            **({"endsAt": None} if no_ends else {}),
        }
        said = (changes, run, forgotten, pipeline, trigger != triggers.Trigger(), given != requests.Given())
        if not any(said):
            raise BadUsage("say what to change: see `rungraph schedule update --help`")
        had = await get(client, schedule)
        before = triggers.input_of(had["trigger"])
        changes |= await trigger.asked(client, before, forgotten & triggers.PARTS.keys())
        changes |= {"pipeline": (await pipelines.get(client, pipeline))["id"]} if pipeline else {}
        run |= await given.inputs(client, output)
        unsaid = {STARTED[option] for option in forgotten & STARTED.keys()}
        changes |= {"run": _amended(had["run"], run, unsaid)} if run or unsaid else {}
        changes["id"] = had["id"]
        show(output, (await client.execute(UPDATE, {"input": changes}))["updateSchedule"]["schedule"])

    perform(ctx, action)


def _options(words: list[str]) -> set[str]:
    known = (*STARTED, *triggers.PARTS)
    for word in words:
        if word not in known:
            raise BadUsage(f"--reset {word}: it takes one of {', '.join(known)}")
    return set(words)


def _amended(had: dict[str, Any], run: dict[str, Any], forgotten: set[str]) -> dict[str, Any]:
    """All of what is started, as the API wants it: what there was, without what is forgotten, with what is given."""
    kept = {field: value for field, value in had.items() if field not in forgotten and value is not None}
    amended = {**kept, **run}
    if "arguments" in kept and "arguments" in run:
        steps = {each["step"]: each["arguments"] for each in kept["arguments"]}
        for each in run["arguments"]:
            steps[each["step"]] = {**steps.get(each["step"], {}), **each["arguments"]}
        amended["arguments"] = [{"step": step, "arguments": options} for step, options in steps.items()]
    if "resources" in kept and "resources" in run:
        asked = {each["step"]: each for each in [*kept["resources"], *run["resources"]]}
        amended["resources"] = list(asked.values())
    return amended
