"""Starting, following, cancelling and listing runs."""

import pytest

from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_run_goes_through_its_steps_to_its_end(server: Server) -> None:
    pipeline = await server.pipeline({"one": "print('first')", "two": "print('second')"})
    run = await server.start(pipeline)
    assert run["state"] in ("QUEUED", "RUNNING")
    ended = await server.finish(run["id"])
    assert ended["state"] == "SUCCEEDED"
    assert [(job["step"], job["state"], job["exitCode"]) for job in ended["jobs"]] == [
        ("one", "SUCCEEDED", 0),
        ("two", "SUCCEEDED", 0),
    ]
    assert [job["logs"]["nodes"][0]["text"] for job in ended["jobs"]] == ["first", "second"]


FULL = """query ($id: ID!) { run(id: $id) { name state priority failFast external idempotencyKey seq createdAt startedAt
  endedAt durationSeconds project { name } pipeline { id } revision { number } tags { name value } files { name }
  job(step: "one") { step } timeline { seq kind step state reason } waitingFor { code } retryOf { id } } }"""


async def test_a_run_tells_everything_about_itself(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    file = await server.upload("in.txt")
    given = {"name": "named", "priority": 5, "failFast": True, "idempotencyKey": "k", "files": [file]}
    run = await server.start(pipeline, **given, tags=[{"name": "b"}, {"name": "a", "value": "1"}])
    await server.finish(run["id"])
    told = await server.ask(FULL, id=run["id"])
    assert (told["name"], told["priority"], told["failFast"], told["idempotencyKey"]) == (
        "named",
        5,
        True,
        "k",
    )
    assert told["tags"] == [{"name": "a", "value": "1"}, {"name": "b", "value": ""}]
    assert (told["files"], told["job"], told["waitingFor"]) == ([{"name": "in.txt"}], {"step": "one"}, None)
    assert [entry["state"] for entry in told["timeline"] if entry["kind"] == "RUN"] == [
        "QUEUED",
        "RUNNING",
        "SUCCEEDED",
    ]
    states = [entry["state"] for entry in told["timeline"] if entry["kind"] == "JOB"]
    assert states == ["WAITING", "QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    assert told["durationSeconds"] >= 0


async def test_the_same_key_and_input_give_the_same_run(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    one, two = [await server.start(pipeline, idempotencyKey="same") for _ in range(2)]
    assert one["id"] == two["id"]
    await server.finish(one["id"])
    assert (await server.start(pipeline, idempotencyKey="same"))["id"] == one["id"]


async def test_runs_are_filtered_by_state_pipeline_and_tags(server: Server) -> None:
    good, bad = await server.pipeline({"one": "pass"}), await server.pipeline({"one": "1 / 0"})
    tag = [{"name": "team", "value": "filtered"}]
    ended = [await server.finish((await server.start(p, tags=tag))["id"]) for p in (good, bad)]
    query = "query ($filter: RunFilter) { runs(first: 10, filter: $filter) { nodes { id } } }"

    async def found(**filter: object) -> list[str]:
        return [node["id"] for node in (await server.ask(query, filter=filter))["nodes"]]

    assert await found(tags=tag) == [ended[1]["id"], ended[0]["id"]]
    assert await found(tags=tag, states=["FAILED"]) == [ended[1]["id"]]
    assert await found(pipeline=good) == [ended[0]["id"]]
    assert await found(pipeline=good, states=["FAILED", "CANCELLED"]) == []


async def test_what_has_not_begun_is_cancelled_at_once_and_says_what_it_waited_for(serve: Serve) -> None:
    async with serve(slots=1) as server:
        blocker = await server.start(await server.pipeline({"one": "import time; time.sleep(600)"}))
        await server.until(blocker["id"], "JobChanged", jobState="RUNNING")
        run = await server.start(await server.pipeline({"one": "pass"}))
        waiting = await server.ask(
            "query ($id: ID!) { run(id: $id) { waitingFor { code message } } }", id=run["id"]
        )
        assert waiting["waitingFor"]["code"] == "CAPACITY"
        payload = await server.change("cancelRun", "run { state }", id=run["id"])
        assert payload == {"run": {"state": "CANCELLED"}, "errors": []}
        await server.change("cancelRun", "run { state }", id=blocker["id"], graceSeconds=0)
        assert (await server.finish(blocker["id"]))["state"] == "CANCELLED"


async def test_a_server_that_starts_again_goes_on_with_what_runs(serve: Serve) -> None:
    waiting = (
        "import os, time\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.01)\nprint('went on')"
    )
    async with serve() as server:
        go = server.home.parent / "go"
        run = await server.start(
            await server.pipeline({"one": {"code": waiting, "env": {"GO": str(go)}}, "two": "pass"})
        )
        await server.until(run["id"], "JobChanged", jobState="RUNNING")
    go.touch()
    async with serve() as server:
        ended = await server.finish(run["id"])
        assert ended["state"] == "SUCCEEDED"
        assert [len(job["attempts"]) for job in ended["jobs"]] == [1, 1]
        assert ended["jobs"][0]["logs"]["nodes"][0]["text"] == "went on"
