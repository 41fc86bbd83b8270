"""`rungraph run`: starting, watching and cancelling runs, and reading their logs.

Finding them again is in listing.py, what watching does in watching.py, how it looks in screens.py. Ctrl-C ends
the watching, never the run.
"""

import uuid
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import bulk, exits, forecasts, groups, logs, pipelines, requests, values
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.screens import screen_for
from rungraph.watching import watch

app = typer.Typer(help="Start, watch and cancel runs.", no_args_is_help=True)

FIELDS = """id name state priority createdAt startedAt endedAt durationSeconds seq pipeline { id name }
  fire { dueAt schedule { id name } }"""

START = f"""mutation StartRun($input: StartRunInput!) {{
  startRun(input: $input) {{ run {{ {FIELDS} }} errors {{ code message path retryable }} }}
}}"""

CANCEL = f"""mutation CancelRun($input: CancelRunInput!) {{
  cancelRun(input: $input) {{ run {{ {FIELDS} }} errors {{ code message path retryable }} }}
}}"""

CANCEL_ALL = """mutation CancelRuns($input: CancelRunsInput!) {
  cancelRuns(input: $input) {
    results { run { id state } errors { code message path retryable } } errors { code message path retryable }
  }
}"""


class Level(StrEnum):
    """How much a line matters, as --level takes it."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class Stream(StrEnum):
    """Where a line came from, as --stream takes it."""

    STDOUT = "STDOUT"
    STDERR = "STDERR"


class State(StrEnum):
    """The states of a run, as --state takes them."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class IfBusy(StrEnum):
    """What to do with a run that would have to wait."""

    QUEUE = "QUEUE"
    REJECT = "REJECT"


RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
RunIds = Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids.")]


@app.command("start")
@groups.spread
def start_(
    ctx: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="A pipeline's name or id.")],
    given: requests.Given,
    name: Annotated[str, typer.Option(help="What the run is called.")] = "",
    key: Annotated[str, typer.Option(help="The same key and input give the same run again.")] = "",
    watch_: Annotated[bool, typer.Option("--watch", help="Watch it to its end.")] = False,
    parent: Annotated[str, typer.Option(metavar="RUN", help="The run that it is a part of.")] = "",
    if_busy: Annotated[
        IfBusy, typer.Option(case_sensitive=False, help="What to do with a run that would have to wait.")
    ] = IfBusy.QUEUE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do; exits with 1 if it could not.")
    ] = False,
) -> None:
    """Start a run of a pipeline."""

    async def action(client: Client, output: Output) -> int:
        wanted: dict[str, Any] = {
            **given.plain(name),
            "pipeline": (await pipelines.get(client, pipeline))["id"],
            **await given.inputs(client, output),
            **({"parent": parent} if parent else {}),
            **({"ifBusy": "REJECT"} if if_busy is IfBusy.REJECT else {}),
        }
        if dry_run:
            return await forecasts.show(
                client, output, {**wanted, **({"idempotencyKey": key} if key else {})}
            )
        run = await start(client, wanted, key)
        return await follow_run(client, output, run["id"]) if watch_ else show(output, run)

    perform(ctx, action)


@app.command("watch")
def watch_(ctx: typer.Context, run: RunId) -> None:
    """Watch a run to its end; exits with 0 only if it SUCCEEDED."""
    perform(ctx, lambda client, output: follow_run(client, output, run))


@app.command("cancel")
def cancel_(
    ctx: typer.Context,
    run: RunIds,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="Between the request to stop and the kill: 30s, 5m.")
    ] = "10s",
    cascade: Annotated[bool, typer.Option("--cascade", help="Their children too, and theirs.")] = False,
) -> None:
    """Cancel runs; repeating it is harmless."""

    async def action(client: Client, output: Output) -> int:
        asked = {"graceSeconds": values.seconds(grace, "--grace"), "cascade": cascade}
        if len(run) > 1:
            return await bulk.each(client, output, CANCEL_ALL, "cancelRuns", run, **asked)
        answer = await client.execute(CANCEL, {"input": {"id": run[0], **asked}}, repeatable=True)
        return show(output, answer["cancelRun"]["run"])

    perform(ctx, action)


@app.command("logs")
def logs_(
    ctx: typer.Context,
    run: RunId,
    step: Annotated[str, typer.Option(help="Only this step's.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    last: Annotated[int | None, typer.Option(min=1, help="Begin at each step's last so many lines.")] = None,
    contains: Annotated[str | None, typer.Option(help="Only lines with this text.")] = None,
    grep: Annotated[str | None, typer.Option(help="Only lines with this regular expression (RE2).")] = None,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="For --contains and --grep.")
    ] = False,
    level: Annotated[
        Level | None, typer.Option(case_sensitive=False, help="Only lines that say this level or more.")
    ] = None,
    stream: Annotated[
        Stream | None, typer.Option(case_sensitive=False, help="Only lines of this stream.")
    ] = None,
    rank: Annotated[list[int] | None, typer.Option(min=0, help="Only these workers' lines.")] = None,
) -> None:
    """Print what a run's steps have written."""
    given = {"contains": contains, "matches": grep, "level": level, "stream": stream, "ranks": rank}
    only: logs.Filter = {name: value for name, value in given.items() if value is not None}
    if only and follow:
        raise typer.BadParameter("lines are chosen among those that are there: leave out --follow")
    only |= {"ignoreCase": True} if ignore_case and only else {}
    if follow:
        perform(ctx, lambda client, output: logs.follow(client, output, run, step, last))
    else:
        perform(ctx, lambda client, output: logs.show(client, output, run, step, last, only or None))


async def start(client: Client, wanted: dict[str, Any], key: str = "") -> dict[str, Any]:
    """Starts a run, with a key of its own if none is given, so that a lost answer may be asked for again."""
    keyed = {**wanted, "idempotencyKey": key or uuid.uuid4().hex}
    run: dict[str, Any] = (await client.execute(START, {"input": keyed}))["startRun"]["run"]
    return run


async def follow_run(client: Client, output: Output, run_id: str) -> int:
    """Shows a run to its end; the exit code that tells how it ended."""
    output.farewell = f"the run goes on: rungraph run watch {run_id}"
    run = await watch(client, run_id, screen_for(output))
    return exits.OK if run["state"] == "SUCCEEDED" else exits.FAILED


def show(output: Output, run: dict[str, Any]) -> int:
    """Tells of one run."""
    if output.as_json:
        output.document(run)
    else:
        output.write(f"{run['id']} {run['state']}")
    return exits.OK
