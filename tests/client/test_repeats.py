"""`rungraph run retry` and `rerun`: what is asked for."""

from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


@pytest.fixture
def asked(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer repeat runs; what it is asked for."""
    inputs: list[dict[str, Any]] = []

    def repeat(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append(input)
        return {"run": objects.run("QUEUED"), "errors": []}

    peer.fields |= {"retryRun": repeat, "rerunRun": repeat}
    return inputs


def test_a_retry_keeps_what_succeeded_unless_told(command: Command, asked: list[dict[str, Any]]) -> None:
    result = command("run", "retry", objects.RUN, "--key", "k")
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.RUN} QUEUED\n")
    command("run", "retry", objects.RUN, "--from", "start")
    assert asked[0] == {"id": objects.RUN, "from": "FAILURE", "idempotencyKey": "k"}
    assert asked[1]["from"] == "START"
    assert asked[1]["idempotencyKey"] not in ("", "k")


def test_a_rerun_sends_the_changes_alone(command: Command, asked: list[dict[str, Any]]) -> None:
    command(
        "run", "rerun", objects.RUN, "--set", "train.epochs=5", "--latest", "--only-set", "--priority", "2"
    )
    command("run", "rerun", objects.RUN)
    arguments = [{"step": "train", "arguments": {"epochs": 5}}]
    assert (asked[0]["arguments"], asked[0]["revision"]) == (arguments, "LATEST")
    assert (asked[0]["replaceArguments"], asked[0]["priority"]) == (True, 2)
    defaults = {"arguments": [], "resources": [], "cache": True}
    assert asked[1].keys() - defaults == {"id", "revision", "replaceArguments", "idempotencyKey"}
    assert defaults.items() <= asked[1].items()


def test_a_rerun_takes_other_resources_and_no_outputs(command: Command, asked: list[dict[str, Any]]) -> None:
    words = (
        "--ask",
        "train.gpus=2",
        "--retry",
        "LOST=0",
        "--no-cache",
        "--tag",
        "try=2",
        "--backend",
        "engine",
    )
    command("run", "rerun", objects.RUN, *words)
    assert asked[0]["backend"] == "engine"
    assert asked[0]["resources"] == [{"step": "train", "gpus": 2}]
    assert asked[0]["retry"] == [{"reason": "LOST", "times": 0, "memoryFactor": 1.0}]
    assert (asked[0]["cache"], asked[0]["tags"]) == (False, [{"name": "try", "value": "2"}])
