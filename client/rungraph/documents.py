"""`rungraph pipeline export|import|clone|delete`: whole pipelines.

The YAML is read and written by the server, so that it means the same from everywhere.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rungraph import pipelines
from rungraph.api import Client
from rungraph.errors import ApiError, BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk

PIPELINE = "pipeline { id name description createdAt deletedAt revision { number } }"
ERRORS = "errors { code message path retryable }"

EXPORT = """query ExportPipeline($id: ID!, $first: Int, $after: String) {
  pipeline(id: $id) {
    revisions(first: $first, after: $after) {
      nodes { id number yaml }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""

IMPORT = f"""mutation ImportPipeline($input: ImportPipelineInput!) {{
  importPipeline(input: $input) {{ {PIPELINE} {ERRORS} }}
}}"""

CLONE = f"""mutation ClonePipeline($input: ClonePipelineInput!) {{
  clonePipeline(input: $input) {{ {PIPELINE} {ERRORS} }}
}}"""

DELETE = f"""mutation DeletePipeline($input: DeletePipelineInput!) {{
  deletePipeline(input: $input) {{ {PIPELINE} {ERRORS} }}
}}"""

_A_PAGE = 20
"""Revisions at once: the text of each may have a mebibyte."""

Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's name or id.")]
Revision = Annotated[int | None, typer.Option(min=1, help="The number of a revision; else the latest.")]


def add_to(app: typer.Typer) -> None:
    """Add these to the verbs of `rungraph pipeline`."""
    app.command("export")(export_)
    app.command("import")(import_)
    app.command("clone")(clone_)
    app.command("delete")(delete_)


def export_(
    ctx: typer.Context,
    pipeline: Name,
    revision: Revision = None,
    output_: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", dir_okay=False, help="Where to; else it is printed."),
    ] = None,
) -> None:
    """Write a pipeline as YAML."""

    async def action(client: Client, output: Output) -> None:
        found = await pipelines.get(client, pipeline)
        text: str = (await _revision(client, found["id"], revision))["yaml"]
        if output_ is not None:
            output_.write_text(text, encoding="utf-8")
            output.say(f"{found['name']} is in {output_}")
        elif output.as_json:
            output.document({"id": found["id"], "name": found["name"], "yaml": text})
        else:
            output.write(text.rstrip("\n"))

    perform(ctx, action)


def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML as export writes it; - is standard input.")
    ],
    name: Annotated[str | None, typer.Option(help="In place of the one in the file.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make a new revision where the name is taken.")
    ] = False,
) -> None:
    """Make a pipeline of its YAML; mistakes are told with their lines."""

    async def action(client: Client, output: Output) -> None:
        wanted = {"yaml": _text(file), "name": name, "replace": replace}
        answer = await client.execute(IMPORT, {"input": wanted})
        _show(output, answer["importPipeline"]["pipeline"])

    perform(ctx, action)


def clone_(
    ctx: typer.Context,
    pipeline: Name,
    name: Annotated[str, typer.Argument(help="What the copy is called.")],
    revision: Revision = None,
) -> None:
    """Make a pipeline with the steps of another; of a deleted one by its id."""

    async def action(client: Client, output: Output) -> None:
        found = await pipelines.get(client, pipeline)
        wanted = {"id": found["id"], "name": name}
        if revision is not None:
            wanted["revision"] = (await _revision(client, found["id"], revision))["id"]
        answer = await client.execute(CLONE, {"input": wanted})
        _show(output, answer["clonePipeline"]["pipeline"])

    perform(ctx, action)


def delete_(ctx: typer.Context, pipeline: Name) -> None:
    """Delete a pipeline: its name is free, its runs stay; refused while one is going on or a schedule uses it."""

    async def action(client: Client, output: Output) -> None:
        found = await pipelines.get(client, pipeline)
        answer = await client.execute(DELETE, {"input": {"id": found["id"]}})
        gone = answer["deletePipeline"]["pipeline"]
        output.document(gone) if output.as_json else output.write(f"{gone['id']} deleted")

    perform(ctx, action)


async def _revision(client: Client, pipeline_id: str, number: int | None) -> dict[str, Any]:
    """A revision of a pipeline by its number, the latest without one; raises ApiError NOT_FOUND."""
    revisions = walk(
        client,
        EXPORT,
        {"id": pipeline_id},
        ("pipeline", "revisions"),
        limit=1 if number is None else None,
        most=_A_PAGE,
    )
    async for revision in revisions:
        if number in (None, revision["number"]):
            return revision
    raise ApiError("NOT_FOUND", f"there is no revision {number}")


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadUsage(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadUsage(f"{file}: {error}") from error


def _show(output: Output, pipeline: dict[str, Any]) -> None:
    if output.as_json:
        output.document(pipeline)
    else:
        output.write(f"{pipeline['id']} {pipeline['name']}")
