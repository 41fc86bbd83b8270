"""`rungraph pipeline`: from words to steps, from a file to the server."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

STEPS = [
    {"name": "split", "function": "digits/split"},
    {"name": "train", "function": "digits/train", "arguments": {"epochs": 5}},
    {"name": "evaluate", "function": "digits/evaluate", "needs": ["split", "train"]},
]


@pytest.fixture
def created(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer create pipelines; what it is asked to create."""
    inputs: list[dict[str, Any]] = []

    def create(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append(input)
        return {"pipeline": objects.pipeline(input["name"]), "errors": []}

    peer.fields["createPipeline"] = create
    return inputs


def test_steps_arguments_and_needs_come_from_the_line(
    command: Command, created: list[dict[str, Any]]
) -> None:
    result = command(
        *("pipeline", "create", "digits", "--step", "split=digits/split", "--step", "train=digits/train"),
        *("--step", "evaluate=digits/evaluate", "--set", "train.epochs=5", "--needs", "evaluate=split,train"),
    )
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.PIPELINE} digits\n")
    assert created[0]["name"] == "digits"
    assert [{k: v for k, v in step.items() if v not in ({}, False)} for step in created[0]["steps"]] == STEPS


def test_a_step_that_is_not_there_is_refused(command: Command, created: list[dict[str, Any]]) -> None:
    result = command("pipeline", "create", "p", "--step", "a=m/f", "--needs", "b=a")
    assert (result.exit_code, created) == (exits.USAGE, [])
    assert "no step “b”; there are: a" in result.stderr


def test_a_refusal_shows_where(peer: Peer, command: Command) -> None:
    peer.fields["createPipeline"] = objects.refusal("INVALID", "no such function", "steps", "0", "function")
    result = command("pipeline", "create", "p", "--step", "a=m/f")
    assert result.exit_code == exits.FAILED
    assert "steps.0.function: no such function" in result.stderr


def test_a_list_shows_their_steps(peer: Peer, command: Command) -> None:
    peer.fields["pipelines"] = objects.connection([objects.pipeline()])
    assert command("pipeline", "list").stdout.startswith("digits\t1\ttrain=digits/train\t")
    (pipeline,) = json.loads(command("pipeline", "list", "--json").stdout)
    assert pipeline["revision"]["steps"] == [{"name": "train", "address": "digits/train"}]


def test_an_earlier_revision_is_found_pages_away_and_written_to_a_file(
    peer: Peer, command: Command, tmp_path: Path
) -> None:
    pages = {
        None: objects.connection([{"id": "r3", "number": 3, "yaml": "name: c\n"}], "next"),
        "next": objects.connection([{"id": "r1", "number": 1, "yaml": "name: a\n"}]),
    }
    revisions = {"revisions": lambda _, after, **__: pages[after]}
    peer.fields["pipeline"] = {**objects.pipeline(), **revisions}
    path = tmp_path / "a.yaml"
    result = command("pipeline", "export", "digits", "--revision", "1", "--output", str(path))
    assert (result.exit_code, path.read_text()) == (exits.OK, "name: a\n")
    assert command("pipeline", "export", "digits").stdout == "name: c\n"
    result = command("pipeline", "export", "digits", "--revision", "2")
    assert (result.exit_code, "no revision 2" in result.stderr) == (exits.NOT_FOUND, True)


TEXT = "name: digits\nsteps:\n- name: train\n  function: digits/train\n"


