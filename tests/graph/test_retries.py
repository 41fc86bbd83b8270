"""Running again, as the API has it: real jobs, one of which fails until it is let."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLD = "run { id state retryOf { id } basedOn { id } tags { name } jobs { step state reusedFrom { run { id } } } }"


async def test_a_retry_goes_on_from_the_failure(server: Server) -> None:
    go = server.home.parent / "go"
    making = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/made', 'w').write('x')"
    needing = (
        f"import os; assert os.path.exists({str(go)!r}); assert os.listdir(os.environ['RUNGRAPH_INPUT'])"
    )
    old = await server.start(await server.pipeline({"make": making, "need": needing}), tags=[{"name": "a"}])
    assert (await server.finish(old["id"]))["state"] == "FAILED"
    go.touch()
    told = await server.change("retryRun", TOLD, id=old["id"], idempotencyKey="again")
    assert told["errors"] == []
    new = told["run"]
    assert (new["retryOf"], new["basedOn"], new["tags"]) == ({"id": old["id"]}, None, [{"name": "a"}])
    assert new["jobs"][0] == {"step": "make", "state": "SUCCEEDED", "reusedFrom": {"run": {"id": old["id"]}}}
    ended = await server.finish(new["id"])
    assert ended["state"] == "SUCCEEDED"
    assert [len(job["attempts"]) for job in ended["jobs"]] == [0, 1]
    assert [file["name"] for file in ended["jobs"][1]["inputs"]] == ["made"]
    again = await server.change("retryRun", "run { id }", id=old["id"], idempotencyKey="again")
    assert again["run"] == {"id": new["id"]}
    whole = await server.change("retryRun", TOLD, **{"id": old["id"], "from": "START"})
    assert [job["reusedFrom"] for job in whole["run"]["jobs"]] == [None, None]
    await server.finish(whole["run"]["id"])


async def test_a_rerun_is_based_on_the_old_one_with_other_arguments(server: Server) -> None:
    code = "import json, os; print(json.load(open(os.environ['RUNGRAPH_INPUT'] + '/input.json'))['options']['n'])"
    pipeline = await server.pipeline({"one": {"code": code, "options": {"n": {"default": 1}}}})
    old = await server.start(pipeline, tags=[{"name": "a"}])
    await server.finish(old["id"])
    arguments = [{"step": "one", "arguments": {"n": 5}}]
    told = await server.change("rerunRun", TOLD, id=old["id"], arguments=arguments, revision="LATEST")
    assert (told["run"]["basedOn"], told["run"]["retryOf"]) == ({"id": old["id"]}, None)
    ended = await server.finish(told["run"]["id"])
    assert ended["jobs"][0]["logs"]["nodes"][0]["text"] == "5"


async def test_what_cannot_be_retried_says_why(server: Server) -> None:
    old = await server.play("pass")
    for id, code, path in (
        (old["id"], "INVALID", ["input", "from"]),
        ("run_" + "0" * 26, "NOT_FOUND", ["input", "id"]),
        ("nonsense", "NOT_FOUND", ["input", "id"]),
    ):
        told = await server.change("retryRun", "run { id }", id=id)
        assert [(e["code"], e["path"]) for e in told["errors"]] == [(code, path)]


async def test_what_ends_is_tried_again_as_the_run_or_the_function_says(server: Server) -> None:
    code = "import os; print(os.environ['RUNGRAPH_ATTEMPT']); raise SystemExit(3)"
    said = {"code": code, "retry": {"EXIT_CODE": 2, "backoff": {"first": 0.01, "most": 0.05}}}
    version = await server.install({"step": said})
    query = (
        "query ($id: ID!) { node(id: $id) { ... on ModuleVersion { functions { retry { reason times } } } } }"
    )
    (function,) = (await server.ask(query, id=version["id"]))["functions"]
    assert function == {"retry": [{"reason": "EXIT_CODE", "times": 2}]}
    pipeline = await server.draw(f"{version['module']['name']}/step")
    (job,) = (await server.finish((await server.start(pipeline))["id"]))["jobs"]
    assert [line["text"] for line in job["logs"]["nodes"]] == ["1", "2", "3"]
    asked = [{"reason": "EXIT_CODE", "times": 1}]
    run = await server.start(pipeline, retry=asked)
    (job,) = (await server.finish(run["id"]))["jobs"]
    assert [attempt["reason"] for attempt in job["attempts"]] == ["EXIT_CODE", "EXIT_CODE"]
    again = await server.change("rerunRun", "run { id }", id=run["id"])
    (job,) = (await server.finish(again["run"]["id"]))["jobs"]
    assert len(job["attempts"]) == 2
    never = await server.change("rerunRun", "run { id }", id=run["id"], retry=[{**asked[0], "times": 0}])
    (job,) = (await server.finish(never["run"]["id"]))["jobs"]
    assert len(job["attempts"]) == 1


async def test_a_rule_that_cannot_be_meant_is_refused_with_its_path(server: Server) -> None:
    pipeline = await server.pipeline({"step": "pass"})
    rules = [{"reason": "LOST", "times": 1}, {"reason": "BAD_INPUT", "times": 1}]
    refused = await server.change("startRun", "run { id }", pipeline=pipeline, retry=rules)
    (error,) = refused["errors"]
    assert (error["code"], error["path"]) == ("INVALID", ["input", "retry", "1", "reason"])
