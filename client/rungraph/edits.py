"""`rungraph run update` and `rungraph run delete`: what is written on runs, and their end."""

from typing import Annotated, Any

import typer

from rungraph import bulk, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.runs import RunId, RunIds

UPDATE = """mutation UpdateRun($input: UpdateRunInput!) {
  updateRun(input: $input) {
    run { id name notes archived edition state tags { name value } } errors { code message path retryable }
  }
}"""

DELETE = """mutation DeleteRuns($input: DeleteRunsInput!) {
  deleteRuns(input: $input) {
    results { id errors { code message path retryable } } errors { code message path retryable }
  }
}"""


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph run`."""
    app.command("update")(update_)
    app.command("delete")(delete_)


def update_(
    ctx: typer.Context,
    run: RunId,
    name: Annotated[str | None, typer.Option(help="What the run is called.")] = None,
    notes: Annotated[str | None, typer.Option(help="What there is to say about it.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Add or change; repeatable.")
    ] = None,
    untag: Annotated[
        list[str] | None, typer.Option("--untag", metavar="NAME", help="Take away; repeatable.")
    ] = None,
    archive: Annotated[
        bool | None, typer.Option("--archive/--unarchive", help="Whether lists leave it out.")
    ] = None,
    edition: Annotated[int | None, typer.Option(help="Only if nobody has edited it since.")] = None,
) -> None:
    """Change what is written on a run."""
    given = {"name": name, "notes": notes, "archived": archive, "edition": edition}
    wanted: dict[str, Any] = {"id": run, **{k: v for k, v in given.items() if v is not None}}
    if tag or untag:
        wanted["tags"] = {"set": values.tags(tag or []), "remove": untag or []}

    async def action(client: Client, output: Output) -> None:
        if not wanted.keys() - {"id", "edition"}:
            raise BadUsage("say what to change: --name, --notes, --tag, --untag, --archive or --unarchive")
        updated = (await client.execute(UPDATE, {"input": wanted}, repeatable=edition is None))["updateRun"][
            "run"
        ]
        if output.as_json:
            output.document(updated)
        else:
            output.write(f"{updated['id']} {updated['state']}")

    perform(ctx, action)


def delete_(ctx: typer.Context, run: RunIds) -> None:
    """Delete runs that have ended, with their metrics, logs and the files only they use."""
    perform(ctx, lambda client, output: bulk.each(client, output, DELETE, "deleteRuns", run))
