"""Limits through the API: set, shown with what is held, told to whoever waits, removed."""

from typing import Any

import pytest

from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = "id project { name } backend { name } tag { name value } jobs gpus inUse { value jobs slots }"
LISTED = f"{{ limits(first: 100) {{ nodes {{ {LIMIT} }} }} }}"
WAITING = """query ($id: ID!) { run(id: $id) { state waitingFor { code message limit { id } }
  jobs { waitingFor { code } } } }"""
SLEEPS = "import time; time.sleep(60)"


async def put(server: Server, **values: Any) -> Any:
    payload = await server.change("setLimit", f"limit {{ {LIMIT} }}", **values)
    assert payload["errors"] == [], payload
    return payload["limit"]


async def test_a_limit_is_set_shown_and_lifted(serve: Serve) -> None:
    async with serve() as server:
        pipeline = await server.pipeline({"f": SLEEPS})
        tags = [{"name": "model", "value": "large"}]
        limit = await put(server, tag={"name": "model"}, jobs=1)
        assert limit["tag"] == {"name": "model", "value": None} and limit["inUse"] == []
        first = await server.start(pipeline, tags=tags)
        await server.until(first["id"], "RunChanged", runState="RUNNING")
        second = await server.start(pipeline, tags=tags)
        waiting = await server.ask(WAITING, id=second["id"])
        assert waiting["waitingFor"]["code"] == "LIMIT" and waiting["jobs"] == [
            {"waitingFor": {"code": "LIMIT"}}
        ]
        assert waiting["waitingFor"]["limit"] == {"id": limit["id"]}
        (listed,) = (await server.ask(LISTED))["nodes"]
        assert listed["inUse"] == [{"value": "large", "jobs": 1, "slots": 1}]
        assert (await put(server, tag={"name": "model"}, jobs=2))["id"] == limit["id"]
        await server.until(second["id"], "RunChanged", runState="RUNNING")
        removed = await server.change("removeLimit", "id", id=limit["id"])
        assert removed == {"id": limit["id"], "errors": []}
        assert (await server.ask(LISTED))["nodes"] == []
        for run in (first, second):
            await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
            await server.finish(run["id"])


async def test_what_is_wrong_with_a_limit_is_told(server: Server) -> None:
    async def refused(**values: Any) -> list[tuple[str, list[str]]]:
        payload = await server.change("setLimit", "limit { id }", **values)
        return [(error["code"], error["path"]) for error in payload["errors"]]

    assert await refused() == [("INVALID", ["input"])]
    assert await refused(jobs=-1) == [("INVALID", ["input", "jobs"])]
    assert await refused(jobs=1, backend="nonsense") == [("NOT_FOUND", ["input", "backend"])]
    project = (await server.ask("{ viewer { projects { id } } }"))["projects"][0]["id"]
    assert await refused(jobs=1, project=project, allProjects=True) == [("INVALID", ["input", "project"])]
    gone = await server.change("removeLimit", "id", id="limit_nonsense")
    assert [error["code"] for error in gone["errors"]] == ["NOT_FOUND"]


async def test_a_start_that_must_not_wait_is_refused_while_there_is_no_room(serve: Serve) -> None:
    async with serve(slots=1) as server:
        pipeline = await server.pipeline({"f": SLEEPS})
        first = await server.start(pipeline, ifBusy="REJECT")
        await server.until(first["id"], "RunChanged", runState="RUNNING")
        refused = await server.change("startRun", "run { id }", pipeline=pipeline, ifBusy="REJECT")
        (error,) = refused["errors"]
        assert (refused["run"], error["code"], error["path"]) == (None, "CONFLICT", ["input", "ifBusy"])
        assert "1 jobs run there" in error["message"]
        runs = "{ runs(first: 10) { nodes { id } } }"
        assert (await server.ask(runs))["nodes"] == [{"id": first["id"]}]
        await server.change("cancelRun", "run { id }", id=first["id"], graceSeconds=0)
        await server.finish(first["id"])
