"""`rungraph backend list` and `show`: what a place has and holds, for people and for programs."""

import json
from typing import Any

from rungraph import exits
from tests.client import objects
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
    "capacity": {"slots": 16, "cpus": 2.5, "memoryBytes": 1 << 33, "gpus": 1},
    "inUse": {"slots": 3, "cpus": 0.5, "memoryBytes": 1 << 20, "gpus": 1},
    **{"runningJobs": 2, "health": "OK", "unavailableSince": None, "lastError": None, "lastErrorAt": None},
}
AWAY = {
    **LOCAL,
    **{"name": "away", "health": "UNAVAILABLE", "devices": [], "capabilities": None},
    **{"unavailableSince": objects.AT, "lastError": "no route\x1b[2J to host", "lastErrorAt": objects.AT},
}


def test_backends_are_listed_with_what_they_have(peer: Peer, command: Command) -> None:
    peer.fields["backends"] = [LOCAL, AWAY]
    first, second = command("backend", "list").stdout.splitlines()
    room = ["3 of 16", "0.5 of 2.5", "1.0 MiB of 8.0 GiB", "1 of 1"]
    assert first.split("\t") == ["local", "local", "OK", *room]
    assert second.split("\t") == ["away", "local", "UNAVAILABLE", *room]


def test_a_backend_is_shown_with_its_last_error(peer: Peer, command: Command) -> None:
    peer.fields["backend"] = lambda name: {"local": LOCAL, "away": AWAY}.get(name)
    assert "memory kept by: control groups, version 2" in command("backend", "show", "local").stdout
    shown = command("backend", "show", "away").stdout
    assert "health: UNAVAILABLE" in shown and "no route to host" in shown
    assert "\x1b" not in shown
    assert command("backend", "show", "none").exit_code == exits.NOT_FOUND


def test_backends_are_json_when_asked(peer: Peer, command: Command) -> None:
    peer.fields["backends"] = [LOCAL]
    assert json.loads(command("backend", "list", "--json").stdout) == [LOCAL]
