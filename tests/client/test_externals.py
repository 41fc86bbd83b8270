"""`rungraph run create` and `finish`: runs whose code is launched elsewhere."""

import json
from typing import Any

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


def test_a_created_run_is_printed_with_its_token(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []

    def create(input: dict[str, Any]) -> dict[str, Any]:
        asked.append(input)
        return {"run": objects.run(), "job": objects.job("main"), "token": "t", "errors": []}

    peer.fields["createRun"] = create
    result = command("run", "create", "outside", "--heartbeat", "5s", "--tag", "a")
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.RUN}\t{objects.JOB}\tt\n")
    assert json.loads(command("--json", "run", "create", "outside").stdout)["token"] == "t"
    first, second = asked
    assert (first["name"], first["heartbeatSeconds"], first["tags"]) == (
        "outside",
        5,
        [{"name": "a", "value": ""}],
    )
    assert first["idempotencyKey"] != second["idempotencyKey"]


def test_finishing_tells_how(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []

    def finish(input: dict[str, Any]) -> dict[str, Any]:
        asked.append(input)
        return {"run": objects.run("FAILED"), "errors": []}

    peer.fields |= {"run": objects.run(), "finishRun": finish}
    result = command("run", "finish", objects.RUN, "--state", "failed", "--exit-code", "3", "--message", "no")
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.RUN} FAILED\n")
    assert asked == [{"job": objects.JOB, "state": "FAILED", "exitCode": 3, "message": "no"}]
