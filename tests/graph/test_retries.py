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
