"""`rungraph run show` and `rungraph pipeline show`."""

import json
from typing import Any

from rungraph import exits
from rungraph.wording import local_time
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


def _attempt(number: int, reason: str, **changed: Any) -> dict[str, Any]:
    times = {"startedAt": objects.AT, "endedAt": objects.LATER}
    return {"number": number, "reason": reason, "message": None, "exitCode": None, **times, **changed}


def _run(**changed: Any) -> dict[str, Any]:
    nothing = {"retryOf": None, "basedOn": None, "parent": None, "expectedSecondsLeft": None}
    flags = {"archived": False, "external": False, "failFast": False, "priority": 0}
    given = {
        "files": [{"id": objects.FILE, "name": "a.csv", "sizeBytes": 2048}],
        "datasets": [{"parts": ["train"], "version": {"number": 2, "dataset": {"id": "d", "name": "toys"}}}],
        "sources": [{"name": "raw", "url": "https://data.example/x"}],
    }
    job = objects.job("train", "FAILED", reason="EXIT_CODE", exitCode=3, message="no\x1b[2J data")
    job |= {
        "workers": 1,
        "arguments": {"epochs": 5},
        "attempts": [_attempt(1, "LOST"), _attempt(2, "EXIT_CODE", exitCode=3)],
    }
    job |= {"function": {"address": "ml/train"}}
    metric = {"name": "loss", "last": 0.5, "min": 0.25, "max": 2.0, "lastStep": 9}
    about = {"notes": "first try\nbad data", "revision": {"number": 4}, "metrics": [metric]}
    return objects.run("FAILED", [job], **nothing, **flags, **given, **about, **changed)


def test_a_run_is_shown_on_one_screen(peer: Peer, command: Command) -> None:
    peer.fields["run"] = _run(tags=[{"name": "team", "value": "a"}], endedAt=objects.LATER)
    result = command("run", "show", objects.RUN)
    assert result.exit_code == exits.OK, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"{objects.RUN} digits 1: FAILED"
    assert "  pipeline: digits, revision 4" in lines
    assert "  tags: team=a" in lines
    assert "  dataset: toys@2:train" in lines
    assert "  source: raw (https://data.example/x)" in lines
    assert lines[lines.index("  │ first try") + 1] == "  │ bad data"
    why = "EXIT_CODE, exited with 3: no data"
    assert f'train\tFAILED\t3.0 s\t2\t{why}\tml/train\t{{"epochs": 5}}' in lines
    began, ended = local_time(objects.AT), local_time(objects.LATER)
    assert f"train\t1\t{began}\t{ended}\tLOST" in lines
    assert f"train\t2\t{began}\t{ended}\tEXIT_CODE, exited with 3" in lines
    assert "loss\t0.5\t0.25\t2\t9" in lines
    assert f"{objects.FILE}\ta.csv\t2.0 KiB" in lines


def test_a_run_is_shown_as_json_and_an_unknown_one_not_found(peer: Peer, command: Command) -> None:
    peer.fields["run"] = _run()
    shown = json.loads(command("run", "show", objects.RUN, "--json").stdout)
    assert (shown["id"], shown["jobs"][0]["exitCode"]) == (objects.RUN, 3)
    peer.fields["run"] = None
    assert command("run", "show", objects.RUN).exit_code == exits.NOT_FOUND


def test_a_pipeline_is_shown_with_its_steps_and_last_runs(peer: Peer, command: Command) -> None:
    step: dict[str, Any] = {
        "name": "train",
        "address": "ml/train",
        "arguments": {"epochs": 5},
        "needs": ["load"],
    }
    step |= {"cache": True, "matrix": {"rate": [0.1, 1]}, "when": None}
    revision = {"id": "r", "number": 4, "createdAt": objects.AT, "steps": [step]}
    runs = objects.connection([objects.run("SUCCEEDED")])
    peer.fields["pipeline"] = {**objects.pipeline(), "revision": revision, "runs": runs, "description": "toy"}
    result = command("pipeline", "show", "digits")
    assert result.exit_code == exits.OK, result.stderr
    assert result.stdout.startswith(f"{objects.PIPELINE} digits: revision 4 of ")
    told = 'train\tml/train\tload\t{"epochs": 5}\tcached, varies {"rate": [0.1, 1]}\n'
    assert told in result.stdout
    assert f"{objects.RUN}\tdigits 1\tSUCCEEDED\t" in result.stdout
    peer.fields["pipeline"] = None
    assert command("pipeline", "show", "nothing").exit_code == exits.NOT_FOUND
