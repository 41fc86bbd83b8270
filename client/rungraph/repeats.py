"""`rungraph run retry` and `rungraph run rerun`: running again what has run, as it was or with changes."""

import uuid
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import files, values
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.requests import Settings, Tags
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
    set_: Settings = None,
    only: Annotated[bool, typer.Option("--only-set", help="Drop what the run was given otherwise.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="The pipeline as it is now.")] = False,
    file: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH_OR_ID", help="Instead of its inputs: a file here, or an id."),
    ] = None,
    tag: Tags = None,
    name: Annotated[str, typer.Option(help="What the run is called.")] = "",
    priority: Annotated[int | None, typer.Option(help="Higher ones start first.")] = None,
    key: Key = "",
    watch: Watch = False,
) -> None:
    """Start a run from what another was asked for, with changes."""
    given = values.arguments(set_ or [])
    wanted: dict[str, Any] = {
        "id": run,
        "revision": "LATEST" if latest else "ORIGINAL",
        "arguments": [{"step": step, "arguments": options} for step, options in given.items()],
        "replaceArguments": only,
        **({"tags": values.tags(tag)} if tag else {}),
        **({"name": name} if name else {}),
        **({"priority": priority} if priority is not None else {}),
    }
    _perform(ctx, RERUN, "rerunRun", wanted, key, watch, file)


def _perform(
    ctx: typer.Context,
    document: str,
    field: str,
    wanted: dict[str, Any],
    key: str,
    watch: bool,
    file: list[str] | None = None,
) -> None:
    async def action(client: Client, output: Output) -> int:
        keyed = {**wanted, "idempotencyKey": key or uuid.uuid4().hex}
        if file:
            keyed["files"] = await files.ids_of(client, output, file)
        run = (await client.execute(document, {"input": keyed}))[field]["run"]
        return await follow_run(client, output, run["id"]) if watch else show(output, run)

    perform(ctx, action)
