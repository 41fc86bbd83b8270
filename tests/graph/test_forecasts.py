"""validateRun: the plan and the mistakes of a start, over the API."""

from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALIDATE = """query ($input: StartRunInput!) { validateRun(input: $input) {
  valid errors { code message path retryable } run { id } revision { number }
  jobs { label step matrix arguments needs awaits when workers timeoutSeconds retries cache prepared
    retry { reason times }
    rejection badInput function { address version { number } } resources { cpus memoryBytes gpus }
    preparation { state } inputs { jobs files prefix names count } reuses { id run { id } } } } }"""
SWEEP: dict[str, Any] = {"options": {"n": 1, "m": "x"}, "code": "pass", "workers": 2}


async def _validate(server: Server, **input: Any) -> Any:
    return await server.ask(VALIDATE, input=input)


async def test_a_plan_is_answered_as_the_run_then_is(server: Server) -> None:
    module = (await server.install({"f": SWEEP, "g": "pass"}))["module"]["name"]
    sweep = {"name": "a", "function": f"{module}/f", "matrix": {"n": [1, 2]}}
    condition = {"step": "a", "state": "SUCCEEDED", "jobs": "ANY"}
    then = {"name": "b", "function": f"{module}/g", "needs": [], "when": condition}
    pipeline = await server.draw(sweep, then)
    wanted: dict[str, Any] = {
        "pipeline": pipeline,
        "files": [await server.upload("a.csv")],
        "resources": [{"step": "a", "cpus": 0.5}],
        "retry": [{"reason": "EXIT_CODE", "times": 3}],
    }
    plan = await _validate(server, **wanted)
    assert (plan["valid"], plan["errors"], plan["run"], plan["revision"]) == (True, [], None, {"number": 1})
    first, second, last = plan["jobs"]
    assert first == {
        "label": "a[n=1]",
        "step": "a",
        "matrix": {"n": 1},
        "arguments": {"n": 1, "m": "x"},
        **{"needs": [], "awaits": [], "when": None, "workers": 2, "timeoutSeconds": None, "retries": 0},
        **{"cache": False, "prepared": True, "rejection": None, "badInput": None, "reuses": None},
        "function": {"address": f"{module}/f", "version": {"number": 1}},
        "resources": {"cpus": 0.5, "memoryBytes": None, "gpus": 0},
        "retry": [{"reason": "EXIT_CODE", "times": 3}],
        "preparation": {"state": "READY"},
        "inputs": [{"jobs": None, "files": "*", "prefix": False, "names": ["a.csv"], "count": 1}],
    }
    assert (last["awaits"], last["when"]) == (["a[n=1]", "a[n=2]"], "any job of a ends SUCCEEDED")
    run = await server.finish((await server.start(**wanted))["id"])
    told = [(job["step"], job["arguments"], job["needs"]) for job in run["jobs"]]
    assert told == [(job["label"], job["arguments"], job["needs"]) for job in plan["jobs"]]
    assert second["label"] == "a[n=2]"


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 5000, "name": "", "arguments": [{"step": "f", "arguments": {"n": "x", "o": 1}}]},
        {"files": ["file_" + "0" * 26], "tags": [{"name": ""}], "resources": [{"step": "g", "cpus": -1}]},
        {"files": ["nothing"]},
        {"arguments": [{"step": "f", "arguments": [1]}]},
        {"pipeline": "pipeline_" + "0" * 26},
        {"parent": "run_" + "0" * 26},
        {"idempotencyKey": ""},
    ],
)
async def test_mistakes_are_those_of_a_start(server: Server, wrong: dict[str, Any]) -> None:
    pipeline = await server.pipeline({"f": {"code": "pass", "options": {"n": 1}}})
    plan = await _validate(server, **{"pipeline": pipeline, **wrong})
    refused = await server.change("startRun", "run { id }", **{"pipeline": pipeline, **wrong})
    assert plan["errors"] == refused["errors"] != []
    assert not plan["valid"] and refused["run"] is None


async def test_validating_starts_nothing_and_a_used_key_leads_to_its_run(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    assert (await _validate(server, pipeline=pipeline, idempotencyKey="once"))["valid"]
    runs = "query ($id: ID!) { pipeline(id: $id) { runs { nodes { id } } } }"
    assert (await server.ask(runs, id=pipeline))["runs"]["nodes"] == []
    run = await server.start(pipeline, idempotencyKey="once")
    plan = await _validate(server, pipeline=pipeline, idempotencyKey="once")
    assert (plan["valid"], plan["run"], plan["jobs"]) == (True, {"id": run["id"]}, [])
    plan = await _validate(server, pipeline=pipeline, idempotencyKey="once", priority=1)
    assert [error["code"] for error in plan["errors"]] == ["CONFLICT"]
    await server.finish(run["id"])


async def test_what_would_be_taken_over_is_named(server: Server) -> None:
    module = (await server.install({"f": "pass"}))["module"]["name"]
    pipeline = await server.draw({"name": "f", "function": f"{module}/f", "cache": True})
    assert (await _validate(server, pipeline=pipeline))["jobs"][0]["reuses"] is None
    run = await server.finish((await server.start(pipeline))["id"])
    (job,) = (await _validate(server, pipeline=pipeline))["jobs"]
    assert job["reuses"] == {"id": run["jobs"][0]["id"], "run": {"id": run["id"]}}
    assert not (await _validate(server, pipeline=pipeline, cache=False))["jobs"][0]["cache"]


async def test_nobody_is_told_anything(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    answer = (await server.post(VALIDATE, {"input": {"pipeline": pipeline}}, Authorization=None)).json()
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
