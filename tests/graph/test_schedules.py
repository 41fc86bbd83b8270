"""Schedules over the API, with the server's own scheduler firing them."""

import asyncio
from typing import Any

import pytest

from tests.graph.serving import PATIENCE_SECONDS, Server
from tests.graph.test_datasets import make

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = """schedule { id name state nextAt failures lastError next(count: 3) pipeline { id } owner { name }
  run { name priority arguments { step arguments } files tags { name value } failFast backend
    resources { step workers cpus memoryBytes gpus } datasets { dataset version parts } sources cache }
  trigger { __typename ... on CronTrigger { expression timeZone } ... on IntervalTrigger { everySeconds }
    ... on FileTrigger { kinds name tags batchSeconds }
    ... on RunTrigger { states outputs steps pipeline { id } } } }"""
FIRES = """query ($id: ID!) { schedule(id: $id) { fires { nodes {
  id outcome message errorCode file { name } afterRun { id } run { id files { name } } } } } }"""


async def _fired(server: Server, schedule: str, count: int = 1) -> list[dict[str, Any]]:
    """The schedule's fires, once so many have come to an outcome; the oldest first."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            nodes = (await server.ask(FIRES, id=schedule))["fires"]["nodes"]
            done: list[dict[str, Any]] = [node for node in nodes[::-1] if node["outcome"] != "PENDING"]
            if len(done) >= count:
                return done
            await asyncio.sleep(0.01)


async def _create(server: Server, pipeline: str, name: str, **input: Any) -> Any:
    payload = await server.change("createSchedule", SHOWN, pipeline=pipeline, name=name, **input)
    assert payload["errors"] == [], payload
    return payload["schedule"]


async def test_a_cron_is_made_shown_changed_paused_resumed_and_deleted(server: Server) -> None:
    pipeline = await server.pipeline({"f": {"code": "pass", "options": {"n": 1}}})
    run = {
        "name": "nightly",
        "priority": 3,
        "arguments": [{"step": "f", "arguments": {"n": 2}}],
        "tags": [{"name": "try", "value": "1"}],
    }
    cron = {"expression": "30  2 * * mon-fri", "timeZone": "Europe/Berlin"}
    made = await _create(server, pipeline, "nightly", cron=cron, run=run)
    assert made["trigger"] == {
        "__typename": "CronTrigger",
        "expression": "30  2 * * mon-fri",
        "timeZone": "Europe/Berlin",
    }
    unsaid = {"files": [], "resources": [], "datasets": [], "sources": [], "cache": True, "failFast": False}
    assert made["run"] == {**run, **unsaid, "backend": "local"}
    assert (made["state"], made["owner"], made["pipeline"]) == (
        "ACTIVE",
        {"name": "administrator"},
        {"id": pipeline},
    )
    assert made["next"][0] == made["nextAt"] and made["next"] == sorted(set(made["next"]))
    paused = await server.change("pauseSchedule", SHOWN, id=made["id"])
    assert (paused["schedule"]["state"], paused["schedule"]["next"]) == ("PAUSED", [])
    changed = await server.change(
        "updateSchedule", SHOWN, id=made["id"], name="hourly", cron={"expression": "@hourly"}
    )
    assert (changed["schedule"]["state"], changed["schedule"]["name"]) == ("PAUSED", "hourly")
    resumed = await server.change("resumeSchedule", SHOWN, id=made["id"])
    assert resumed["schedule"]["state"] == "ACTIVE" and resumed["schedule"]["nextAt"].endswith(":00:00+00:00")
    found = await server.ask("query ($name: String) { schedule(name: $name) { id } }", name="hourly")
    assert found == {"id": made["id"]}
    assert await server.ask("query ($id: ID!) { node(id: $id) { id } }", id=made["id"]) == found
    listed = await server.ask(
        "query ($pipeline: ID) { schedules(pipeline: $pipeline) { nodes { id } } }", pipeline=pipeline
    )
    assert listed == {"nodes": [found]}
    gone = await server.change("deleteSchedule", "id", id=made["id"])
    assert gone == {"id": made["id"], "errors": []}
    assert await server.ask("query ($id: ID!) { node(id: $id) { id } }", id=made["id"]) is None


async def test_a_schedule_starts_whatever_a_person_could_start(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    source = await server.change(
        "createDataSource", "source { id }", name="outside", url="https://data.example/x.csv"
    )
    dataset = (await make(server, "of-schedules"))["id"]
    asked = {"step": "f", "workers": None, "cpus": 0.25, "memoryBytes": 64 << 20, "gpus": None}
    request = {
        "resources": [asked],
        "sources": [source["source"]["id"]],
        "datasets": [{"dataset": dataset, "version": None, "parts": ["train"]}],
        "cache": False,
    }
    made = await _create(server, pipeline, "whole", interval={"everySeconds": 86_400}, run=request)
    assert {name: made["run"][name] for name in request} == request
    started = await server.change(
        "runSchedule",
        "run { jobs { resources { cpus memoryBytes } } datasets { parts } sources { name } files { name } }",
        id=made["id"],
    )
    assert started["run"] == {
        "jobs": [{"resources": {"cpus": 0.25, "memoryBytes": 64 << 20}}],
        "datasets": [{"parts": ["train"]}],
        "sources": [{"name": "outside"}],
        "files": [{"name": "a.csv"}, {"name": "a.png"}],
    }


async def test_what_a_schedule_asks_for_wrongly_is_told_under_its_run(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    request = {"resources": [{"step": "g", "cpus": 0}], "sources": ["run_" + "1" * 26]}
    payload = await server.change(
        "createSchedule",
        "schedule { id }",
        pipeline=pipeline,
        name="wrong",
        cron={"expression": "@daily"},
        run=request,
    )
    assert [error["path"] for error in payload["errors"]] == [["input", "run", "sources", "0"]]
    payload = await server.change(
        "createSchedule",
        "schedule { id }",
        pipeline=pipeline,
        name="wrong",
        cron={"expression": "@daily"},
        run={"resources": request["resources"]},
    )
    assert sorted(error["path"] for error in payload["errors"]) == [
        ["input", "run", "resources", "0", "cpus"],
        ["input", "run", "resources", "0", "step"],
    ]


async def test_an_interval_fires_by_itself_and_a_run_can_be_had_at_once(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    made = await _create(server, pipeline, "often", interval={"everySeconds": 1})
    (fire,) = (await _fired(server, made["id"]))[:1]
    assert fire["outcome"] == "STARTED"
    assert (await server.finish(fire["run"]["id"]))["state"] == "SUCCEEDED"
    await server.change("pauseSchedule", SHOWN, id=made["id"])
    asked = {"id": made["id"], "idempotencyKey": "once"}
    first = await server.change("runSchedule", "run { id }", **asked)
    again = await server.change("runSchedule", "run { id }", **asked)
    assert first["errors"] == [] and first == again
    await server.finish(first["run"]["id"])


async def test_a_run_knows_the_fire_that_started_it_and_is_found_by_its_schedule(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    made = await _create(server, pipeline, "told", interval={"everySeconds": 3600})
    fired = (await server.change("runSchedule", "run { id }", id=made["id"]))["run"]["id"]
    other = (await server.start(pipeline))["id"]
    found = await server.ask(
        """query ($filter: RunFilter) { runs(filter: $filter) { nodes {
          id fire { dueAt outcome run { id } schedule { id name } } } } }""",
        filter={"schedule": made["id"]},
    )
    (node,) = found["nodes"]
    assert node["fire"].pop("dueAt")
    told = {"outcome": "STARTED", "run": {"id": fired}, "schedule": {"id": made["id"], "name": "told"}}
    assert node == {"id": fired, "fire": told}
    without = {"not": {"schedule": made["id"]}, "pipeline": pipeline}
    found = await server.ask(
        "query ($filter: RunFilter) { runs(filter: $filter) { nodes { id fire { id } } } }", filter=without
    )
    assert found["nodes"] == [{"id": other, "fire": None}]
    await server.change("deleteSchedule", "id", id=made["id"])
    assert await server.ask("query ($id: ID!) { run(id: $id) { fire { id } } }", id=fired) == {"fire": None}
    for run in (fired, other):
        await server.finish(run)


async def test_the_bounds_of_a_schedule_are_kept_changed_and_taken_away(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    shown = "schedule { state startsAt endsAt next(count: 1) }"
    starts, ends = "2090-01-01T00:00:00+00:00", "2090-06-01T00:00:00+00:00"
    made = await _create(
        server, pipeline, "bound", cron={"expression": "@daily"}, startsAt=starts, endsAt=ends
    )
    kept = await server.change("updateSchedule", shown, id=made["id"], description="mine")
    assert (kept["schedule"]["startsAt"], kept["schedule"]["endsAt"]) == (starts, ends)
    later = await server.change("updateSchedule", shown, id=made["id"], endsAt="2091-01-01T00:00:00")
    assert later["schedule"]["endsAt"] == "2091-01-01T00:00:00+00:00"
    free = (await server.change("updateSchedule", shown, id=made["id"], startsAt=None))["schedule"]
    assert (free["startsAt"], free["endsAt"]) == (None, "2091-01-01T00:00:00+00:00")
    assert free["next"][0] < starts
    endless = (await server.change("updateSchedule", shown, id=made["id"], endsAt=None))["schedule"]
    assert (endless["startsAt"], endless["endsAt"], endless["state"]) == (None, None, "ACTIVE")
    await server.change("deleteSchedule", "id", id=made["id"])


async def test_each_file_that_arrives_starts_one_run_that_has_it(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    made = await _create(server, pipeline, "arrivals", file={"name": "*.csv", "tags": {"kind": "train"}})
    await server.upload("no.txt", tags={"kind": "train"})
    await server.upload("other.csv")
    await server.upload("a.csv", tags={"kind": "train", "more": 1})
    await server.upload("b.csv", b"b", tags={"kind": "train"})
    fires = await _fired(server, made["id"], 2)
    assert [fire["file"] for fire in fires] == [{"name": "a.csv"}, {"name": "b.csv"}]
    assert [fire["run"]["files"] for fire in fires] == [[{"name": "a.csv"}], [{"name": "b.csv"}]]
    for fire in fires:
        await server.finish(fire["run"]["id"])


async def test_a_run_that_ends_starts_another_with_its_outputs(server: Server) -> None:
    write = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/{}', 'w').write('x')"
    first = await server.pipeline({"raw": write.format("raw.txt"), "model": write.format("model.pt")})
    then = await server.pipeline({"g": "pass"})
    made = await _create(server, then, "afterwards", after={"pipeline": first, "outputs": True})
    assert made["trigger"] == {
        "__typename": "RunTrigger",
        "states": ["SUCCEEDED"],
        "outputs": True,
        "steps": None,
        "pipeline": {"id": first},
    }
    run = await server.start(first)
    await server.finish(run["id"])
    (fire,) = await _fired(server, made["id"])
    assert fire["afterRun"] == {"id": run["id"]}
    assert fire["run"]["files"] == [{"name": "model.pt"}]
    await server.finish(fire["run"]["id"])
    payload = await server.change(
        "createSchedule", SHOWN, pipeline=first, name="back", after={"pipeline": then}
    )
    assert payload["errors"][0]["path"] == ["input", "after", "pipeline"]
    assert payload["errors"][0]["message"].startswith("these pipelines would start each other: ")


async def test_every_mistake_is_told_with_its_place(server: Server) -> None:
    pipeline = await server.pipeline({"f": {"code": "pass", "options": {"n": 1}}})
    payload = await server.change(
        "createSchedule",
        SHOWN,
        pipeline=pipeline,
        name="a b",
        cron={"expression": "61 * * FOO *", "timeZone": "Europe/Berln"},
        jitterSeconds=-1,
        run={"arguments": [{"step": "f", "arguments": {"n": "x"}}], "priority": 5000},
    )
    assert payload["schedule"] is None
    assert {tuple(error["path"][1:]) for error in payload["errors"]} == {
        ("name",),
        ("jitterSeconds",),
        ("cron", "timeZone"),
        ("cron", "expression"),
        ("run", "priority"),
        ("run", "arguments", "0", "arguments", "n"),
    }
    for wrong in ({}, {"cron": {"expression": "@daily"}, "interval": {"everySeconds": 5}}):
        payload = await server.change("createSchedule", SHOWN, pipeline=pipeline, name="x", **wrong)
        assert "one of cron, interval, file and after" in payload["errors"][0]["message"]


async def test_a_moment_that_cannot_be_read_again_is_not_kept(server: Server) -> None:
    pipeline = await server.pipeline({"f": {"code": "pass"}})
    made = {"pipeline": pipeline, "name": "far", "run": {}, "cron": {"expression": "@daily"}}
    mutation = "mutation ($input: CreateScheduleInput!) { createSchedule(input: $input) { schedule { id } } }"
    for wrong in (
        {"endsAt": "9999-12-31T23:59:59-14:00"},
        {"startsAt": "0001-01-01T00:00:00+14:00"},
        {"cron": None, "interval": {"everySeconds": 60, "anchorAt": "9999-12-31T23:59:59"}},
    ):
        answer = (await server.post(mutation, {"input": {**made, **wrong}})).json()
        assert "not in the years 1000 to 9000" in answer["errors"][0]["message"], answer
    assert (await server.ask("{ schedules { nodes { name endsAt } } }"))["nodes"] is not None


async def test_a_preview_tells_the_next_times_or_the_wrong_field(server: Server) -> None:
    query = """query ($cron: String!, $zone: String!, $since: DateTime) {
      previewSchedule(cron: $cron, timeZone: $zone, count: 3, since: $since) }"""
    asked = {"cron": "30 2 * * *", "zone": "Europe/Berlin", "since": "2026-03-28T00:00:00"}
    assert await server.ask(query, **asked) == [
        "2026-03-28T01:30:00+00:00",
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    answer = (await server.post(query, {"cron": "* * * * 9", "zone": "UTC"})).json()
    assert answer["errors"][0]["extensions"]["code"] == "INVALID"
    assert answer["errors"][0]["message"].startswith("day-of-week '9': it is 0 to 7")
