"""`rungraph pipeline`: putting functions in order and listing what there is.

Steps are named by --step; --set and --needs add to them. A pipeline written down in a file is `import`ed
(documents.py): the server reads it, so that it means the same from everywhere.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rungraph import values
from rungraph.api import Client
from rungraph.errors import ApiError, BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time

app = typer.Typer(help="Create and list pipelines.", no_args_is_help=True)

FIND = """query Pipeline($id: ID, $name: String) {
  pipeline(id: $id, name: $name) {
    id name description createdAt
    revision { number steps { name address arguments needs } }
  }
}"""

CREATE = """mutation CreatePipeline($input: CreatePipelineInput!) {
  createPipeline(input: $input) {
    pipeline { id name description createdAt revision { number steps { name address arguments needs } } }
    errors { code message path retryable }
  }
}"""

PIPELINES = """query Pipelines($first: Int, $after: String) {
  pipelines(first: $first, after: $after) {
    nodes { id name description createdAt revision { number steps { name address } } }
    pageInfo { hasNextPage endCursor }
  }
}"""

Step = dict[str, Any]


@app.command("create")
def create_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the pipeline is called.")],
    step: Annotated[
        list[str] | None, typer.Option(metavar="NAME=MODULE/FUNCTION", help="A step; in order.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STEP.OPTION=VALUE", help="An argument of a step.")
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP=STEP,…", help="What a step needs; the step above by default."),
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Create a pipeline from steps; from a file: `rungraph pipeline import`."""

    async def action(client: Client, output: Output) -> None:
        steps = _steps(step or [])
        _fill(steps, set_ or [], needs or [])
        _show(output, await create(client, name, steps, description))

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the pipelines with their steps."""
    perform(ctx, _list)


async def create(client: Client, name: str, steps: Sequence[Step], description: str = "") -> dict[str, Any]:
    """Creates a pipeline; raises Refused when it does not fit its functions."""
    wanted = {"name": name, "description": description, "steps": list(steps)}
    pipeline: dict[str, Any] = (await client.execute(CREATE, {"input": wanted}))["createPipeline"]["pipeline"]
    return pipeline


async def find(client: Client, word: str, query: str = FIND) -> dict[str, Any] | None:
    """The pipeline of an id or a name, if there is one, with what this query asks for."""
    variables = {"id" if values.is_id("pipeline", word) else "name": word}
    pipeline: dict[str, Any] | None = (await client.execute(query, variables))["pipeline"]
    return pipeline


async def get(client: Client, word: str, query: str = FIND) -> dict[str, Any]:
    """The pipeline of an id or a name; raises ApiError NOT_FOUND."""
    if pipeline := await find(client, word, query):
        return pipeline
    raise ApiError("NOT_FOUND", f"there is no pipeline “{word}”: see `rungraph pipeline list`")


def _steps(settings: Sequence[str]) -> list[Step]:
    shape = "name=module/function"
    return [{"name": name, "function": address} for name, address in values.pairs(settings, "--step", shape)]


def _fill(steps: Sequence[Step], settings: Sequence[str], needs: Sequence[str]) -> None:
    """Adds arguments and needs to the steps they name."""
    by_name = {step["name"]: step for step in steps}
    for name, options in values.arguments(settings).items():
        step = _named(by_name, name, "--set")
        step["arguments"] = {**(step.get("arguments") or {}), **options}
    for name, needed in values.pairs(needs, "--needs", "step=step,…"):
        _named(by_name, name, "--needs")["needs"] = [word for word in needed.split(",") if word]


def _named(steps: dict[str, Step], name: str, flag: str) -> Step:
    if name not in steps:
        raise BadUsage(f"{flag}: there is no step “{name}”; there are: {', '.join(steps) or 'none'}")
    return steps[name]


def _show(output: Output, pipeline: dict[str, Any]) -> None:
    if output.as_json:
        output.document(pipeline)
    else:
        output.write(f"{pipeline['id']} {pipeline['name']}")


async def _list(client: Client, output: Output) -> None:
    pipelines = [pipeline async for pipeline in walk(client, PIPELINES, {}, ("pipelines",))]
    if output.as_json:
        output.document(pipelines)
    else:
        output.table(("PIPELINE", "REVISION", "STEPS", "CREATED", "ID"), map(_row, pipelines))


def _row(pipeline: dict[str, Any]) -> tuple[str, ...]:
    revision = pipeline["revision"]
    steps = ", ".join(f"{step['name']}={step['address']}" for step in revision["steps"])
    return pipeline["name"], str(revision["number"]), steps, local_time(pipeline["createdAt"]), pipeline["id"]