@pytest.fixture
def whole(peer: Peer) -> dict[str, list[dict[str, Any]]]:
    """Has the peer do what is done to whole pipelines; what it is asked, by mutation."""
    asked: dict[str, list[dict[str, Any]]] = {}

    def answering(field: str) -> Any:
        def answer(input: dict[str, Any]) -> dict[str, Any]:
            asked.setdefault(field, []).append(input)
            done = objects.pipeline(input.get("name") or "digits")
            return {"pipeline": {**done, "deletedAt": None}, "errors": []}

        return answer

    pages = {
        None: objects.connection([_revision(3), _revision(2)], cursor="older"),
        "older": objects.connection([_revision(1)]),
    }

    def revisions(_info: Any, **asked: Any) -> dict[str, Any]:
        return pages[asked["after"]]

    peer.fields["pipeline"] = {**objects.pipeline(), "revisions": revisions}
    peer.fields |= {
        field: answering(field) for field in ("importPipeline", "clonePipeline", "deletePipeline")
    }
    return asked


def _revision(number: int) -> dict[str, Any]:
    return {"id": f"revision_{number}", "number": number, "yaml": f"# {number}\n{TEXT}"}


@pytest.mark.parametrize(("options", "number"), [((), 3), (("--revision", "1"), 1)])
def test_a_revision_is_exported_to_the_screen_or_a_file(
    command: Command, whole: Any, tmp_path: Path, options: tuple[str, ...], number: int
) -> None:
    text = f"# {number}\n{TEXT}"
    assert command("pipeline", "export", "digits", *options).stdout == text
    told = json.loads(command("pipeline", "export", "digits", *options, "--json").stdout)
    assert told == {"id": objects.PIPELINE, "name": "digits", "yaml": text}
    result = command("pipeline", "export", "digits", *options, "--output", str(tmp_path / "d.yaml"))
    assert (result.stdout, (tmp_path / "d.yaml").read_text()) == ("", text)


def test_a_revision_that_is_not_there_is_not_found(command: Command, whole: Any) -> None:
    result = command("pipeline", "export", "digits", "--revision", "9")
    assert (result.exit_code, result.stderr) == (exits.NOT_FOUND, "there is no revision 9\n")


def test_a_file_is_imported_as_it_is(command: Command, whole: Any, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(TEXT)
    result = command("pipeline", "import", str(tmp_path / "d.yaml"), "--name", "mine", "--replace")
    assert (result.exit_code, result.stdout) == (exits.OK, f"{objects.PIPELINE} mine\n")
    assert whole == {"importPipeline": [{"yaml": TEXT, "name": "mine", "replace": True}]}
    assert command("pipeline", "import", str(tmp_path / "nothing")).exit_code == exits.USAGE


def test_a_refused_import_shows_every_mistake(peer: Peer, command: Command, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(TEXT)
    lines = [f"line {number}: no" for number in (2, 3)]
    errors = [objects.refusal("INVALID", line, "input", "yaml")["errors"][0] for line in lines]
    peer.fields["importPipeline"] = {"pipeline": None, "errors": errors}
    result = command("pipeline", "import", str(tmp_path / "d.yaml"))
    assert result.exit_code == exits.FAILED
    assert result.stderr.splitlines() == [f"input.yaml: {line}" for line in lines]


def test_a_pipeline_is_cloned_from_a_revision_and_deleted(command: Command, whole: Any) -> None:
    assert command("pipeline", "clone", "digits", "copy", "--revision", "2").stdout.endswith(" copy\n")
    assert command("pipeline", "clone", "digits", "latest").exit_code == exits.OK
    assert command("pipeline", "delete", "digits").exit_code == exits.OK
    assert whole == {
        "clonePipeline": [
            {"id": objects.PIPELINE, "name": "copy", "revision": "revision_2"},
            {"id": objects.PIPELINE, "name": "latest"},
        ],
        "deletePipeline": [{"id": objects.PIPELINE}],
    }


def test_a_pipeline_in_use_is_not_deleted(peer: Peer, command: Command, whole: Any) -> None:
    why = "the schedule 'nightly' uses it: delete that first"
    peer.fields["deletePipeline"] = objects.refusal("CONFLICT", why, "input", "id")
    result = command("pipeline", "delete", "digits")
    assert (result.exit_code, result.stderr) == (exits.FAILED, f"input.id: {why}\n")
