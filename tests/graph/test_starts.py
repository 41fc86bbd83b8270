"""Starting and cancelling many runs at once, and what descends from one."""

from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLEEP = "import time; time.sleep(600)"


async def test_many_are_started_each_by_itself_in_the_order_given(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    wanted: list[Any] = [
        {"pipeline": pipeline, "name": "first"},
        {"pipeline": "nothing"},
        {"pipeline": pipeline, "priority": 5000, "tags": [{"name": ""}]},
        {"pipeline": pipeline, "name": "last"},
    ]
    told = await server.change("startRuns", "results { run { id name } errors { code path } }", runs=wanted)
    assert told["errors"] == []
    names = [result["run"] and result["run"]["name"] for result in told["results"]]
    assert names == ["first", None, None, "last"]
    errors = [[(e["code"], e["path"]) for e in result["errors"]] for result in told["results"]]
    assert errors == [
        [],
        [("NOT_FOUND", ["input", "runs", "1", "pipeline"])],
        [
            ("INVALID", ["input", "runs", "2", "priority"]),
            ("INVALID", ["input", "runs", "2", "tags", "0"]),
        ],
        [],
    ]
    for result in (told["results"][0], told["results"][3]):
        assert (await server.finish(result["run"]["id"]))["state"] == "SUCCEEDED"


@pytest.mark.parametrize(("mutation", "field"), [("startRuns", "runs"), ("cancelRuns", "ids")])
async def test_more_than_a_hundred_are_refused_as_a_whole(server: Server, mutation: str, field: str) -> None:
    one: Any = "run_1" if field == "ids" else {"pipeline": "p"}
    told = await server.change(mutation, "results { run { id } }", **{field: [one] * 101})
    assert told["results"] == []
    assert [(e["code"], e["path"]) for e in told["errors"]] == [("INVALID", ["input", field])]


async def test_many_are_cancelled_and_unknown_ones_told(server: Server) -> None:
    pipeline = await server.pipeline({"one": SLEEP})
    runs = [(await server.start(pipeline))["id"] for _ in range(2)]
    unknown = "run_" + "0" * 26
    told = await server.change(
        "cancelRuns",
        "results { run { id } errors { code path } }",
        ids=[runs[0], unknown, runs[1]],
        graceSeconds=0,
    )
    assert [result["run"] and result["run"]["id"] for result in told["results"]] == [runs[0], None, runs[1]]
    assert told["results"][1]["errors"] == [{"code": "NOT_FOUND", "path": ["input", "ids", "1"]}]
    for run in runs:
        assert (await server.finish(run))["state"] == "CANCELLED"


FAMILY = """query ($id: ID!) { run(id: $id) { state parent { id }
  children(first: 1) { nodes { id parent { id } } pageInfo { hasNextPage } } } }"""


async def test_a_cancelled_parent_takes_its_descendants_with_it_if_asked(server: Server) -> None:
    pipeline = await server.pipeline({"one": SLEEP})
    parent = (await server.start(pipeline))["id"]
    child = (await server.start(pipeline, parent=parent))["id"]
    second = (await server.start(pipeline, parent=parent))["id"]
    grandchild = (await server.start(pipeline, parent=child))["id"]
    told = await server.ask(FAMILY, id=parent)
    assert told["parent"] is None
    assert told["children"]["nodes"] == [{"id": second, "parent": {"id": parent}}]
    assert told["children"]["pageInfo"]["hasNextPage"]
    await server.change("cancelRun", "run { id }", id=child, graceSeconds=0)
    assert (await server.finish(child))["state"] == "CANCELLED"
    assert (await server.ask(FAMILY, id=grandchild))["state"] not in ("CANCELLING", "CANCELLED")
    await server.change("cancelRun", "run { id }", id=parent, graceSeconds=0, cascade=True)
    for run in (parent, second, grandchild):
        assert (await server.finish(run))["state"] == "CANCELLED"


async def test_a_parent_must_be_there(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    told = await server.change("startRun", "run { id }", pipeline=pipeline, parent="run_" + "0" * 26)
    assert [(e["code"], e["path"]) for e in told["errors"]] == [("NOT_FOUND", ["input", "parent"])]


LEFT = "query ($id: ID!) { run(id: $id) { expectedSecondsLeft jobs { step expectedSecondsLeft } } }"


async def test_a_run_is_expected_to_take_what_the_last_one_took(server: Server) -> None:
    go = server.home.parent / "go"
    waiting = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    pipeline = await server.pipeline({"one": waiting, "two": "pass"})
    first = (await server.start(pipeline))["id"]
    unknown = await server.ask(LEFT, id=first)
    assert unknown["expectedSecondsLeft"] is None
    go.touch()
    await server.finish(first)
    assert (await server.ask(LEFT, id=first))["expectedSecondsLeft"] is None, "it has ended"
    go.unlink()
    second = (await server.start(pipeline))["id"]
    told = await server.ask(LEFT, id=second)
    one, two = (job["expectedSecondsLeft"] for job in told["jobs"])
    assert 0 <= one <= two == told["expectedSecondsLeft"]
    go.touch()
    await server.finish(second)
