"""`rungraph schedule create` and `rungraph schedule update`: when a schedule fires, and what it starts.

In an update what is given changes and the rest stays; --no-starts and --no-ends take a bound away.
"""

from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import pipelines, requests, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.schedules import ERRORS, FIELDS, ScheduleWord, get, show

CREATE = f"""mutation CreateSchedule($input: CreateScheduleInput!) {{
  createSchedule(input: $input) {{ schedule {{ {FIELDS} }} {ERRORS} }}
}}"""
UPDATE = f"""mutation UpdateSchedule($input: UpdateScheduleInput!) {{
  updateSchedule(input: $input) {{ schedule {{ {FIELDS} }} {ERRORS} }}
}}"""


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


class End(StrEnum):
    """What --after-state takes."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


Cron = Annotated[str, typer.Option(help="A cron expression, or @daily and the like.")]
Zone = Annotated[str, typer.Option(help="The cron's IANA time zone.")]
Every = Annotated[str, typer.Option(metavar="DURATION", help="An interval: 30s, 5m, 2h, 1d.")]
Jitter = Annotated[str, typer.Option(metavar="DURATION", help="Up to so much later than due.")]
Starts = Annotated[str, typer.Option(metavar="TIME", help="Not before, such as 2026-12-01T00:00Z.")]
Ends = Annotated[str, typer.Option(metavar="TIME", help="Not after.")]
Missed = Annotated[
    CatchUp | None, typer.Option(case_sensitive=False, help="What is done about missed times; else SKIP.")
]
Overlapping = Annotated[
    Overlap | None,
    typer.Option(case_sensitive=False, help="What is done when a run is still active; else ALLOW."),
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph schedule`."""
    app.command("create")(create_)
    app.command("update")(update_)


def create_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the schedule is called.")],
    pipeline: Annotated[str, typer.Argument(help="The pipeline it starts, by name or id.")],
    cron: Cron = "",
    zone: Zone = "UTC",
    every: Every = "",
    on_file: Annotated[str, typer.Option(metavar="PATTERN", help="For each file that arrives.")] = "",
    file_tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag that the file has; repeatable.")
    ] = None,
    made: Annotated[bool, typer.Option("--made", help="Files that jobs make, instead of uploads.")] = False,
    batch: Annotated[
        str, typer.Option(metavar="DURATION", help="Files that come within so long are one run.")
    ] = "",
    after: Annotated[str, typer.Option(metavar="PIPELINE", help="When a run of this one has ended.")] = "",
    after_state: Annotated[
        list[End] | None, typer.Option(case_sensitive=False, help="In these states; SUCCEEDED by default.")
    ] = None,
    outputs: Annotated[bool, typer.Option("--outputs", help="Give it that run's outputs.")] = False,
    set_: requests.Settings = None,
    ask: requests.Ask = None,
    retry: requests.Retry = None,
    file: requests.Inputs = None,
    dataset: requests.Datasets = None,
    source: requests.Sources = None,
    backend: requests.Backend = "",
    tag: requests.Tags = None,
    run_name: Annotated[str, typer.Option(help="What its runs are called.")] = "",
    priority: requests.Priority = 0,
    fail_fast: requests.FailFast = False,
    no_cache: requests.NoCache = False,
    catch_up: Missed = None,
    overlap: Overlapping = None,
    jitter: Jitter = "",
    starts: Starts = "",
    ends: Ends = "",
    description: Description = None,
) -> None:
    """Create a schedule: exactly one of --cron, --every, --on-file and --after says when."""
    given = requests.Given(
        set_, ask, retry, file, dataset, source, tag, run_name, priority, fail_fast, no_cache, backend
    )

    async def action(client: Client, output: Output) -> None:
        run = given.plain()
        triggers = {
            **_clock(cron, zone, every),
            **(_arrival(on_file, file_tag or [], made, batch) if on_file else {}),
            **(await _ended(client, after, after_state or [], outputs) if after else {}),
        }
        if len(triggers) != 1:
            raise BadUsage("give exactly one of --cron, --every, --on-file and --after")
        wanted = {
            "name": name,
            "pipeline": (await pipelines.get(client, pipeline))["id"],
            **triggers,
            **_policy(catch_up, overlap, jitter, description),
            **({"startsAt": starts} if starts else {}),
            **({"endsAt": ends} if ends else {}),
            "run": {**run, **await given.inputs(client, output)},
        }
        show(output, (await client.execute(CREATE, {"input": wanted}))["createSchedule"]["schedule"])

    perform(ctx, action)


def update_(
    ctx: typer.Context,
    schedule: ScheduleWord,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    pipeline: Annotated[str, typer.Option(help="Another pipeline, by name or id.")] = "",
    cron: Cron = "",
    zone: Zone = "UTC",
    every: Every = "",
    catch_up: Missed = None,
    overlap: Overlapping = None,
    jitter: Jitter = "",
    starts: Starts = "",
    no_starts: Annotated[bool, typer.Option("--no-starts", help="No such bound any more.")] = False,
    ends: Ends = "",
    no_ends: Annotated[bool, typer.Option("--no-ends", help="No such bound any more.")] = False,
    description: Description = None,
) -> None:
    """Change a schedule; it then acts in the name of who changed it. What is not given stays."""

    async def action(client: Client, output: Output) -> None:
        if (cron and every) or (starts and no_starts) or (ends and no_ends):
            raise BadUsage(
                "give one of --cron and --every, of --starts and --no-starts, of --ends and --no-ends"
            )
        changes: dict[str, Any] = {
            **({} if name is None else {"name": name}),
            **({"pipeline": (await pipelines.get(client, pipeline))["id"]} if pipeline else {}),
            **_clock(cron, zone, every),
            **_policy(catch_up, overlap, jitter, description),
            **({"startsAt": starts or None} if starts or no_starts else {}),
            **({"endsAt": ends or None} if ends or no_ends else {}),
        }
        if not changes:
            raise BadUsage("say what to change: see `rungraph schedule update --help`")
        changes["id"] = (await get(client, schedule))["id"]
        show(output, (await client.execute(UPDATE, {"input": changes}))["updateSchedule"]["schedule"])

    perform(ctx, action)


def _clock(cron: str, zone: str, every: str) -> dict[str, Any]:
    return {
        **({"cron": {"expression": cron, "timeZone": zone}} if cron else {}),
        **({"interval": {"everySeconds": values.seconds(every, "--every")}} if every else {}),
    }


def _arrival(pattern: str, file_tags: list[str], made: bool, batch: str) -> dict[str, Any]:
    tags = {key: values.value(text) for key, text in values.pairs(file_tags, "--file-tag", "name=value")}
    gathers = {"batchSeconds": values.seconds(batch, "--batch")} if batch else {}
    kinds = {"kinds": ["OUTPUT"]} if made else {}
    return {"file": {"name": pattern, "tags": tags, **gathers, **kinds}}


async def _ended(client: Client, pipeline: str, states: list[End], outputs: bool) -> dict[str, Any]:
    wanted = {"states": [state.value for state in states]} if states else {}
    other = (await pipelines.get(client, pipeline))["id"]
    return {"after": {"pipeline": other, "outputs": outputs, **wanted}}


def _policy(
    catch_up: CatchUp | None, overlap: Overlap | None, jitter: str, description: str | None
) -> dict[str, Any]:
    return {
        **({} if description is None else {"description": description}),
        **({"catchUp": catch_up.value} if catch_up else {}),
        **({"overlap": overlap.value} if overlap else {}),
        **({"jitterSeconds": values.seconds(jitter, "--jitter")} if jitter else {}),
    }
