"""Suspending over the API: jobs stand still through a restart of the server, and go on where they were."""

from pathlib import Path
from typing import Any

import pytest

from backends import attempts
from tests.backends import localground
from tests.backends.grounds import eventually
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENT = """import os, time
print('ready', flush=True)
while not os.path.exists(os.environ['RUNGRAPH_OUTPUT'] + '/go'): time.sleep(0.01)
"""
STANDING = "query ($id: ID!) { run(id: $id) { state suspended waitingFor { code } jobs { id state } } }"


def _attempt(server: Server, run: dict[str, Any]) -> Path:
    (folder,) = (server.home / "local" / "jobs").glob(f"{run['jobs'][0]['id'].replace('_', '-')}-*")
    return folder


async def _still(attempt: Path) -> None:
    claim = attempts.read_claim(str(attempt))
    assert claim is not None
    await eventually(lambda: localground.is_still(claim["pid"]))


async def test_a_suspended_run_goes_on_when_another_server_resumes_it(serve: Serve) -> None:
    async with serve() as server:
        run_id = (await server.start(await server.pipeline({"one": PATIENT, "two": "pass"})))["id"]
        await server.until(run_id, "LinesAdded")
        for _ in range(2):
            payload = await server.change("suspendRun", "run { state suspended }", id=run_id)
            assert payload == {"run": {"state": "RUNNING", "suspended": True}, "errors": []}
    async with serve() as server:
        found = await server.ask(STANDING, id=run_id)
        assert (found["state"], found["waitingFor"]) == ("RUNNING", {"code": "SUSPENDED"})
        attempt = _attempt(server, found)
        await _still(attempt)
        (attempt / "output" / "go").touch()
        payload = await server.change("resumeRun", "run { suspended waitingFor { code } }", id=run_id)
        assert payload == {"run": {"suspended": False, "waitingFor": None}, "errors": []}
        assert (await server.finish(run_id))["state"] == "SUCCEEDED"


async def test_a_suspended_run_is_cancelled_as_any(server: Server) -> None:
    run_id = (await server.start(await server.pipeline({"one": PATIENT})))["id"]
    await server.until(run_id, "LinesAdded")
    await server.change("suspendRun", "run { id }", id=run_id)
    await _still(_attempt(server, await server.ask(STANDING, id=run_id)))
    await server.change("cancelRun", "run { id }", id=run_id)
    ended = await server.finish(run_id)
    assert (ended["state"], ended["jobs"][0]["exitCode"]) == ("CANCELLED", -15)
    payload = await server.change("suspendRun", "run { state suspended }", id=run_id)
    assert payload == {"run": {"state": "CANCELLED", "suspended": False}, "errors": []}


async def test_what_does_not_exist_cannot_be_suspended(server: Server) -> None:
    payload = await server.change("suspendRun", "run { id }", id="run_00000000000000000000000000")
    assert payload["run"] is None and len(payload["errors"]) == 1
