"""`rungraph source`: made known, changed, fetched, and given to runs."""

import json
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

SOURCE_ID = "data_source_" + "8" * 26
FETCH_ID = "data_fetch_" + "9" * 26


def source(**changed: Any) -> dict[str, Any]:
    about = {"id": SOURCE_ID, "name": "web", "url": "https://example.org/a.csv", "secret": "TOKEN"}
    return {**about, "description": "", "createdAt": objects.AT, "deletedAt": None, **changed}


def fetch(state: str, **changed: Any) -> dict[str, Any]:
    about = {"__typename": "DataFetch", "id": FETCH_ID, "state": state, "message": None, "url": "https://x"}
    return {**about, "doneBytes": 0, "totalBytes": None, "file": None, **changed}


def test_a_source_is_made_known_changed_and_deleted(peer: Peer, command: Command) -> None:
    inputs: list[Any] = []

    def take(input: Any) -> Any:
        inputs.append(input)
        return {"source": source(), "errors": []}

    peer.fields |= {"createDataSource": take, "updateDataSource": take, "deleteDataSource": take}
    peer.fields["dataSource"] = source()
    made = command("source", "create", "web", "https://example.org/a.csv", "--secret", "TOKEN")
    assert (made.exit_code, made.stdout) == (exits.OK, f"{SOURCE_ID} web\n")
    assert command("source", "update", "web", "--secret", "").exit_code == exits.OK
    assert command("source", "delete", "web").stdout == f"{SOURCE_ID} deleted\n"
    assert inputs[0]["secret"] == "TOKEN"
    assert (inputs[1]["id"], inputs[1]["secret"], inputs[1].get("url")) == (SOURCE_ID, "", None)


@pytest.mark.parametrize(
    ("ended", "told", "code"),
    [
        (
            fetch("READY", file={"id": objects.FILE, "name": "a.csv", "sizeBytes": 7, "sha256": "d"}),
            f"{objects.FILE}\ta.csv\t7 B\n",
            exits.OK,
        ),
        (fetch("FAILED", message="answered 404"), f"{FETCH_ID} FAILED: answered 404\n", exits.FAILED),
    ],
)
def test_a_fetch_is_waited_for(peer: Peer, command: Command, ended: Any, told: str, code: int) -> None:
    peer.feeds["dataFetch"] = [fetch("FETCHING", seq=1), {**ended, "seq": 2}]
    peer.fields["dataSource"] = source()
    peer.fields["fetchDataSource"] = {"fetch": fetch("FETCHING"), "errors": []}
    result = command("source", "fetch", "web")
    assert (result.exit_code, result.stdout) == (code, told)
    assert command("source", "fetch", "web", "--no-wait").stdout == f"{FETCH_ID} FETCHING\n"


def test_a_fetch_is_cancelled(peer: Peer, command: Command) -> None:
    peer.fields["cancelDataFetch"] = {"fetch": fetch("CANCELLED"), "errors": []}
    assert command("source", "cancel", FETCH_ID).stdout == f"{FETCH_ID} CANCELLED\n"
    assert peer.operations[-1] == ("cancelDataFetch", {"input": {"id": FETCH_ID}})


def test_sources_are_listed_and_unknown_ones_not_found(peer: Peer, command: Command) -> None:
    peer.fields["dataSources"] = objects.connection([source()])
    assert command("source", "list").stdout.split("\t")[:3] == ["web", "https://example.org/a.csv", "TOKEN"]
    assert json.loads(command("source", "list", "--json").stdout)[0]["id"] == SOURCE_ID
    peer.fields["dataSource"] = None
    assert command("source", "fetch", "web").exit_code == exits.NOT_FOUND


def test_a_run_is_started_with_sources_passed_through(peer: Peer, command: Command) -> None:
    inputs: list[Any] = []

    def start(input: Any) -> Any:
        inputs.append(input)
        return {"run": objects.run("QUEUED"), "errors": []}

    peer.fields |= {"dataSource": source(), "pipeline": objects.pipeline(), "startRun": start}
    assert command("run", "start", "digits", "--source", "web").exit_code == exits.OK
    assert inputs[0]["sources"] == [SOURCE_ID]
