"""`rungraph pipeline`: from words or a file to steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits, pipelines
from rungraph.errors import BadUsage
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

STEPS = [
    {"name": "split", "function": "digits/split"},
    {"name": "train", "function": "digits/train", "arguments": {"epochs": 5}},
    {"name": "evaluate", "function": "digits/evaluate", "needs": ["split", "train"]},
]
YAML = """
description: from a file
steps:
  - {name: split, function: digits/split}
  - {name: train, function: digits/train, arguments: {epochs: 5}}
  - {name: evaluate, function: digits/evaluate, needs: [split, train]}
"""


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


@pytest.mark.parametrize(("suffix", "text"), [("yaml", YAML), ("json", json.dumps({"steps": STEPS}))])
def test_steps_come_from_a_file(
    command: Command, created: list[dict[str, Any]], tmp_path: Path, suffix: str, text: str
) -> None:
    path = tmp_path / f"pipeline.{suffix}"
    path.write_text(text)
    result = command(
        "pipeline", "create", "digits", "--file", str(path), "--set", "split.share=0.2", "--json"
    )
    assert json.loads(result.stdout)["id"] == objects.PIPELINE
    steps = created[0]["steps"]
    assert steps[0]["arguments"] == {"share": 0.2}
    assert steps[1]["arguments"] == {"epochs": 5}
    assert created[0]["description"] == ("from a file" if suffix == "yaml" else "")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"steps": 1}', '{"steps": [{"name": "a"}]}', '{"steps": ["a"]}']
)
def test_a_file_that_is_no_pipeline_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipeline.json"
    path.write_text(text)
    with pytest.raises(BadUsage, match=r"pipeline\.json: "):
        pipelines.read(path)


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
