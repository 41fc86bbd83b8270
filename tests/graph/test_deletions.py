"""Deleting runs, as who asks and who watches sees it."""

import pytest

from tests.backends.grounds import eventually
from tests.graph.serving import FOLLOW_RUN, RUN, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITING = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/a', 'w'); print('{\"metric\": {\"x\": 1}}')"
SLEEP = "import time; time.sleep(600)"


async def test_deleted_runs_are_gone_and_the_others_say_why_not(server: Server) -> None:
    ended = await server.play(WRITING)
    running = await server.start(await server.pipeline({"one": SLEEP}))
    told = await server.change(
        "deleteRuns",
        "results { id errors { code path retryable } }",
        ids=[running["id"], ended["id"], ended["id"]],
    )
    refused = {"code": "CONFLICT", "path": ["input", "ids", "0"], "retryable": False}
    assert told["results"][0] == {"id": None, "errors": [refused]}
    assert told["results"][1] == {"id": ended["id"], "errors": []}
    assert [e["code"] for e in told["results"][2]["errors"]] == ["NOT_FOUND"]
    assert await server.ask(RUN, id=ended["id"]) is None
    (job,) = ended["jobs"]
    seen = await server.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[ended["id"], job["id"]])
    assert seen == [None, None]
    await server.change("cancelRun", "run { id }", id=running["id"], graceSeconds=0)
    await server.finish(running["id"])

    async def file_gone() -> bool:
        found = await server.ask("query ($id: ID!) { file(id: $id) { id } }", id=job["outputs"][0]["id"])
        return found is None

    await eventually(file_gone)


async def test_who_watches_an_ended_run_that_is_deleted_comes_to_the_end(server: Server) -> None:
    ended = await server.play("print('line')")
    seen: list[str] = []
    async for event in server.client.follow(FOLLOW_RUN, {"id": ended["id"], "after": 0}):
        if not seen:
            told = await server.change("deleteRun", "id", id=ended["id"])
            assert told == {"id": ended["id"], "errors": []}
        seen.append(event["__typename"])
    assert seen


async def test_a_deleted_run_is_nothing_to_follow_or_change(server: Server) -> None:
    ended = await server.play("pass")
    await server.change("deleteRun", "id", id=ended["id"])
    for mutation in ("deleteRun", "cancelRun", "updateRun"):
        told = await server.change(mutation, "__typename", id=ended["id"])
        assert [e["code"] for e in told["errors"]] == ["NOT_FOUND"], mutation


async def test_a_child_of_a_deleted_run_has_no_parent(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    parent = (await server.start(pipeline))["id"]
    await server.finish(parent)
    child = (await server.start(pipeline, parent=parent))["id"]
    await server.change("deleteRun", "id", id=parent)
    told = await server.ask("query ($id: ID!) { run(id: $id) { id parent { id } } }", id=child)
    assert told == {"id": child, "parent": None}
    await server.finish(child)
