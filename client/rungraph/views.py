"""`rungraph view`: conditions, an order and columns of the list of runs, saved under a name."""

from typing import Annotated, Any

import typer

from rungraph import conditions, listing
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.listing import VIEWS, Columns, OfPipeline, Search, Sorted, States, Wheres
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.requests import Tags
from rungraph.wording import local_time

app = typer.Typer(help="Save and use views of the list of runs.", no_args_is_help=True)

FIELDS = "view { id name shared filter sort columns } errors { code message path retryable }"

CREATE = f"""mutation CreateView($input: CreateRunViewInput!) {{
  createRunView(input: $input) {{ {FIELDS} }}
}}"""

UPDATE = f"""mutation UpdateView($input: UpdateRunViewInput!) {{
  updateRunView(input: $input) {{ {FIELDS} }}
}}"""

DELETE = """mutation DeleteView($input: DeleteRunViewInput!) {
  deleteRunView(input: $input) { id errors { code message path retryable } }
}"""

Named = Annotated[str, typer.Argument(metavar="VIEW", help="The view's name or id.")]


@app.command("save")
def save_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    state: States = None,
    pipeline: OfPipeline = "",
    tag: Tags = None,
    where: Wheres = None,
    search: Search = "",
    sort: Sorted = "",
    column: Columns = None,
    shared: Annotated[bool, typer.Option("--shared", help="Everybody of the project sees it.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of the one so called.")] = False,
) -> None:
    """Save what `rungraph run list` would show with these options."""

    async def action(client: Client, output: Output) -> None:
        wanted: dict[str, Any] = {
            "name": name,
            "filter": await listing.filter_of(client, state, pipeline, tag, where, search),
            "sort": conditions.sort(sort),
            "columns": column or [],
            "shared": shared,
        }
        if replace:
            wanted["id"] = (await listing.view_of(client, name))["id"]
            answer = (await client.execute(UPDATE, {"input": wanted}))["updateRunView"]
        else:
            answer = (await client.execute(CREATE, {"input": wanted}))["createRunView"]
        view = answer["view"]
        if output.as_json:
            output.document(view)
        else:
            output.write(f"{view['id']} {view['name']}")

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List one's own views and the shared ones."""

    async def action(client: Client, output: Output) -> None:
        found = [view async for view in walk(client, VIEWS, {}, ("runViews",))]
        if output.as_json:
            output.document(found)
            return
        rows = (
            (view["id"], view["name"], "shared" if view["shared"] else "", local_time(view["updatedAt"]))
            for view in found
        )
        output.table(("VIEW", "NAME", "", "CHANGED"), rows)

    perform(ctx, action)


@app.command("delete")
def delete_(ctx: typer.Context, view: Named) -> None:
    """Delete a view."""

    async def action(client: Client, output: Output) -> None:
        found = await listing.view_of(client, view)
        answer = await client.execute(DELETE, {"input": {"id": found["id"]}})
        if output.as_json:
            output.document({"id": answer["deleteRunView"]["id"]})
        else:
            output.write(f"{found['id']} deleted")

    perform(ctx, action)
