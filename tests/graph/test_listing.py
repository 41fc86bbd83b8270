"""Lists of runs over the API: filters, orders, views, comparisons, counts, and watching a list."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from graph import changes
from tests.backends.grounds import eventually
from tests.graph.serving import PATIENCE_SECONDS, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST = """query ($filter: RunFilter, $sort: RunSort, $view: ID, $first: Int,
   $after: String, $last: Int, $before: String) {
  runs(filter: $filter, sort: $sort, view: $view, first: $first, after: $after, last: $last, before: $before) {
    nodes { id name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
MEASURE = """import json, os
options = json.load(open(os.environ["RUNGRAPH_INPUT"] + "/input.json"))["options"]
print(json.dumps({"metric": {"loss": options["rate"] * 2}, "step": 1}))"""


async def three(server: Server, team: str) -> list[str]:
    """Three runs that ended, with rates 0.1, 0.2 and 0.3 and losses of twice that."""
    function = {"code": MEASURE, "options": {"rate": {"type": "float", "default": 0.1}}}
    pipeline = await server.pipeline({"one": function})
    runs = []
    for rate in (0.1, 0.2, 0.3):
        arguments = [{"step": "one", "arguments": {"rate": rate}}]
        tags = [{"name": "team", "value": team}, {"name": "rate", "value": str(rate)}]
        run = await server.start(pipeline, arguments=arguments, tags=tags, name=f"{team} {rate}")
        runs.append((await server.finish(run["id"]))["id"])
    return runs


async def listed(server: Server, **given: Any) -> list[str]:
    """The ids of a page."""
    return [node["id"] for node in (await server.ask(LIST, **given))["nodes"]]


async def test_runs_are_filtered_by_what_they_measured_and_were_given(server: Server) -> None:
    one, two, three_ = await three(server, "filtered")
    mine = {"tags": [{"name": "team", "value": "filtered"}]}
    by_loss = {"by": "METRIC", "name": "loss"}
    assert await listed(server, filter=mine, sort=by_loss) == [three_, two, one]
    assert await listed(server, filter=mine, sort={**by_loss, "direction": "ASCENDING"}) == [one, two, three_]
    assert await listed(server, filter={**mine, "metrics": [{"name": "loss", "lt": 0.5}]}) == [two, one]
    assert await listed(server, filter={**mine, "arguments": [{"name": "rate", "eq": 0.2}]}) == [two]
    assert await listed(server, filter={"and": [mine, {"not": {"search": "FILTERED 0.3"}}]}) == [two, one]
    some = [{"name": "filtered 0.1"}, {"metrics": [{"name": "loss", "of": "MAX", "gt": 0.5}]}]
    assert await listed(server, filter={**mine, "or": some}) == [three_, one]


async def test_pages_of_any_order_go_on_where_they_ended(server: Server) -> None:
    runs = await three(server, "paged")
    given: dict[str, Any] = {
        "filter": {"tags": [{"name": "team", "value": "paged"}]},
        "sort": {"by": "TAG", "name": "rate", "direction": "ASCENDING"},
    }
    first = await server.ask(LIST, first=2, **given)
    assert [node["id"] for node in first["nodes"]] == runs[:2] and first["pageInfo"]["hasNextPage"]
    rest = await server.ask(LIST, first=2, after=first["pageInfo"]["endCursor"], **given)
    assert [node["id"] for node in rest["nodes"]] == runs[2:] and not rest["pageInfo"]["hasNextPage"]
    back = await server.ask(LIST, last=2, before=rest["pageInfo"]["startCursor"], **given)
    assert [node["id"] for node in back["nodes"]] == runs[:2] and not back["pageInfo"]["hasPreviousPage"]
    other = await refused(server, LIST, after=first["pageInfo"]["endCursor"], sort={"by": "NAME"})
    assert other["extensions"]["code"] == "INVALID"


async def test_a_wrong_filter_is_refused_in_words(server: Server) -> None:
    for filter, word in (
        ({"metrics": [{"name": "loss"}]}, "compare"),
        ({"pipeline": "run_x"}, "pipeline"),
        ({"not": {"not": {"not": {"not": {"not": {"name": "a"}}}}}}, "deep"),
    ):
        error = await refused(server, LIST, filter=filter)
        assert error["extensions"]["code"] in ("INVALID", "NOT_FOUND") and word in error["message"]
    assert (await refused(server, LIST, sort={"by": "METRIC"}))["extensions"]["code"] == "INVALID"


async def test_a_view_is_saved_used_changed_and_deleted(server: Server) -> None:
    one, two, three_ = await three(server, "viewed")
    filter = {
        "tags": [{"name": "team", "value": "viewed"}],
        "metrics": [{"name": "loss", "of": "MIN", "lt": 0.5}],
    }
    sort = {"by": "METRIC", "name": "loss", "direction": "ASCENDING"}
    fields = "view { id name shared filter sort columns mine }"
    saved = await server.change(
        "createRunView", fields, name="small losses", filter=filter, sort=sort, columns=["loss.last"]
    )
    assert saved["errors"] == []
    view = saved["view"]
    assert (view["filter"], view["sort"], view["columns"], view["mine"]) == (
        filter,
        sort,
        ["loss.last"],
        True,
    )
    assert await listed(server, view=view["id"]) == [one, two]
    assert await listed(server, view=view["id"], sort={"by": "CREATED"}) == [two, one]
    assert await listed(server, view=view["id"], filter={"arguments": [{"name": "rate", "gt": 0.15}]}) == [
        two
    ]
    again = await server.change("createRunView", fields, name="small losses")
    assert [error["code"] for error in again["errors"]] == ["CONFLICT"]
    wrong = await server.change("createRunView", fields, name="", sort={"by": "TAG"}, columns=[""])
    assert [error["path"] for error in wrong["errors"]] == [
        ["input", "name"], ["input", "columns", "0"], ["input", "sort", "name"],
    ]  # fmt: skip
    changed = await server.change(
        "updateRunView", fields, id=view["id"], name="all", filter={"search": "viewed 0"}
    )
    assert changed["view"]["name"] == "all"
    assert await listed(server, view=view["id"]) == [one, two, three_]
    names = await server.ask("{ runViews(first: 5) { nodes { name project { name } } } }")
    assert {"name": "all", "project": {"name": "default"}} in names["nodes"]
    assert (await server.change("deleteRunView", "id", id=view["id"]))["id"] == view["id"]
    assert (await refused(server, LIST, view=view["id"]))["extensions"]["code"] == "NOT_FOUND"


COMPARE = """query ($ids: [ID!]!, $baseline: ID) { compareRuns(ids: $ids, baseline: $baseline) {
  runs { id } baseline { id } arguments(differing: true) { step name values } functions { step differs versions }
  tags(differing: false) { name values } metrics { name last { values deltas relative } } } }"""


async def test_runs_are_compared_with_a_baseline(server: Server) -> None:
    runs = await three(server, "compared")
    told = await server.ask(COMPARE, ids=runs, baseline=runs[0])
    assert (told["runs"], told["baseline"]) == ([{"id": run} for run in runs], {"id": runs[0]})
    assert told["arguments"] == [{"step": "one", "name": "rate", "values": [0.1, 0.2, 0.3]}]
    assert told["tags"] == [{"name": "team", "values": ["compared"] * 3}]
    assert [line["differs"] for line in told["functions"]] == [False]
    (loss,) = told["metrics"]
    assert loss["last"]["values"] == [0.2, 0.4, 0.6]
    assert loss["last"]["deltas"] == [0, pytest.approx(0.2), pytest.approx(0.4)]
    assert loss["last"]["relative"] == [0, pytest.approx(1), pytest.approx(2)]
    wrongs: tuple[dict[str, Any], ...] = (
        {"ids": []},
        {"ids": runs[:1] * 2},
        {"ids": runs[:1], "baseline": runs[1]},
    )
    for wrong in wrongs:
        assert (await refused(server, COMPARE, **wrong))["extensions"]["code"] == "INVALID"


async def test_runs_are_counted_by_state_day_and_pipeline(server: Server) -> None:
    await three(server, "counted")
    query = """query ($filter: RunFilter, $by: RunGrouping!) { runCounts(filter: $filter, by: $by, days: 2) {
      total { count capped } groups { state day pipeline { name } count capped } } }"""
    mine = {"tags": [{"name": "team", "value": "counted"}]}
    for by in ("STATE", "DAY", "PIPELINE"):
        told = await server.ask(query, filter=mine, by=by)
        assert told["total"] == {"count": 3, "capped": False}
        assert sum(group["count"] for group in told["groups"]) == 3
        assert not any(group["capped"] for group in told["groups"])


WATCH = """subscription ($filter: RunFilter) { runs(filter: $filter) { __typename
  ... on RunUpserted { run { id state } } ... on RunRemoved { id } } }"""


async def test_a_watched_list_tells_what_comes_changes_and_goes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SECONDS", 0.01)
    pipeline = await server.pipeline({"one": "import time; time.sleep(600)"})
    other = await server.pipeline({"one": "pass"})
    wanted = {"pipeline": pipeline, "states": ["QUEUED", "RUNNING"]}
    told: list[dict[str, Any]] = []

    async def watch() -> None:
        async with aclosing(server.client.subscribe(WATCH, {"filter": wanted})) as answers:
            async for answer in answers:
                told.append(answer["runs"])
                if told[-1]["__typename"] == "RunRemoved":
                    return

    async def is_watching() -> bool:
        return server.around.hub.recent.waiting == 1

    watching = asyncio.create_task(watch())
    await eventually(is_watching)
    await server.finish((await server.start(other))["id"])
    run = await server.start(pipeline)
    await server.until(run["id"], "JobChanged", jobState="RUNNING")
    await eventually(lambda: _is_told(told, "RUNNING"))
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await watching
    await server.finish(run["id"])
    assert {event["run"]["id"] for event in told[:-1]} == {run["id"]}
    assert told[-1] == {"__typename": "RunRemoved", "id": run["id"]}


async def _is_told(told: list[dict[str, Any]], state: str) -> bool:
    return any(event["run"]["state"] == state for event in told)


async def refused(server: Server, query: str, **variables: Any) -> dict[str, Any]:
    """The error of an operation that must be refused."""
    (error,) = (await server.post(query, variables)).json()["errors"]
    return dict(error)
