"""`rungraph module versions|use|diff|remove`."""

import json
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

CHANGES: dict[str, Any] = {
    "changes": [],
    "functionsAdded": ["new"],
    "functionsRemoved": ["old"],
    "functionsChanged": [
        {
            "name": "train",
            "changes": [{"field": "command", "before": ["a"], "after": ["b"]}],
            "optionsAdded": ["seed"],
            "optionsRemoved": [],
            "optionsChanged": [
                {"name": "epochs", "changes": [{"field": "default", "before": 3, "after": None}]}
            ],
        }
    ],
}


@pytest.fixture(autouse=True)
def digits(peer: Peer) -> None:
    """A module with two versions, the second in use."""
    times = {"createdAt": objects.AT}
    two = {**objects.version("READY"), **times, "changesFrom": CHANGES}
    one = {**two, "id": "w", "number": 1, "commit": "0123456789abcdef", "preparations": [{"state": "FAILED"}]}
    module = {"id": "m", "name": "digits", "activeVersion": two, "removedAt": None}
    module["versions"] = objects.connection([two, one])
    peer.fields["module"] = lambda id=None, name=None: (
        module if "m" in (id, "m" if name == "digits" else "") else None
    )
    peer.fields["node"] = two
    peer.fields["activateModuleVersion"] = lambda input: {
        "version": {"id": input["id"], "number": 1, "module": module},
        "errors": [],
    }


def test_versions_are_listed_and_the_one_in_use_has_a_star(command: Command) -> None:
    rows = [line.split("\t") for line in command("module", "versions", "digits").stdout.splitlines()]
    assert [row[:4] for row in rows] == [
        ["2*", "READY", "/src", ""],
        ["1", "FAILED", "/src", "0123456789ab"],
    ]
    listed = json.loads(command("module", "versions", "digits", "--json").stdout)
    assert [version["active"] for version in listed] == [True, False]


def test_an_older_version_is_chosen_by_its_number(peer: Peer, command: Command) -> None:
    assert command("module", "use", "digits", "1").stdout == "new runs use digits version 1\n"
    assert peer.operations[-1] == ("activateModuleVersion", {"input": {"id": "w"}})
    assert command("module", "use", "digits", "7").exit_code == exits.NOT_FOUND


def test_a_difference_is_told_line_by_line(command: Command) -> None:
    assert command("module", "diff", "digits", "1").stdout.splitlines() == [
        "+ function new",
        "- function old",
        "~ function train",
        '    ~ command ["a"] → ["b"]',
        "    + option seed",
        "    ~ option epochs: default 3 → null",
    ]
    assert json.loads(command("module", "diff", "digits", "1", "2", "--json").stdout) == CHANGES


def test_versions_that_differ_in_files_alone_are_not_told_to_be_the_same(
    peer: Peer, command: Command
) -> None:
    nothing: dict[str, Any] = {field: [] for field in CHANGES}
    peer.fields["node"] = {**peer.fields["node"], "changesFrom": nothing}
    told = [command("module", "diff", "digits", "2", number).stdout for number in ("1", "2")]
    assert told == ["the same functions and options; files differ\n", "no difference\n"]


def test_a_module_is_removed_and_whom_that_concerns_is_told(peer: Peer, command: Command) -> None:
    removed = {"module": {"id": "m", "name": "digits", "removedAt": objects.AT}, "pipelines": ["p"]}
    peer.fields["removeModule"] = {**removed, "errors": []}
    result = command("module", "remove", "digits", "--force")
    assert result.stdout.splitlines() == [
        "digits is removed",
        "pipeline p has steps that now find no function",
    ]
    assert peer.operations[-1] == ("removeModule", {"input": {"id": "m", "insist": True}})


def test_a_refusal_is_a_message_and_a_code(peer: Peer, command: Command) -> None:
    refusal = objects.refusal("CONFLICT", "pipelines use digits: p", "module")
    peer.fields["removeModule"] = {**refusal, "pipelines": []}
    result = command("module", "remove", "digits")
    assert (result.exit_code, "pipelines use digits: p" in result.stderr) == (exits.FAILED, True)
    assert command("module", "remove", "other").exit_code == exits.NOT_FOUND
