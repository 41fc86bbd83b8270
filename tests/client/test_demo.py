"""`rungraph demo` against a server that listens already."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from graphql import parse, validate
from typer.testing import CliRunner

from rungraph import child, demo, exits
from rungraph.command import app
from tests.client import objects
from tests.client.peer import SCHEMA, TOKEN, Peer


@pytest.fixture
def stage(peer: Peer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A peer that plays the whole demonstration, and a repository with an example."""
    (home / "token").write_text(TOKEN)
    (tmp_path / "examples" / "digits").mkdir(parents=True)
    monkeypatch.setattr(child, "repository", lambda: tmp_path)
    outputs = [{"id": objects.FILE, "name": "model.npz", "sizeBytes": 2048}]
    jobs = [objects.job("train", "SUCCEEDED", outputs=outputs)]
    metrics = [{"name": "accuracy", "last": 0.987654321, "lastStep": 30}]
    peer.fields |= {
        "viewer": {"kind": "ADMINISTRATOR"},
        "installModule": {"version": objects.version("FETCHING"), "errors": []},
        "node": objects.version("READY"),
        "pipeline": None,
        "createPipeline": {"pipeline": objects.pipeline(), "errors": []},
        "startRun": {"run": objects.run("QUEUED"), "errors": []},
        "createLoginLink": lambda input: {"path": input["then"], "expiresAt": objects.AT, "errors": []},
        "run": objects.run("SUCCEEDED", jobs, metrics=metrics),
    }
    peer.feeds |= {"moduleVersion": objects.events(), "run": objects.events()}
    return peer


def show(peer: Peer, *arguments: str) -> Any:
    port = str(urlsplit(peer.url).port)
    return CliRunner().invoke(app, ["demo", "--exit", "--port", port, *arguments], catch_exceptions=False)


def test_it_installs_creates_starts_watches_and_sums_up(stage: Peer, tmp_path: Path) -> None:
    result = show(stage)
    assert result.exit_code == exits.OK
    assert f"{objects.FILE}\tmodel.npz\t2.0 KiB\ttrain" in result.stdout
    assert "accuracy\t0.987654\t30" in result.stdout
    done = dict(stage.operations)
    assert done["installModule"] == {"input": {"source": str(tmp_path / "examples" / "digits")}}
    assert [step["function"] for step in done["createPipeline"]["input"]["steps"]] == [
        "digits/split",
        "digits/train",
        "digits/evaluate",
    ]
    assert done["startRun"]["input"]["pipeline"] == objects.PIPELINE


def test_the_link_opens_a_subscription_that_fits_the_schema(stage: Peer) -> None:
    told = [json.loads(line) for line in show(stage, "--json").stdout.splitlines()]
    (url,) = [line["url"] for line in told if line["type"] == "Explorer"]
    opened = parse_qs(urlsplit(url).fragment)
    assert json.loads(opened["variables"][0]) == {"run": objects.RUN, "after": 0}
    assert opened["query"] == [demo.EXPLORE]
    assert validate(SCHEMA, parse(demo.EXPLORE)) == []


def test_a_pipeline_that_is_there_is_used(stage: Peer) -> None:
    stage.fields["pipeline"] = objects.pipeline()
    assert show(stage).exit_code == exits.OK
    assert "createPipeline" not in dict(stage.operations)


def test_a_run_that_failed_is_a_failure(stage: Peer) -> None:
    stage.fields["run"] = objects.run("FAILED")
    assert show(stage).exit_code == exits.FAILED


def test_a_module_that_failed_ends_it_before_a_run(stage: Peer) -> None:
    stage.fields["node"] = objects.version("FAILED", message="no network")
    result = show(stage)
    assert (result.exit_code, "no network" in result.stdout) == (exits.FAILED, True)
    assert "startRun" not in dict(stage.operations)


def test_it_gives_up_in_time(stage: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "WORK_SECONDS", 0.0)
    result = show(stage)
    assert (result.exit_code, "did not end within" in result.stderr) == (exits.FAILED, True)
