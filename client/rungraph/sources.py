"""`rungraph source`: places outside, by URL, and fetching what lies there into files.

A fetch is work of the server's; `fetch` follows it until it has ended. Ctrl-C ends the following, never the
fetch: `cancel` does.
"""

from typing import Annotated, Any

import typer

from rungraph import exits, values
from rungraph.api import Client
from rungraph.backoff import pause
from rungraph.errors import ApiError, Unreachable
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time, printable, size

app = typer.Typer(help="Make data outside known, and fetch it.", no_args_is_help=True)

SOURCE_FIELDS = "id name url secret description createdAt deletedAt"
FETCH_FIELDS = "id state message url doneBytes totalBytes file { id name sizeBytes sha256 }"
ERRORS = "errors { code message path retryable }"

CREATE = f"""mutation CreateDataSource($input: CreateDataSourceInput!) {{
  createDataSource(input: $input) {{ source {{ {SOURCE_FIELDS} }} {ERRORS} }}
}}"""

UPDATE = f"""mutation UpdateDataSource($input: UpdateDataSourceInput!) {{
  updateDataSource(input: $input) {{ source {{ {SOURCE_FIELDS} }} {ERRORS} }}
}}"""

DELETE = f"""mutation DeleteDataSource($input: DeleteDataSourceInput!) {{
  deleteDataSource(input: $input) {{ source {{ {SOURCE_FIELDS} }} {ERRORS} }}
}}"""

FETCH = f"""mutation FetchDataSource($input: FetchDataSourceInput!) {{
  fetchDataSource(input: $input) {{ fetch {{ {FETCH_FIELDS} }} {ERRORS} }}
}}"""

FOLLOW = f"""subscription DataFetch($id: ID!) {{ dataFetch(id: $id) {{ {FETCH_FIELDS} }} }}"""

CANCEL = f"""mutation CancelDataFetch($input: CancelDataFetchInput!) {{
  cancelDataFetch(input: $input) {{ fetch {{ {FETCH_FIELDS} }} {ERRORS} }}
}}"""

SOURCE = f"""query DataSource($id: ID, $name: String) {{
  dataSource(id: $id, name: $name) {{ {SOURCE_FIELDS} }}
}}"""

SOURCES = f"""query DataSources($first: Int, $after: String) {{
  dataSources(first: $first, after: $after) {{
    nodes {{ {SOURCE_FIELDS} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""

Name = Annotated[str, typer.Argument(metavar="SOURCE", help="The source's name or id.")]
Url = Annotated[str, typer.Argument(help="file, http, https, s3, gs or hdfs; without credentials.")]
Secret = Annotated[str | None, typer.Option(help="The name of the secret that opens it.")]


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Unique in the project.")],
    url: Url,
    secret: Secret = None,
    description: Annotated[str, typer.Option(help="What is there.")] = "",
) -> None:
    """Make a place outside known."""

    async def action(client: Client, output: Output) -> None:
        wanted = {"name": name, "url": url, "secret": secret, "description": description}
        _show(output, (await client.execute(CREATE, {"input": wanted}))["createDataSource"]["source"])

    perform(ctx, action)


@app.command("update")
def update(
    ctx: typer.Context,
    source: Name,
    url: Annotated[str | None, typer.Option(help="Kept when not given.")] = None,
    secret: Annotated[str | None, typer.Option(help="Kept when not given; none when empty.")] = None,
    description: Annotated[str | None, typer.Option(help="Kept when not given.")] = None,
) -> None:
    """Change a source; what was fetched or started keeps what it had."""

    async def action(client: Client, output: Output) -> None:
        given = {"url": url, "secret": secret, "description": description}
        wanted = {"id": (await get(client, source))["id"], **given}
        answer = await client.execute(UPDATE, {"input": wanted}, repeatable=True)
        _show(output, answer["updateDataSource"]["source"])

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the sources."""

    async def action(client: Client, output: Output) -> None:
        found = [source async for source in walk(client, SOURCES, {}, ("dataSources",))]
        if output.as_json:
            output.document(found)
        else:
            output.table(("SOURCE", "URL", "SECRET", "CREATED", "ID"), map(_row, found))

    perform(ctx, action)


@app.command("fetch")
def fetch(
    ctx: typer.Context,
    source: Name,
    name: Annotated[str | None, typer.Option(help="The file's name; else the URL's last part.")] = None,
    limit_bytes: Annotated[int | None, typer.Option(min=1, help="Refuse more bytes than this.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
) -> None:
    """Fetch what lies there into a file, and print the file's id."""

    async def action(client: Client, output: Output) -> int:
        wanted = {"id": (await get(client, source))["id"], "name": name, "limitBytes": limit_bytes}
        # Asking again while it is under way gives the one that is.
        answer = await client.execute(FETCH, {"input": wanted}, repeatable=True)
        found = answer["fetchDataSource"]["fetch"]
        output.farewell = f"the fetch goes on: rungraph source cancel {found['id']} ends it"
        return _ended(output, await _follow(client, found) if wait else found)

    perform(ctx, action)


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    fetch: Annotated[str, typer.Argument(metavar="FETCH", help="The fetch's id.")],
) -> None:
    """End a fetch without a file; one that has ended stays as it is."""

    async def action(client: Client, output: Output) -> None:
        answer = await client.execute(CANCEL, {"input": {"id": fetch}}, repeatable=True)
        _ended(output, answer["cancelDataFetch"]["fetch"])

    perform(ctx, action)


@app.command("delete")
def delete(ctx: typer.Context, source: Name) -> None:
    """Take a source out of use."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, source)
        answer = await client.execute(DELETE, {"input": {"id": found["id"]}})
        if output.as_json:
            output.document(answer["deleteDataSource"]["source"])
        else:
            output.write(f"{found['id']} deleted")

    perform(ctx, action)


async def _follow(client: Client, fetch: dict[str, Any]) -> dict[str, Any]:
    """The fetch as it has ended, through lost connections."""
    delays = client.for_feeds.delays()
    while fetch["state"] == "FETCHING":
        try:
            async for answer in client.subscribe(FOLLOW, {"id": fetch["id"]}):
                fetch, delays = answer["dataFetch"], client.for_feeds.delays()
        except Unreachable as error:
            await pause(delays, error)
    return fetch


async def get(client: Client, word: str) -> dict[str, Any]:
    """The source of a name or id; raises ApiError NOT_FOUND."""
    by = "id" if values.is_id("data_source", word) else "name"
    found: dict[str, Any] | None = (await client.execute(SOURCE, {by: word}))["dataSource"]
    if found is None:
        raise ApiError("NOT_FOUND", f"there is no data source “{word}”: see `rungraph source list`")
    return found


def _ended(output: Output, found: dict[str, Any]) -> int:
    if output.as_json:
        output.document(found)
    elif found["file"]:
        file = found["file"]
        output.table((), [(file["id"], file["name"], size(file["sizeBytes"]))])
    else:
        why = f": {printable(found['message'])}" if found["message"] else ""
        output.write(f"{found['id']} {found['state']}{why}")
    return exits.FAILED if found["state"] in ("FAILED", "CANCELLED") else exits.OK


def _show(output: Output, source: dict[str, Any]) -> None:
    if output.as_json:
        output.document(source)
    else:
        output.write(f"{source['id']} {printable(source['name'])}")


def _row(source: dict[str, Any]) -> tuple[str, ...]:
    created = local_time(source["createdAt"])
    return source["name"], source["url"], source["secret"] or "", created, source["id"]
