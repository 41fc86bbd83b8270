"""`rungraph limit`: what is asked, and how limits are told."""

from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

NOTHING = {"jobs": None, "slots": None, "cpus": None, "memoryBytes": None, "gpus": None}
USE = {"value": None, "jobs": 1, "slots": 2, "cpus": 0.5, "memoryBytes": 0, "gpus": 0}
QUOTA: dict[str, Any] = {
    **{"id": "limit_1", "project": {"id": "p", "name": "default"}, "backend": {"id": "b", "name": "local"}},
    **{"tag": None, **NOTHING, "jobs": 4, "memoryBytes": 1 << 36, "inUse": [USE]},
}
EACH: dict[str, Any] = {
    **{"id": "limit_2", "project": None, "backend": None, "tag": {"name": "user", "value": None}},
    **{**NOTHING, "cpus": 1.5, "inUse": [{**USE, "value": "anna"}, {**USE, "value": "bert"}]},
}


def test_limits_are_listed_with_what_is_held(peer: Peer, command: Command) -> None:
    peer.fields["limits"] = objects.connection([QUOTA, EACH])
    first, second = (line.split("\t") for line in command("limit", "list").stdout.splitlines())
    assert first == ["limit_1", "project default on local", "4 jobs, 64.0 GiB", "1 jobs, 0 B"]
    used = "anna: 0.5 CPUs; bert: 0.5 CPUs"
    assert second == ["limit_2", "all projects, each value of tag user", "1.5 CPUs", used]


def test_a_limit_is_set_as_it_is_said(peer: Peer, command: Command) -> None:
    peer.fields["setLimit"] = {"limit": QUOTA, "errors": []}
    peer.fields["backend"] = {"id": "b"}
    said = command("limit", "set", "--jobs", "4", "--memory", "64GiB", "--backend", "local").stdout
    assert said == "limit_1: project default on local may have 4 jobs, 64.0 GiB at once\n"
    wanted = {"jobs": 4, "memoryBytes": 1 << 36, "backend": "b"}
    assert peer.operations[-1] == ("setLimit", {"input": wanted})
    command("limit", "set", "--workers", "0", "--tag", "model=", "--all-projects")
    wanted = {"slots": 0, "tag": {"name": "model", "value": ""}, "allProjects": True}
    assert peer.operations[-1] == ("setLimit", {"input": wanted})
    command("limit", "set", "--gpus", "1", "--tag", "user", "--project", "p")
    assert peer.operations[-1] == (
        "setLimit",
        {"input": {"gpus": 1, "tag": {"name": "user"}, "project": "p"}},
    )


@pytest.mark.parametrize("wrong", [(), ("--memory", "much"), ("--jobs", "-1"), ("--tag", "a")])
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    peer: Peer, command: Command, wrong: tuple[str, ...]
) -> None:
    assert command("limit", "set", *wrong).exit_code == exits.USAGE
    assert peer.operations == []


def test_a_limit_is_removed(peer: Peer, command: Command) -> None:
    peer.fields["removeLimit"] = {"id": "limit_1", "errors": []}
    assert command("limit", "remove", "limit_1").stdout == "limit_1 removed\n"
