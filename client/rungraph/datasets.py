"""`rungraph dataset`: named groups of files in parts, in versions.

A version is described by the server after it was added; `create`, `add` and `show` wait for that a while, by
asking again, for a description has no feed.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rungraph import exits, files, values
from rungraph.api import Client
from rungraph.errors import ApiError, BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time, number, printable, size

app = typer.Typer(help="Group files into versioned datasets.", no_args_is_help=True)

WAIT_SECONDS, ASK_AGAIN_SECONDS = 60.0, 0.2

VERSION = """id number digest state message fileCount sizeBytes rows createdAt
  columns { name type nulls min max } parts { name fileCount sizeBytes rows }"""
ABOUT = "id name description tags createdAt deletedAt"
ERRORS = "errors { code message path retryable }"

CREATE = f"""mutation CreateDataset($input: CreateDatasetInput!) {{
  createDataset(input: $input) {{ dataset {{ {ABOUT} version {{ {VERSION} }} }} {ERRORS} }}
}}"""

ADD = f"""mutation AddDatasetVersion($input: AddDatasetVersionInput!) {{
  addDatasetVersion(input: $input) {{ version {{ {VERSION} }} {ERRORS} }}
}}"""

DELETE = f"""mutation DeleteDataset($input: DeleteDatasetInput!) {{
  deleteDataset(input: $input) {{ dataset {{ {ABOUT} }} {ERRORS} }}
}}"""

DATASET = f"""query Dataset($id: ID, $name: String, $number: Int) {{
  dataset(id: $id, name: $name) {{ {ABOUT} version(number: $number) {{ {VERSION} }} }}
}}"""

DATASETS = f"""query Datasets($first: Int, $after: String) {{
  datasets(first: $first, after: $after) {{
    nodes {{ {ABOUT} version {{ id number state rows fileCount sizeBytes }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""

Part = Annotated[
    list[str],
    typer.Option("--part", metavar="PART=PATH_OR_ID", help="A file here, or its id; repeatable."),
]
Name = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name or id.")]
Wait = Annotated[bool, typer.Option(help="Wait until the version is described.")]


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Unique in the project.")],
    part: Part = [],  # noqa: B006 - typer makes a new list for every invocation
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Repeatable.")] = None,
    wait: Wait = True,
) -> None:
    """Make a dataset, with its first version if files are given."""

    async def action(client: Client, output: Output) -> int:
        tags = {key: values.value(text) for key, text in values.pairs(tag or [], "--tag", "name=value")}
        wanted: dict[str, Any] = {"name": name, "description": description, "tags": tags}
        if part:
            wanted["parts"] = await _parts(client, output, part)
        made = (await client.execute(CREATE, {"input": wanted}))["createDataset"]["dataset"]
        return await _show(client, output, made, wait)

    perform(ctx, action)


@app.command("add")
def add(ctx: typer.Context, dataset: Name, part: Part, wait: Wait = True) -> None:
    """Add a version of these files; equal content is the version there is."""

    async def action(client: Client, output: Output) -> int:
        found = await get(client, dataset)
        wanted = {"dataset": found["id"], "parts": await _parts(client, output, part)}
        added = await client.execute(ADD, {"input": wanted}, repeatable=True)
        return await _show(client, output, {**found, "version": added["addDatasetVersion"]["version"]}, wait)

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the datasets with their latest versions."""

    async def action(client: Client, output: Output) -> None:
        found = [dataset async for dataset in walk(client, DATASETS, {}, ("datasets",))]
        if output.as_json:
            output.document(found)
        else:
            output.table(("DATASET", "VERSION", "FILES", "SIZE", "ROWS", "CREATED", "ID"), map(_row, found))

    perform(ctx, action)


@app.command("show")
def show(
    ctx: typer.Context,
    dataset: Name,
    version: Annotated[int | None, typer.Option(min=1, help="The latest by default.")] = None,
    wait: Wait = True,
) -> None:
    """Show a version: its parts and the columns of its tables."""

    async def action(client: Client, output: Output) -> int:
        return await _show(client, output, await get(client, dataset, version), wait)

    perform(ctx, action)


@app.command("delete")
def delete(ctx: typer.Context, dataset: Name) -> None:
    """Take a dataset out of use; runs keep the versions they were given."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, dataset)
        answer = await client.execute(DELETE, {"input": {"id": found["id"]}})
        if output.as_json:
            output.document(answer["deleteDataset"]["dataset"])
        else:
            output.write(f"{found['id']} deleted")

    perform(ctx, action)


async def get(client: Client, word: str, version: int | None = None) -> dict[str, Any]:
    """The dataset of a name or id with one version, the latest by default; raises ApiError NOT_FOUND."""
    by = "id" if values.is_id("dataset", word) else "name"
    found: dict[str, Any] | None = (await client.execute(DATASET, {by: word, "number": version}))["dataset"]
    if found is None:
        raise ApiError("NOT_FOUND", f"there is no dataset “{word}”: see `rungraph dataset list`")
    if version is not None and found["version"] is None:
        raise ApiError("NOT_FOUND", f"“{word}” has no version {version}")
    return found


async def uses(client: Client, words: Sequence[str]) -> list[dict[str, Any]]:
    """What `--dataset NAME[@VERSION][:PART,…]` means as input of a run."""
    return [await _use(client, word) for word in words]


async def _use(client: Client, word: str) -> dict[str, Any]:
    name, _, listed = word.partition(":")
    parts = [part for part in listed.split(",") if part]
    pinned = re.fullmatch(r"(.+)@([0-9]+)", name)
    if pinned is None:
        return {"dataset": (await get(client, name))["id"], "parts": parts}
    found = await get(client, pinned[1], int(pinned[2]))
    return {"version": found["version"]["id"], "parts": parts}


async def _parts(client: Client, output: Output, words: Sequence[str]) -> list[dict[str, Any]]:
    """Parts with the ids of their files, in the order they are first named; uploads what is a path."""
    split = values.pairs(words, "--part", "part=path")
    if not split:
        raise BadUsage("--part: give at least one file, as part=path")
    ids = await files.ids_of(client, output, [word for _, word in split], "--part")
    parts: dict[str, list[str]] = {}
    for (part, _), file_id in zip(split, ids, strict=True):
        parts.setdefault(part, []).append(file_id)
    return [{"name": name, "files": given} for name, given in parts.items()]


async def _show(client: Client, output: Output, dataset: dict[str, Any], wait: bool) -> int:
    version = dataset["version"]
    deadline = asyncio.get_running_loop().time() + (WAIT_SECONDS if wait else 0)
    while version and version["state"] == "PROFILING" and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(ASK_AGAIN_SECONDS)
        version = (await get(client, dataset["id"], version["number"]))["version"]
    if output.as_json:
        output.document({**dataset, "version": version})
    else:
        _write(output, {**dataset, "version": version})
    return exits.FAILED if version and version["state"] == "FAILED" else exits.OK


def _write(output: Output, dataset: dict[str, Any]) -> None:
    version = dataset["version"]
    if version is None:
        output.write(f"{printable(dataset['name'])} has no version yet  {dataset['id']}")
        return
    why = f": {printable(version['message'])}" if version["message"] else ""
    output.write(f"{printable(dataset['name'])} version {version['number']} {version['state']}{why}")
    output.write(f"{version['id']}  {version['digest'][:16]}")
    output.table(
        ("PART", "FILES", "SIZE", "ROWS"), [_counts(part["name"], part) for part in version["parts"]]
    )
    columns = version["columns"] or []
    output.table(("COLUMN", "TYPE", "NULLS", "MIN", "MAX"), map(_column, columns))


def _counts(name: str, of: dict[str, Any]) -> tuple[str, ...]:
    rows = "" if of["rows"] is None else str(of["rows"])
    return name, str(of["fileCount"]), size(of["sizeBytes"]), rows


def _column(column: dict[str, Any]) -> tuple[str, ...]:
    nulls = "" if column["nulls"] is None else str(column["nulls"])
    bounds = ["" if column[key] is None else number(column[key]) for key in ("min", "max")]
    return column["name"], column["type"], nulls, *bounds


def _row(dataset: dict[str, Any]) -> tuple[str, ...]:
    version = dataset["version"]
    counts = ("none", "", "", "") if version is None else _counts(str(version["number"]), version)
    return dataset["name"], *counts, local_time(dataset["createdAt"]), dataset["id"]
