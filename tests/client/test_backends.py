"""`rungraph backend list`: what a place has, for people and for programs."""

import json
from typing import Any

from tests.client.conftest import Command
from tests.client.peer import Peer

GPU = {"index": 0, "name": "Imagined 9", "memoryBytes": 1 << 34}
CAN = {
    "needsContainer": False,
    "maxWorkers": 64,
    "suspends": True,
    "memory": "control groups, version 2",
    "cpus": None,
}
LOCAL: dict[str, Any] = {
    **{"id": "backend_1", "name": "local", "kind": "local", "scope": "HOST", "slots": 16, "cpus": 2.5},
    **{"memoryBytes": 1 << 33, "gpus": 1, "devices": [GPU], "capabilities": CAN},
}


def test_backends_are_listed_with_what_they_have(peer: Peer, command: Command) -> None:
    peer.fields["backends"] = [LOCAL, {**LOCAL, "name": "away", "devices": [], "capabilities": None}]
    first, second = command("backend", "list").stdout.splitlines()
    room = ["local", "16", "2.5", "8.0 GiB"]
    assert first.split("\t") == ["local", *room, "Imagined 9", "memory: control groups, version 2"]
    assert second.split("\t") == ["away", *room, "1", ""]


def test_backends_are_json_when_asked(peer: Peer, command: Command) -> None:
    peer.fields["backends"] = [LOCAL]
    assert json.loads(command("backend", "list", "--json").stdout) == [LOCAL]
