"""`rungraph run export` and `rungraph run archive`: metrics as a table, a run as a whole, into a file or a pipe."""

import asyncio
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import httpx
import typer

from rungraph.api import Client
from rungraph.errors import BadUsage, Unreachable
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.replies import failure

_READ = httpx.Timeout(300, connect=5)
"""The server may search for a while before the next bytes come."""

To = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write; `-` for standard output.")
]


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"
    PARQUET = "parquet"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `rungraph run`."""
    app.command("export")(export_)
    app.command("archive")(archive_)


def export_(
    ctx: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids.")],
    format: Annotated[
        Format | None, typer.Option(case_sensitive=False, help="By the file's ending if not given; else CSV.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Only these metrics.")] = None,
    every_attempt: Annotated[
        bool, typer.Option("--every-attempt", help="Not only each job's latest.")
    ] = False,
    to: To = None,
) -> None:
    """Write all points of runs' metrics as a table: run, job, attempt, rank, metric, step, time, value."""
    kind = _kind(format, to)
    target = to or Path(f"{runs[0] if len(runs) == 1 else 'runs'}-metrics.{kind.value}")
    query: list[tuple[str, str]] = [("run", run) for run in runs]
    query += [("name", each) for each in name or ()]
    query += [("attempt", "all")] if every_attempt else []
    perform(ctx, lambda client, output: _fetch(client, output, f"/metrics.{kind.value}", query, target))


def archive_(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    to: To = None,
) -> None:
    """Write everything of a run into a zip file: what it was, its metrics, logs, inputs and outputs."""
    target = to or Path(f"{run}.zip")
    perform(ctx, lambda client, output: _fetch(client, output, f"/runs/{run}/archive.zip", (), target))


def _kind(given: Format | None, to: Path | None) -> Format:
    """The format that is given or else the file's ending names, which say the same where both say one; else CSV."""
    ending = "" if to is None else to.suffix.lower().removeprefix(".")
    named = next((each for each in Format if each.value == ending), None)
    if given is not None and named not in (None, given):
        message = f"{to} ends as a {named} table does, and --format says {given}: leave out one of them"
        raise typer.BadParameter(message, param_hint="--output")
    if given is None and named is None and ending:
        known = ", ".join(f".{each}" for each in Format)
        message = f"{to}: tables end {known}; give --format for a file of another name"
        raise typer.BadParameter(message, param_hint="--output")
    return given or named or Format.CSV


async def _fetch(
    client: Client, output: Output, path: str, query: Sequence[tuple[str, str]], target: Path
) -> None:
    if str(target) == "-":
        await _copy(client, path, query, sys.stdout.buffer)
        return
    if not target.parent.is_dir():
        raise BadUsage(f"--output {target}: there is no folder {target.parent}")
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as sink:
            size = await _copy(client, path, query, sink)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    if output.as_json:
        output.document({"path": str(target), "sizeBytes": size})
    else:
        output.write(str(target))


async def _copy(client: Client, path: str, query: Sequence[tuple[str, str]], sink: BinaryIO) -> int:
    """Write an answer as it comes; what ends before its end raises Unreachable."""
    size = 0
    try:
        async with client.http.stream("GET", path, params=list(query), timeout=_READ) as response:
            if not response.is_success:
                await response.aread()
                raise failure(response)
            async for piece in response.aiter_bytes():
                size += await asyncio.to_thread(sink.write, piece)
    except httpx.TransportError as error:
        raise Unreachable.lost(client.url, error) from error
    return size
