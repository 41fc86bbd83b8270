"""External runs over HTTP: created by somebody, reported with the run's own token, seen by whoever follows."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from db import columns
from db.externals import External
from tests.graph.serving import FOLLOW_RUN, RUN, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def create(server: Server, **input: Any) -> dict[str, Any]:
    """What createRun gives."""
    told: dict[str, Any] = await server.change(
        "createRun", "run { id state external } job { id step } token", **{"name": "outside", **input}
    )
    assert told["errors"] == []
    return told


async def report(server: Server, token: str, mutation: str, returning: str, **input: Any) -> Any:
    """A mutation with a run's token."""
    kind = mutation[0].upper() + mutation[1:]
    query = f"mutation ($input: {kind}Input!) {{ {mutation}(input: $input) {{ {returning} errors {{ code path }} }} }}"
    response = await server.post(query, {"input": input}, Authorization=f"Bearer {token}")
    return response.json()["data"][mutation]


async def test_code_outside_reports_everything_with_its_token(server: Server) -> None:
    made = await create(server, step="train", heartbeatSeconds=30)
    run, token = made["run"], made["token"]
    assert (run["state"], run["external"]) == ("RUNNING", True)
    points = [{"name": "loss", "value": 0.5}]
    for duplicate in (False, True):
        told = await report(server, token, "logMetrics", "duplicate", producer="p", number=1, points=points)
        assert told == {"duplicate": duplicate, "errors": []}
        lines = [{"text": "one"}, {"text": "two", "stream": "STDERR"}]
        told = await report(server, token, "logLines", "duplicate", producer="p", number=1, lines=lines)
        assert told == {"duplicate": duplicate, "errors": []}
    assert await report(server, token, "heartbeat", "cancelRequested") == {
        "cancelRequested": False,
        "errors": [],
    }
    file = await server.upload("model.bin")
    told = await server.change(
        "addOutputs", "job { outputs { name kind } }", job=made["job"]["id"], files=[file]
    )
    assert told["job"]["outputs"] == [{"name": "model.bin", "kind": "OUTPUT"}]
    told = await report(server, token, "finishRun", "run { state }", state="SUCCEEDED", exitCode=0)
    assert told == {"run": {"state": "SUCCEEDED"}, "errors": []}
    ended = await server.finish(run["id"])
    (job,) = ended["jobs"]
    assert [(line["text"], line["stream"]) for line in job["logs"]["nodes"]] == [
        ("one", "STDOUT"),
        ("two", "STDERR"),
    ]
    assert (job["step"], job["exitCode"], job["attempts"][0]["workers"][0]["phase"]) == (
        "train",
        0,
        "SUCCEEDED",
    )


async def test_a_runs_token_does_nothing_else(server: Server) -> None:
    made, other = await create(server), await create(server)
    token = made["token"]
    told = await report(server, token, "heartbeat", "__typename", job=other["job"]["id"])
    assert [e["code"] for e in told["errors"]] == ["NOT_FOUND"]
    for mutation, input in (
        ("cancelRun", {"id": made["run"]["id"]}),
        ("updateRun", {"id": made["run"]["id"], "name": "mine"}),
        ("createRun", {"name": "more"}),
        ("addOutputs", {"job": made["job"]["id"], "files": []}),
    ):
        told = await report(server, token, mutation, "__typename", **input)
        assert [e["code"] for e in told["errors"]] == ["FORBIDDEN"], mutation
    seen = await server.post(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }",
        {"ids": [made["run"]["id"], other["run"]["id"]]},
        Authorization=f"Bearer {token}",
    )
    assert seen.json()["data"]["nodes"] == [{"id": made["run"]["id"]}, None]
    for one in (made, other):
        await report(server, one["token"], "finishRun", "__typename", state="CANCELLED")


async def test_a_run_that_goes_silent_is_lost_and_found_again(server: Server) -> None:
    made = await create(server)
    run = made["run"]["id"]
    async with server.around.database.begin() as session:
        past = columns.now() - timedelta(seconds=1)
        await session.execute(
            update(External).where(External.expires_at.is_not(None)).values(expires_at=past)
        )
        session.wake()
    lost = await server.finish(run)
    assert (lost["state"], lost["jobs"][0]["reason"]) == ("FAILED", "LOST")
    points = [{"name": "loss", "value": 0.5}]
    told = await report(server, made["token"], "logMetrics", "seq", producer="p", number=1, points=points)
    assert told["errors"] == []
    assert (await server.ask(RUN, id=run))["state"] == "RUNNING"
    told = await report(server, made["token"], "finishRun", "run { state }", state="SUCCEEDED")
    assert told["run"] == {"state": "SUCCEEDED"}
    seen = [
        event["runState"]
        async for event in server.client.follow(FOLLOW_RUN, {"id": run, "after": lost["seq"]})
        if event["__typename"] == "RunChanged"
    ]
    assert seen == ["RUNNING", "SUCCEEDED"]


async def test_a_cancelled_run_asks_its_reporter_to_stop(server: Server) -> None:
    made = await create(server)
    told = await server.change("cancelRun", "run { state }", id=made["run"]["id"])
    assert told["run"] == {"state": "CANCELLING"}
    assert (await report(server, made["token"], "heartbeat", "cancelRequested"))["cancelRequested"]
    told = await report(server, made["token"], "finishRun", "run { state }", state="FAILED")
    assert told["run"] == {"state": "CANCELLED"}


async def test_an_external_run_cannot_be_run_again(server: Server) -> None:
    made = await create(server)
    await report(server, made["token"], "finishRun", "__typename", state="FAILED")
    for mutation in ("retryRun", "rerunRun"):
        told = await server.change(mutation, "run { id }", id=made["run"]["id"])
        assert [e["code"] for e in told["errors"]] == ["INVALID"]
        assert "external" in told["errors"][0]["message"]
