"""`rungraph dataset`: parts from words, versions shown, and datasets in a run's start."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

DATASET = "dataset_" + "6" * 26
VERSION = "dataset_version_" + "7" * 26


def version(number: int = 1, state: str = "READY", **changed: Any) -> dict[str, Any]:
    column = {"name": "x", "type": "float", "nulls": 1, "min": 0.5, "max": None}
    part = {"name": "train", "fileCount": 1, "sizeBytes": 2048, "rows": 7}
    about = {"id": VERSION, "number": number, "digest": "d" * 64, "state": state, "message": None}
    counts = {"fileCount": 1, "sizeBytes": 2048, "rows": 7, "createdAt": objects.AT}
    return {**about, **counts, "columns": [column], "parts": [part], **changed}


def dataset(**changed: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"id": DATASET, "name": "cats", "description": "", "tags": {}, "deletedAt": None}
    return {**about, "createdAt": objects.AT, "version": version(), **changed}


def test_a_version_is_added_from_files_and_ids_and_shown_when_it_is_described(
    peer: Peer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rungraph.datasets.ASK_AGAIN_SECONDS", 0.0)
    answers = [dataset(), dataset(version=version(state="PROFILING")), dataset()]
    peer.fields["dataset"] = lambda **_: answers.pop(0)
    inputs: list[Any] = []

    def add(input: Any) -> Any:
        inputs.append(input)
        return {"version": version(state="PROFILING", rows=None), "errors": []}

    peer.fields["addDatasetVersion"] = add
    result = command(
        "dataset", "add", "cats", "--part", f"train={objects.FILE}", "--part", f"t={objects.FILE}"
    )
    assert (result.exit_code, answers) == (exits.OK, [])
    files = [objects.FILE]
    assert inputs[0]["parts"] == [{"name": "train", "files": files}, {"name": "t", "files": files}]
    assert result.stdout.splitlines() == [
        "cats version 1 READY",
        f"{VERSION}  {'d' * 16}",
        "train\t1\t2.0 KiB\t7",
        "x\tfloat\t1\t0.5\t",
    ]


def test_a_dataset_is_made_with_its_first_version(peer: Peer, command: Command, tmp_path: Path) -> None:
    inputs: list[Any] = []

    def create(input: Any) -> Any:
        inputs.append(input)
        return {"dataset": dataset(version=None), "errors": []}

    peer.fields["createDataset"] = create
    told = json.loads(command("dataset", "create", "cats", "--tag", "n=1", "--json").stdout)
    assert (told["id"], inputs[0]["tags"]) == (DATASET, {"n": 1})
    refused = command("dataset", "create", "cats", "--part", f"train={tmp_path / 'nothing'}")
    assert (refused.exit_code, "--part" in refused.stderr) == (exits.USAGE, True)


@pytest.mark.parametrize(
    ("word", "meant", "number"),
    [
        ("cats", {"dataset": DATASET, "parts": []}, None),
        ("cats:train,test", {"dataset": DATASET, "parts": ["train", "test"]}, None),
        ("cats@3:train", {"version": VERSION, "parts": ["train"]}, 3),
    ],
)
def test_a_run_is_started_on_datasets(
    peer: Peer, command: Command, word: str, meant: dict[str, Any], number: int | None
) -> None:
    inputs: list[Any] = []

    def start(input: Any) -> Any:
        inputs.append(input)
        return {"run": objects.run("QUEUED"), "errors": []}

    peer.fields |= {"dataset": dataset(), "pipeline": objects.pipeline(), "startRun": start}
    assert command("run", "start", "digits", "--dataset", word).exit_code == exits.OK
    assert inputs[0]["datasets"] == [meant]
    assert [given["number"] for field, given in peer.operations if field == "dataset"] == [number]


def test_datasets_are_listed_and_deleted(peer: Peer, command: Command) -> None:
    peer.fields["datasets"] = objects.connection([dataset(), dataset(name="new", version=None)])
    rows = [line.split("\t") for line in command("dataset", "list").stdout.splitlines()]
    assert [row[:5] for row in rows] == [["cats", "1", "1", "2.0 KiB", "7"], ["new", "none", "", "", ""]]
    peer.fields["dataset"] = dataset()
    peer.fields["deleteDataset"] = {"dataset": dataset(deletedAt=objects.AT), "errors": []}
    assert command("dataset", "delete", "cats").stdout == f"{DATASET} deleted\n"


def test_an_unknown_dataset_or_version_is_not_found(peer: Peer, command: Command) -> None:
    peer.fields["dataset"] = None
    assert command("dataset", "show", "cats").exit_code == exits.NOT_FOUND
    peer.fields["dataset"] = dataset(version=None)
    assert command("dataset", "show", "cats", "--version", "9").exit_code == exits.NOT_FOUND
