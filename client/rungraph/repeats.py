"""`rungraph run retry` and `rungraph run rerun`: running again what has run, as it was or with changes."""

import uuid
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import requests
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.runs import FIELDS, RunId, follow_run, show

RETRY = f"""mutation RetryRun($input: RetryRunInput!) {{
  retryRun(input: $input) {{ run {{ {FIELDS} }} errors {{ code message path retryable }} }}
}}"""

RERUN = f"""mutation RerunRun($input: RerunRunInput!) {{
  rerunRun(input: $input) {{ run {{ {FIELDS} }} errors {{ code message path retryable }} }}
}}"""


class From(StrEnum):
    """Where a retry begins, as --from takes it."""

    FAILURE = "FAILURE"
    START = "START"


Key = Annotated[str, typer.Option(help="The same key and input give the same run again.")]
Watch = Annotated[bool, typer.Option("--watch", help="Watch it to its end.")]


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph run`."""
    app.command("retry")(retry_)
    app.command("rerun")(rerun_)


def retry_(
    ctx: typer.Context,
    run: RunId,
    from_: Annotated[
        From, typer.Option("--from", case_sensitive=False, help="Keep what succeeded, or begin anew.")
    ] = From.FAILURE,
    key: Key = "",
    watch: Watch = False,
) -> None:
    """Run an ended run again, exactly as it was."""
    _perform(ctx, RETRY, "retryRun", {"id": run, "from": from_.value}, key, watch)


def rerun_(
    ctx: typer.Context,
    run: RunId,
    set_: requests.Settings = None,
    only: Annotated[bool, typer.Option("--only-set", help="Drop what the run was given otherwise.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="The pipeline as it is now.")] = False,
    ask: requests.Ask = None,
    retry: requests.Retry = None,
    file: requests.Inputs = None,
    dataset: requests.Datasets = None,
    source: requests.Sources = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help="Where it runs; else where that ran.")] = "",
    tag: requests.Tags = None,
    name: Annotated[str, typer.Option(help="What the run is called.")] = "",
    priority: Annotated[int | None, typer.Option(help="Higher ones start first; else as that did.")] = None,
    no_cache: requests.NoCache = False,
    key: Key = "",
    watch: Watch = False,
) -> None:
    """Start a run from what another was asked for; what is given takes the place of what it had."""
    given = requests.Given(set_, ask, retry, file, dataset, source, backend, tag, priority, no_cache=no_cache)
    wanted: dict[str, Any] = {
        "id": run,
        "revision": "LATEST" if latest else "ORIGINAL",
        "replaceArguments": only,
        **given.plain(name),
    }
    _perform(ctx, RERUN, "rerunRun", wanted, key, watch, given)


def _perform(
    ctx: typer.Context,
    document: str,
    field: str,
    wanted: dict[str, Any],
    key: str,
    watch: bool,
    given: requests.Given | None = None,
) -> None:
    async def action(client: Client, output: Output) -> int:
        inputs = await given.inputs(client, output) if given else {}
        keyed = {**wanted, **inputs, "idempotencyKey": key or uuid.uuid4().hex}
        run = (await client.execute(document, {"input": keyed}))[field]["run"]
        return await follow_run(client, output, run["id"]) if watch else show(output, run)

    perform(ctx, action)
