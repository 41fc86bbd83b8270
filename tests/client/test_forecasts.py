"""`rungraph run start --dry-run`: what is asked, what is told, and how a script learns of mistakes."""

import json
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

REVISION = {"number": 3, "pipeline": {"id": objects.PIPELINE, "name": "digits"}}
OWN = {"jobs": None, "files": "*.csv", "prefix": False, "names": ["a.csv"], "count": 12}


def _job(label: str, **changed: Any) -> dict[str, Any]:
    """A planned job that says nothing unusual."""
    about: dict[str, Any] = {
        "label": label,
        "step": label,
        "matrix": None,
        "needs": [],
        "awaits": [],
        "when": None,
    }
    asked: dict[str, Any] = {
        "workers": 1,
        "timeoutSeconds": None,
        "retries": 0,
        "retry": [],
        "cache": False,
        "prepared": True,
    }
    version = {"id": "v", "number": 2}
    return {
        **about,
        **asked,
        "arguments": {"rate": 0.5, "word": None},
        "rejection": None,
        "badInput": None,
        "function": {"address": "digits/train", "version": version},
        "resources": {"cpus": None, "memoryBytes": None, "gpus": 0},
        "inputs": [OWN],
        "reuses": None,
        **changed,
    }


def _rule(reason: str, times: int, **changed: Any) -> dict[str, Any]:
    return {"reason": reason, "times": times, "memoryFactor": 1.0, "mostMemoryBytes": None, **changed}


def _plan(*jobs: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {"valid": True, "errors": [], "run": None, "revision": REVISION, "jobs": list(jobs), **changed}


@pytest.fixture
def asked(peer: Peer) -> list[dict[str, Any]]:
    """What validateRun is asked; the answer is a plan that says everything there is to say."""
    inputs: list[dict[str, Any]] = []
    source = {"id": objects.JOB, "step": "fit", "run": {"id": objects.RUN}}
    handed = {"jobs": ["fit", "other"], "files": "*", "prefix": True, "names": None, "count": None}
    told = _job(
        "tell",
        needs=["fit"],
        awaits=["other"],
        when="other ends FAILED",
        inputs=[handed],
        workers=2,
        timeoutSeconds=60,
        retries=2,
        retry=[_rule("LOST", 0), _rule("OUT_OF_MEMORY", 3, memoryFactor=1.5, mostMemoryBytes=1 << 36)],
        resources={"cpus": 1, "memoryBytes": 1 << 30, "gpus": 1},
        prepared=False,
        rejection="asks for 2 GPUs, backend local has 0",
        badInput="inputs: the run has no file",
    )

    def validate(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append(input)
        return _plan(_job("fit", cache=True, reuses=source), _job("other", cache=True), told)

    peer.fields |= {"pipeline": objects.pipeline(), "validateRun": validate}
    return inputs


def test_a_plan_is_told_in_words_and_nothing_is_started(
    peer: Peer, command: Command, asked: list[dict[str, Any]]
) -> None:
    result = command("run", "start", "digits", "--dry-run", "--no-cache", "--set", "fit.rate=2")
    assert result.exit_code == exits.OK
    assert result.stdout.splitlines() == [
        "digits, revision 3: 3 jobs",
        "",
        "fit: digits/train, version 2",
        "  arguments  rate=0.5 word=–",
        "  reads      *.csv of the run's files: a.csv and 7 more",
        "  asks for   the backend's default",
        f"  reuses     fit of {objects.RUN}",
        "",
        "other: digits/train, version 2",
        "  arguments  rate=0.5 word=–",
        "  reads      *.csv of the run's files: a.csv and 7 more",
        "  asks for   the backend's default",
        "  reuses     what has been done before, if there is any",
        "",
        "tell: digits/train, version 2",
        "  arguments  rate=0.5 word=–",
        "  after      fit",
        "  when ended other",
        "  only if    other ends FAILED",
        "  reads      * of fit, other, named by their job",
        "  asks for   2 workers, each 1 core, 1.0 GiB, 1 GPU; at most 1 min 00 s",
        "  retries    2; after LOST 0; after OUT_OF_MEMORY 3, each with 1.5 times the memory, up to 64.0 GiB",
        "  waits      for its module, which is not ready on the backend",
        "  cannot run: asks for 2 GPUs, backend local has 0",
        "  cannot run: inputs: the run has no file",
    ]
    (given,) = asked
    assert given["cache"] is False and "idempotencyKey" not in given
    assert given["arguments"] == [{"step": "fit", "arguments": {"rate": 2}}]
    assert {field for field, _ in peer.operations} == {"pipeline", "validateRun"}


def test_a_plan_is_json_for_programs(command: Command, asked: list[dict[str, Any]]) -> None:
    told = json.loads(command("run", "start", "digits", "--dry-run", "--key", "k", "--json").stdout)
    assert (told["valid"], told["errors"], len(told["jobs"])) == (True, [], 3)
    assert [given["idempotencyKey"] for given in asked] == ["k"]


@pytest.mark.parametrize("as_json", [False, True])
def test_mistakes_are_told_all_and_end_it_with_1(peer: Peer, command: Command, as_json: bool) -> None:
    mistakes = [
        *objects.refusal("INVALID", "a priority is -1000 to 1000", "input", "priority")["errors"],
        *objects.refusal("NOT_FOUND", "no step is named 'b'", "input", "arguments")["errors"],
    ]
    planned = _plan(valid=False, errors=mistakes, revision=None)
    peer.fields |= {"pipeline": objects.pipeline(), "validateRun": planned}
    result = command("run", "start", "digits", "--dry-run", *(["--json"] if as_json else []))
    assert result.exit_code == exits.FAILED
    if as_json:
        assert json.loads(result.stdout)["errors"] == mistakes
    else:
        said = ["input.priority: a priority is -1000 to 1000", "input.arguments: no step is named 'b'"]
        assert (result.stdout, result.stderr.splitlines()) == ("", said)


def test_a_key_that_has_started_a_run_leads_to_it(peer: Peer, command: Command) -> None:
    planned = _plan(run={"id": objects.RUN, "state": "RUNNING"}, revision=None)
    peer.fields |= {"pipeline": objects.pipeline(), "validateRun": planned}
    result = command("run", "start", "digits", "--dry-run", "--key", "k")
    assert result.stdout == f"this key has started {objects.RUN}, which is RUNNING\n"
    assert result.exit_code == exits.OK
