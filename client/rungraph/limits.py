"""`rungraph limit`: how much a project may have at once, and how much what has a tag may."""

from typing import Annotated, Any

import typer

from rungraph import values
from rungraph.api import Client
from rungraph.errors import ApiError, BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import size

app = typer.Typer(help="Limit what projects and tags may have at once.", no_args_is_help=True)

LIMIT = """
    id project { id name } backend { id name } tag { name value } jobs slots cpus memoryBytes gpus
    inUse { value jobs slots cpus memoryBytes gpus }
"""
LIMITS = f"""query Limits($first: Int, $after: String) {{
  limits(first: $first, after: $after) {{ nodes {{ {LIMIT} }} pageInfo {{ hasNextPage endCursor }} }}
}}"""
SET = f"""mutation SetLimit($input: SetLimitInput!) {{
  setLimit(input: $input) {{ limit {{ {LIMIT} }} errors {{ code message path retryable }} }}
}}"""
REMOVE = """mutation RemoveLimit($input: RemoveLimitInput!) {
  removeLimit(input: $input) { id errors { code message path retryable } }
}"""
BACKEND = "query BackendId($name: String!) { backend(name: $name) { id } }"

_BOUNDS = {"jobs": "jobs", "slots": "workers", "cpus": "CPUs", "memoryBytes": "", "gpus": "GPUs"}


@app.command("set")
def set_(
    ctx: typer.Context,
    jobs: Annotated[int | None, typer.Option(min=0, help="Jobs at once; 0 holds all of them.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Workers at once.")] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="Cores together.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory together: 64GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs together.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="Only jobs of runs with this tag: name=value, or name for each value by itself."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="ID", help="The default project when not given.")
    ] = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Those of all projects together.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="On one backend; on all together when not given.")
    ] = None,
) -> None:
    """Limit what may run at once, in the place of a limit of the same project, backend and tag."""

    async def action(client: Client, output: Output) -> None:
        most = None if memory is None else values.size(memory, "--memory")
        bounds = {"jobs": jobs, "slots": workers, "cpus": cpus, "memoryBytes": most, "gpus": gpus}
        wanted: dict[str, Any] = {name: value for name, value in bounds.items() if value is not None}
        if not wanted:
            raise BadUsage("give at least one of --jobs, --workers, --cpus, --memory, --gpus")
        wanted |= _tag(tag)
        if project is not None:
            wanted["project"] = project
        if all_projects:
            wanted["allProjects"] = True
        if backend is not None:
            found = (await client.execute(BACKEND, {"name": backend}))["backend"]
            if found is None:
                raise ApiError("NOT_FOUND", f"there is no backend “{backend}”: see `rungraph backend list`")
            wanted["backend"] = found["id"]
        limit = (await client.execute(SET, {"input": wanted}, repeatable=True))["setLimit"]["limit"]
        if output.as_json:
            output.document(limit)
        else:
            output.write(f"{limit['id']}: {_whose(limit)} may have {_stated(limit)} at once")

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List limits, and what is held of each."""

    async def action(client: Client, output: Output) -> None:
        found = [limit async for limit in walk(client, LIMITS, {}, ("limits",))]
        if output.as_json:
            output.document(found)
        else:
            output.table(("LIMIT", "OF", "AT ONCE", "IN USE"), map(_row, found))

    perform(ctx, action)


@app.command("remove")
def remove(
    ctx: typer.Context, limit: Annotated[str, typer.Argument(metavar="LIMIT", help="Its id.")]
) -> None:
    """Lift a limit."""

    async def action(client: Client, output: Output) -> None:
        answer = await client.execute(REMOVE, {"input": {"id": limit}})
        if output.as_json:
            output.document({"id": answer["removeLimit"]["id"]})
        else:
            output.write(f"{limit} removed")

    perform(ctx, action)


def _tag(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    name, equals, value = text.partition("=")
    return {"tag": {"name": name, **({"value": value} if equals else {})}}


def _whose(limit: dict[str, Any]) -> str:
    project, backend, tag = limit["project"], limit["backend"], limit["tag"]
    of = "all projects" if project is None else f"project {project['name']}"
    on = "" if backend is None else f" on {backend['name']}"
    if tag is None:
        return f"{of}{on}"
    value = "" if tag["value"] is None else f"={tag['value']}"
    return f"{of}, {'each value of ' if tag['value'] is None else ''}tag {tag['name']}{value}{on}"


def _stated(amounts: dict[str, Any], of: dict[str, Any] | None = None) -> str:
    """Amounts in words, of what `of` bounds."""
    bounded = amounts if of is None else of
    return ", ".join(
        size(amounts[name]) if name == "memoryBytes" else f"{amounts[name]:g} {word}"
        for name, word in _BOUNDS.items()
        if bounded[name] is not None
    )


def _row(limit: dict[str, Any]) -> tuple[str, ...]:
    tag = limit["tag"]
    each = tag is not None and tag["value"] is None
    used = "; ".join(
        f"{use['value']}: {_stated(use, limit)}" if each else _stated(use, limit) for use in limit["inUse"]
    )
    return limit["id"], _whose(limit), _stated(limit), used
