"""`rungraph run list`, `rungraph run compare`: finding runs again, and laying them side by side.

How conditions are written is in conditions.py; views.py saves them.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rungraph import conditions, pipelines, values
from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.requests import Tags
from rungraph.runs import FIELDS, State
from rungraph.wording import duration, local_time

_RUNS = """Runs($filter: RunFilter, $sort: RunSort, $view: ID, $first: Int, $after: String) {
  runs(filter: $filter, sort: $sort, view: $view, first: $first, after: $after) {
    nodes {"""
_PAGE = "} pageInfo { hasNextPage endCursor } } }"
_JOB = "step state reusedFrom { id step run { id } }"

RUNS = f"query {_RUNS} {FIELDS} tags {{ name value }} {_PAGE}"

RUNS_WITH_JOBS = f"query {_RUNS} {FIELDS} tags {{ name value }} jobs {{ {_JOB} }} {_PAGE}"

RUNS_WITH_COLUMNS = f"""query {_RUNS}
  {FIELDS} tags {{ name value }} metrics {{ name last min max }} jobs {{ {_JOB} arguments }} {_PAGE}"""

COMPARE = """query Compare($ids: [ID!]!, $baseline: ID, $differing: Boolean) {
  compareRuns(ids: $ids, baseline: $baseline) {
    runs { id name state }
    baseline { id }
    arguments(differing: $differing) { step name differs values }
    functions(differing: $differing) { step differs versions }
    tags(differing: $differing) { name differs values }
    metrics {
      name
      last { values deltas relative } min { values deltas relative } max { values deltas relative }
    }
  }
}"""

VIEWS = """query Views($first: Int, $after: String) {
  runViews(first: $first, after: $after) {
    nodes { id name shared mine filter sort columns updatedAt project { name } }
    pageInfo { hasNextPage endCursor }
  }
}"""

Wheres = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="As loss.min<0.3, arg:train.lr>=0.01, tag:team=a, created>7d, state=FAILED; "
        "with “not” before or “or” between; repeatable, all must hold.",
    ),
]
Sorted = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="KEY[:asc]",
        help="created, started, ended, duration, name, priority, state, tag:NAME, arg:[STEP.]OPTION, "
        "or a metric as loss.min; the greatest first unless :asc.",
    ),
]
Search = Annotated[str, typer.Option(help="Words in the name or the notes.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="WORD", help="Show loss.min, arg:train.lr or tag:team too; repeatable."),
]
States = Annotated[list[State] | None, typer.Option(case_sensitive=False, help="Only these.")]
OfPipeline = Annotated[str, typer.Option(help="Only runs of this pipeline, by name or id.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `rungraph run`."""
    app.command("list")(list_)
    app.command("compare")(compare_)


def list_(
    ctx: typer.Context,
    state: States = None,
    pipeline: OfPipeline = "",
    tag: Tags = None,
    where: Wheres = None,
    search: Search = "",
    sort: Sorted = "",
    archived: Annotated[bool, typer.Option("--archived", help="Those put away, and only those.")] = False,
    view: Annotated[str, typer.Option(help="A saved view, by name or id.")] = "",
    column: Columns = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
) -> None:
    """List runs, the newest first."""

    async def action(client: Client, output: Output) -> None:
        asked = await filter_of(client, state, pipeline, tag, where, search)
        if archived:
            asked["archived"] = True
        columns, variables = list(column or []), {"filter": asked, "sort": conditions.sort(sort)}
        if view:
            saved = await view_of(client, view)
            variables["view"] = saved["id"]
            columns = columns or saved["columns"]
        query = RUNS_WITH_COLUMNS if columns else RUNS_WITH_JOBS if output.as_json else RUNS
        runs = [run async for run in walk(client, query, variables, ("runs",), limit)]
        _show(output, runs, columns)

    perform(ctx, action)


def compare_(
    ctx: typer.Context,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids, at most 100.")],
    baseline: Annotated[str, typer.Option(help="The run that deltas are from; the first if not given.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what is equal.")] = False,
) -> None:
    """Lay runs side by side: arguments, functions, tags and metrics, with deltas to a baseline."""

    async def action(client: Client, output: Output) -> None:
        wanted = {"ids": run, "baseline": baseline or run[0], "differing": None if everything else True}
        found = (await client.execute(COMPARE, wanted))["compareRuns"]
        if output.as_json:
            output.document(found)
        else:
            _show_comparison(output, found)

    perform(ctx, action)


async def filter_of(
    client: Client,
    state: Sequence[State] | None,
    pipeline: str,
    tag: Sequence[str] | None,
    where: Sequence[str] | None,
    search: str,
) -> dict[str, Any]:
    """What the options ask for, as a RunFilter."""
    chosen: dict[str, Any] = {}
    if state:
        chosen["states"] = [one.value for one in state]
    if tag:
        chosen["tags"] = values.tags(tag)
    if pipeline:
        chosen["pipeline"] = (await pipelines.get(client, pipeline))["id"]
    if search:
        chosen["search"] = search
    read = conditions.where(list(where or []))
    for one in _all_in(read):
        if "pipeline" in one:
            one["pipeline"] = (await pipelines.get(client, one["pipeline"]))["id"]
    return {**chosen, "and": read} if read else chosen


async def view_of(client: Client, word: str) -> dict[str, Any]:
    """The view of an id or a name, one's own before others'; raises ApiError NOT_FOUND."""
    found = [one async for one in walk(client, VIEWS, {}, ("runViews",)) if word in (one["id"], one["name"])]
    if not found:
        raise ApiError("NOT_FOUND", f"there is no view “{word}”: see `rungraph view list`")
    return max(found, key=lambda one: bool(one["mine"]))


def _all_in(documents: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in documents:
        below = [*one.get("or", []), *([one["not"]] if "not" in one else [])]
        found += [one, *_all_in(below)]
    return found


def _show(output: Output, runs: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    if output.as_json:
        output.document(runs)
        return
    heads = ("RUN", "NAME", "STATE", "PIPELINE", "CREATED", "TIME", *columns)
    output.table(heads, (_row(run, columns) for run in runs))


def _row(run: dict[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    pipeline = run["pipeline"]["name"] if run["pipeline"] else ""
    created, took = local_time(run["createdAt"]), duration(run["durationSeconds"])
    more = (_cell(conditions.column(run, word)) for word in columns)
    return run["id"], run["name"], run["state"], pipeline, created, took, *more


def _show_comparison(output: Output, found: dict[str, Any]) -> None:
    base = (found["baseline"] or {}).get("id")
    ids = [run["id"] for run in found["runs"]]
    rows = [("run", *(f"{each} (baseline)" if each == base else each for each in ids))]
    rows += [("state", *(run["state"] for run in found["runs"]))]
    rows += [(f"arg:{a['step']}.{a['name']}", *map(_cell, a["values"])) for a in found["arguments"]]
    rows += [(f"function of {f['step']}", *map(_cell, f["versions"])) for f in found["functions"]]
    rows += [(f"tag:{t['name']}", *map(_cell, t["values"])) for t in found["tags"]]
    for metric in found["metrics"]:
        for of in ("last", "min", "max"):
            told = metric[of]
            cells = zip(told["values"], told["deltas"], told["relative"], strict=True)
            rows.append((f"{metric['name']}.{of}", *(_measured(*cell) for cell in cells)))
    output.table(("", *(run["name"] for run in found["runs"])), rows)


def _measured(value: float | None, delta: float | None, relative: float | None) -> str:
    if value is None:
        return ""
    parts = [f"{value:g}"]
    if delta:
        parts.append(f"{delta:+g}")
        if relative is not None:
            parts.append(f"({relative:+.1%})")
    return " ".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
