"""`rungraph file`: contents to the server and back, with a bar for each."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from rungraph import transfers, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import printable, size

app = typer.Typer(help="Upload and download files.", no_args_is_help=True)


FILES = """query Files($filter: FileFilter, $first: Int, $after: String) {
  files(filter: $filter, first: $first, after: $after) {
    nodes { id name kind state sizeBytes tags createdAt job { step } }
    pageInfo { hasNextPage endCursor }
  }
}"""


class Kind(StrEnum):
    """Whether a file was given or made, as --kind takes it."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


@app.command("list")
def list_(
    ctx: typer.Context,
    run: Annotated[str, typer.Option(metavar="RUN", help="Only what this run made.")] = "",
    kind: Annotated[Kind | None, typer.Option(case_sensitive=False, help="Given or made.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of a run's files; JSON or a word; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
) -> None:
    """List the newest files."""

    async def action(client: Client, output: Output) -> None:
        tags = {name: values.value(text) for name, text in values.pairs(tag or [], "--tag", "name=value")}
        chosen = {"run": run or None, "kind": kind and kind.value, "tags": tags or None}
        wanted = {"filter": {name: value for name, value in chosen.items() if value is not None}}
        found = [file async for file in walk(client, FILES, wanted, ("files",), limit)]
        if output.as_json:
            output.document(found)
            return
        rows = [
            (f["id"], f["name"], f["kind"], size(f["sizeBytes"]), f["job"]["step"] if f["job"] else "")
            for f in found
        ]
        output.table(("FILE", "NAME", "KIND", "SIZE", "STEP"), rows)

    perform(ctx, action)


@app.command("put")
def put_(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", exists=True, dir_okay=False, help="Files to upload.")
    ],
) -> None:
    """Upload files and print their ids."""

    async def action(client: Client, output: Output) -> None:
        for path in paths:
            if not path.is_file():
                raise BadUsage(f"{path}: it is no regular file, whose size is known before it is sent")
        files = [file async for file in _put_all(client, output, paths)]
        if output.as_json:
            output.document(files)

    perform(ctx, action)


@app.command("get")
def get_(
    ctx: typer.Context,
    file_id: Annotated[str, typer.Argument(metavar="ID", help="The file's id.")],
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where to; its own name by default.")
    ] = None,
) -> None:
    """Download a file; what arrived of an interrupted download is not fetched again."""

    async def action(client: Client, output: Output) -> None:
        file = await transfers.describe(client, file_id)
        target = _target(file, to)
        with _bar(output, target.name) as progress:
            await transfers.download(client, file, target, progress=progress)
        if output.as_json:
            output.document({**file, "path": str(target)})
        else:
            output.write(str(target))

    perform(ctx, action)


async def put(client: Client, output: Output, path: Path) -> dict[str, Any]:
    """Uploads one file under a bar; its `File`."""
    with _bar(output, path.name) as progress:
        return await transfers.upload(client, path, progress=progress)


async def ids_of(client: Client, output: Output, words: Sequence[str], flag: str = "--file") -> list[str]:
    """The ids that words stand for, each a path to upload or an id; raises BadUsage before any upload."""
    for word in words:
        if not Path(word).is_file() and not values.is_id("file", word):
            raise BadUsage(f"{flag} {word}: there is no such file here, and it is no file's id")
    return [(await put(client, output, Path(word)))["id"] if Path(word).is_file() else word for word in words]


async def _put_all(client: Client, output: Output, paths: Sequence[Path]) -> AsyncIterator[dict[str, Any]]:
    for path in paths:
        file = await put(client, output, path)
        if not output.as_json:
            output.table((), [(file["id"], file["name"], size(file["sizeBytes"]))])
        yield file


@contextmanager
def _bar(output: Output, name: str) -> Iterator[transfers.Progress]:
    """A progress bar on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=output.messages, transient=True, disable=not _seen(output)
    ) as bars:
        bar = bars.add_task(printable(name), total=None)

        def progress(done_bytes: int, total_bytes: int) -> None:
            bars.update(bar, completed=done_bytes, total=total_bytes)

        yield progress


def _seen(output: Output) -> bool:
    return output.messages.is_terminal


def _target(file: dict[str, Any], to: Path | None) -> Path:
    """Where a file goes; its name, which somebody else chose, never leads out of the folder."""
    name = Path(file["name"]).name or file["id"]
    if to is None:
        return Path(name)
    return to / name if to.is_dir() else to
