"""`rungraph run update`, `delete` and `cancel` of several: what is sent, and how refusals are told."""

import json
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

OTHER = "run_" + "9" * 26


def test_an_update_sends_what_is_said_and_nothing_else(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []
    updated = objects.run(notes="", archived=True, edition=1)

    def update(input: dict[str, Any]) -> dict[str, Any]:
        asked.append(input)
        return {"run": updated, "errors": []}

    peer.fields["updateRun"] = update
    result = command(
        "run", "update", objects.RUN, "--tag", "a=1", "--untag", "b", "--archive", "--edition", "0"
    )
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.RUN} RUNNING\n")
    tags = {"set": [{"name": "a", "value": "1"}], "remove": ["b"]}
    assert asked == [{"id": objects.RUN, "tags": tags, "archived": True, "edition": 0}]


def test_an_update_of_nothing_is_a_mistake(command: Command) -> None:
    assert command("run", "update", objects.RUN).exit_code == exits.USAGE


@pytest.mark.parametrize(
    ("verb", "field", "told"), [("delete", "deleteRuns", "deleted"), ("cancel", "cancelRuns", "CANCELLING")]
)
def test_several_at_once_are_told_one_by_one(
    peer: Peer, command: Command, verb: str, field: str, told: str
) -> None:
    done = {"id": objects.RUN} if verb == "delete" else {"run": objects.run("CANCELLING")}
    refused = objects.refusal("NOT_FOUND", "there is no such run", "input", "ids", "1")
    peer.fields[field] = {"results": [{**done, "errors": []}, refused], "errors": []}
    result = command("run", verb, objects.RUN, OTHER)
    assert result.stdout == f"{objects.RUN} {told}\n"
    assert (result.exit_code, f"{OTHER}: there is no such run" in result.stderr) == (exits.NOT_FOUND, True)
    rows = json.loads(command("--json", "run", verb, objects.RUN, OTHER).stdout)
    assert [(row["id"], len(row["errors"])) for row in rows][1] == (OTHER, 1)
