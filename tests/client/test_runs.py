"""`rungraph run`: what is sent, and what is shown of what comes back."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

POINTS = {
    "step": "train",
    "series": [
        {
            "name": "loss",
            "rank": 0,
            "attempt": 1,
            "steps": [1, 2],
            "times": [1, 2],
            "values": [0.5, None],
            "nonFinite": [{"index": 1, "kind": "NAN"}],
        },
        {
            "name": "system/cpu_cores",
            "rank": 0,
            "attempt": 1,
            "steps": [0],
            "times": [3],
            "values": [0.9],
            "nonFinite": [],
        },
    ],
}


@pytest.fixture
def started(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer start runs of “digits”; what it is asked to start."""
    inputs: list[dict[str, Any]] = []

    def start(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append(input)
        return {"run": objects.run("QUEUED"), "errors": []}

    peer.fields |= {"pipeline": objects.pipeline(), "startRun": start}
    return inputs


def script_end(peer: Peer, state: str) -> None:
    """Has a run go on for four events and end."""
    outputs = [{"id": objects.FILE, "name": "model.pt", "sizeBytes": 2048}]
    ended = objects.run(
        state, [objects.job("train", state, endedAt=objects.LATER, exitCode=3, outputs=outputs)], seq=10
    )
    readings = [objects.run(), ended]
    peer.fields["run"] = lambda id: readings.pop(0)
    changed = {"step": "train", "jobState": state, "reason": "EXIT_CODE", "message": "exit code 3"}
    peer.feeds["run"] = objects.events(
        ("LinesAdded", {"step": "train", "lines": [objects.line("one"), objects.line("two", "STDERR")]}),
        ("PointsAdded", POINTS),
        ("JobChanged", changed),
        ("RunChanged", {"runState": state}),
    )


def test_a_run_starts_with_all_that_is_said(command: Command, started: list[dict[str, Any]]) -> None:
    result = command(
        *("run", "start", "digits", "--set", "train.epochs=5", "--set", "train.rule=adam"),
        *("--file", objects.FILE, "--tag", "team=a", "--tag", "best", "--name", "first", "--priority", "3"),
        *("--key", "k", "--retry", "EXIT_CODE=3", "--fail-fast", "--backend", "engine", "--json"),
    )
    assert (result.exit_code, json.loads(result.stdout)["id"]) == (exits.OK, objects.RUN)
    wanted = {
        "pipeline": objects.PIPELINE,
        "idempotencyKey": "k",
        "name": "first",
        "priority": 3,
        "failFast": True,
        "backend": "engine",
        "arguments": [{"step": "train", "arguments": {"epochs": 5, "rule": "adam"}}],
        "retry": [{"reason": "EXIT_CODE", "times": 3, "memoryFactor": 1.0}],
        "files": [objects.FILE],
        "tags": [{"name": "team", "value": "a"}, {"name": "best", "value": ""}],
    }
    assert [{name: asked[name] for name in wanted} for asked in started] == [wanted]


def test_a_run_without_a_key_gets_one_of_its_own(command: Command, started: list[dict[str, Any]]) -> None:
    assert command("run", "start", "digits").stdout == f"{objects.RUN} QUEUED\n"
    command("run", "start", objects.PIPELINE)
    first, second = (wanted["idempotencyKey"] for wanted in started)
    assert first
    assert first != second


def test_a_file_that_is_here_is_uploaded(
    peer: Peer, command: Command, started: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = {"id": objects.FILE, "name": "a", "state": "READY", "mediaType": "", "sizeBytes": 1, "sha256": ""}
    peer.fields["createUpload"] = {"file": file, "upload": {"url": "/contents/a"}, "errors": []}
    peer.fields["completeUpload"] = {"file": file, "errors": []}
    (tmp_path / "a").write_bytes(b"x")
    assert command("run", "start", "digits", "--file", str(tmp_path / "a")).exit_code == exits.OK
    assert started[0]["files"] == [objects.FILE]
    assert peer.uploaded == {"a": b"x"}


def test_a_file_that_is_nowhere_ends_it_before_anything_starts(
    command: Command, started: list[dict[str, Any]]
) -> None:
    assert command("run", "start", "digits", "--file", "nowhere").exit_code == exits.USAGE
    assert started == []


def test_an_unknown_pipeline_is_not_found(peer: Peer, command: Command) -> None:
    peer.fields["pipeline"] = None
    result = command("run", "start", "nothing")
    assert (result.exit_code, "no pipeline “nothing”" in result.stderr) == (exits.NOT_FOUND, True)


@pytest.mark.parametrize(
    ("state", "code"), [("SUCCEEDED", exits.OK), ("FAILED", exits.FAILED), ("CANCELLED", exits.FAILED)]
)
def test_watching_tells_lines_states_the_end_and_metrics_but_usage(
    peer: Peer, command: Command, state: str, code: int
) -> None:
    script_end(peer, state)
    result = command("run", "watch", objects.RUN)
    assert result.exit_code == code
    assert result.stdout.splitlines() == [
        f"{objects.RUN} digits 1: RUNNING",
        "train: RUNNING",
        "train │ one",
        "train │ two",
        "train: loss nan  (step 2)",
        f"train: {state} in 3.0 s: EXIT_CODE (exit code 3)",
        f"{objects.FILE}\tmodel.pt\t2.0 KiB\ttrain",
        f"{objects.RUN} {state} in 3.0 s: train exited with 3",
    ]
    assert ("run", {"run": objects.RUN, "after": 6}) in peer.operations


def test_what_was_reused_is_told_with_its_run(peer: Peer, command: Command) -> None:
    source = {"id": objects.JOB, "step": "train", "run": {"id": "run_before"}}
    taken = objects.job("train", "SUCCEEDED", startedAt=None, reusedFrom=source)
    waiting = objects.job("test", "WAITING", startedAt=None)
    readings = [objects.run(jobs=[taken, waiting]), objects.run("SUCCEEDED", [taken])]
    peer.fields["run"] = lambda id: readings.pop(0)
    changed = {"step": "test", "jobState": "SUCCEEDED", "reason": "COMPLETED", "message": None}
    peer.feeds["run"] = objects.events(("JobChanged", {**changed, "job": {"reusedFrom": source}}))
    lines = command("run", "watch", objects.RUN).stdout.splitlines()
    assert "train: SUCCEEDED, reused from run_before" in lines
    assert "test: SUCCEEDED, reused from run_before" in lines
    peer.fields["runs"] = objects.connection([objects.run("SUCCEEDED", [taken])])
    (listed,) = json.loads(command("run", "list", "--json").stdout)
    assert listed["jobs"] == [{"step": "train", "state": "SUCCEEDED", "reusedFrom": source}]


def test_watching_as_json_is_a_line_an_event(peer: Peer, command: Command) -> None:
    script_end(peer, "SUCCEEDED")
    result = command("--json", "run", "watch", objects.RUN)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = ["Run", "LinesAdded", "PointsAdded", "JobChanged", "RunChanged", "Run"]
    assert [event["type"] for event in told] == kinds
    assert [event["state"] for event in told if "state" in event] == ["RUNNING", *["SUCCEEDED"] * 3]
    assert [event["seq"] for event in told[1:5]] == [7, 8, 9, 10]
    assert told[1]["step"] == "train"
    assert result.stderr == ""


def test_starting_and_watching_is_one_command(
    peer: Peer, command: Command, started: list[dict[str, Any]]
) -> None:
    script_end(peer, "FAILED")
    result = command("run", "start", "digits", "--watch")
    assert (result.exit_code, len(started)) == (exits.FAILED, 1)


def test_an_unknown_run_is_not_found(peer: Peer, command: Command) -> None:
    peer.fields["run"] = None
    assert command("run", "watch", objects.RUN).exit_code == exits.NOT_FOUND
    assert command("run", "logs", objects.RUN).exit_code == exits.NOT_FOUND


def test_a_list_asks_for_what_is_chosen_page_by_page(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []

    def page(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        nodes = [objects.run(id=f"run_{number}") for number in range(arguments["first"])]
        return objects.connection(nodes, cursor="next")

    peer.fields |= {"runs": page, "pipeline": objects.pipeline()}
    result = command(
        *("run", "list", "--state", "failed", "--state", "RUNNING", "--pipeline", "digits"),
        *("--tag", "a=b", "--limit", "130", "--json"),
    )
    assert len(json.loads(result.stdout)) == 130
    chosen = {
        "states": ["FAILED", "RUNNING"],
        "pipeline": objects.PIPELINE,
        "tags": [{"name": "a", "value": "b"}],
    }
    assert asked == [
        {"filter": chosen, "first": 100},
        {"filter": chosen, "first": 30, "after": "next"},
    ]


def test_a_list_in_a_pipe_is_tab_separated(peer: Peer, command: Command) -> None:
    peer.fields["runs"] = objects.connection([objects.run(name="a\tb\x1b[1m")])
    row = command("run", "list").stdout.rstrip("\n").split("\t")
    assert row[:4] == [objects.RUN, "a b", "RUNNING", "digits"]
    assert row[5] == "3.0 s"


def test_cancelling_says_how_long_to_wait(peer: Peer, command: Command) -> None:
    peer.fields["cancelRun"] = {"run": objects.run("CANCELLING"), "errors": []}
    assert command("run", "cancel", objects.RUN, "--grace", "2.5s").stdout == f"{objects.RUN} CANCELLING\n"
    assert peer.operations == [
        ("cancelRun", {"input": {"id": objects.RUN, "graceSeconds": 2.5, "cascade": False}})
    ]


def test_an_unknown_step_is_not_found_and_the_others_named(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    result = command("run", "logs", objects.RUN, "--step", "tarin")
    assert (result.exit_code, "it has: train" in result.stderr) == (exits.NOT_FOUND, True)
