"""`rungraph schedule`: from words to a trigger, and what is told of a schedule."""

import json
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects, test_datasets, test_sources
from tests.client.conftest import Command
from tests.client.peer import Peer

SCHEDULE = "schedule_" + "5" * 26
FIRE = "fire_" + "6" * 26
CRON_DAILY = {"expression": "@daily", "timeZone": "Europe/Berlin"}
CHANGED = {"name": "n", "overlap": "SKIP", "jitterSeconds": 60.0}
CRON = {"__typename": "CronTrigger", "expression": "0 3 * * *", "timeZone": "Europe/Berlin"}
REQUEST = {
    "name": None,
    "priority": -3,
    "failFast": True,
    "cache": True,
    "backend": "engine",
    "files": [objects.FILE],
    "sources": [],
    "datasets": [],
    "tags": [{"name": "by", "value": "night"}],
    "arguments": [{"step": "train", "arguments": {"epochs": 5, "lr": 0.1}}],
    "resources": [{"step": "train", "workers": None, "cpus": 2.0, "memoryBytes": None, "gpus": None}],
    "retry": [],
}
ASKED = {field: value for field, value in REQUEST.items() if value is not None}
"""What an update asks for that leaves the request as it is."""
DIGITS = {"id": objects.PIPELINE, "name": "digits"}
OTHER = {"id": "pipeline_" + "7" * 26, "name": "other"}
TAGS = [{"name": "by", "value": "day"}]


def without(*fields: str) -> dict[str, Any]:
    """The request that leaves these to the server."""
    return {field: value for field, value in ASKED.items() if field not in fields}


def train(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """What train is given, as the API takes it."""
    return [{"step": "train", "arguments": arguments}]


def schedule(**changed: Any) -> dict[str, Any]:
    """A schedule as the server answers it."""
    times = {
        "nextAt": objects.AT,
        "startsAt": None,
        "endsAt": None,
        "lastFiredAt": None,
        "createdAt": objects.AT,
    }
    policy = {"catchUp": "SKIP", "overlap": "ALLOW", "jitterSeconds": 0.0, "failures": 0, "lastError": None}
    fire = {
        "id": FIRE,
        "outcome": "FAILED",
        "dueAt": objects.AT,
        "firedAt": objects.AT,
        "message": "gone",
        "run": None,
    }
    history = {"next": [objects.AT, objects.LATER], "lastFire": fire, "fires": objects.connection([fire])}
    about = {"id": SCHEDULE, "name": "nightly", "description": "", "state": "ACTIVE", "trigger": CRON}
    started = {"pipeline": objects.pipeline(), "run": REQUEST}
    return {**about, **times, **policy, **history, **started, **changed}


@pytest.fixture
def created(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer create schedules; what it is asked to create."""
    inputs: list[dict[str, Any]] = []

    def create(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append(input)
        return {"schedule": schedule(name=input["name"]), "errors": []}

    peer.fields["createSchedule"] = create
    peer.fields["pipeline"] = lambda **_: objects.pipeline()
    return inputs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--no-starts", "--ends", "2090-01-01"], {"startsAt": None, "endsAt": "2090-01-01"}),
        (["--cron", "@daily", "--zone", "Europe/Berlin"], {"cron": CRON_DAILY}),
        (["--name", "n", "--overlap", "skip", "--jitter", "1m"], CHANGED),
        (["--every", "2h", "--description", ""], {"interval": {"everySeconds": 7200.0}, "description": ""}),
        (["--cron", "@daily"], {"cron": CRON_DAILY}),
        (["--zone", "Asia/Tokyo"], {"cron": {"expression": "0 3 * * *", "timeZone": "Asia/Tokyo"}}),
        (["--reset", "zone"], {"cron": {"expression": "0 3 * * *"}}),
        (["--on-file", "*.csv", "--batch", "0s"], {"file": {"name": "*.csv", "batchSeconds": 0.0}}),
        (["--priority", "0", "--no-cache"], {"run": {**ASKED, "priority": 0, "cache": False}}),
        (["--tag", "by=day", "--run-name", "r"], {"run": {**ASKED, "tags": TAGS, "name": "r"}}),
        (["--retry", "lost=0"], {"run": {**ASKED, "retry": [{"reason": "LOST", "times": 0}]}}),
        (["--reset", "fail-fast", "--reset", "file"], {"run": without("failFast", "files")}),
        (["--reset", "set", "--set", "train.lr=1"], {"run": {**ASKED, "arguments": train({"lr": 1})}}),
        (
            ["--set", "train.epochs=9", "--set", "eval.k=1"],
            {
                "run": {
                    **ASKED,
                    "arguments": [
                        *train({"epochs": 9, "lr": 0.1}),
                        {"step": "eval", "arguments": {"k": 1}},
                    ],
                }
            },
        ),
        (
            ["--ask", "train.gpus=1", "--ask", "eval.cpus=4"],
            {
                "run": {
                    **ASKED,
                    "resources": [{"step": "train", "gpus": 1}, {"step": "eval", "cpus": 4}],
                }
            },
        ),
    ],
)
def test_an_update_sends_what_is_given_alone(
    peer: Peer, command: Command, words: list[str], expected: dict[str, Any]
) -> None:
    peer.fields["schedule"] = lambda **_: schedule()
    peer.fields["updateSchedule"] = {"schedule": schedule(), "errors": []}
    result = command("schedule", "update", "nightly", *words)
    assert result.exit_code == exits.OK, result.stderr
    assert peer.operations[-1] == ("updateSchedule", {"input": {"id": SCHEDULE, **expected}})


@pytest.mark.parametrize(
    "words", [[], ["--starts", "2090-01-01", "--no-starts"], ["--cron", "@daily", "--every", "1h"]]
)
def test_an_update_of_nothing_or_of_both_is_a_mistake(command: Command, words: list[str]) -> None:
    assert command("schedule", "update", "nightly", *words).exit_code == exits.USAGE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "30s"], "--batch goes with --on-file"),
        (["--reset", "outputs"], "--reset outputs goes with --after"),
        (["--every", "5m", "--zone", "Asia/Tokyo"], "--zone goes with --cron"),
        (["--reset", "tags"], "--reset tags: it takes one of set, ask, "),
        (
            ["--cron", "@daily", "--after", "digits"],
            "give exactly one of --cron, --every, --on-file and --after, not ",
        ),
    ],
)
def test_an_update_names_what_does_not_go_together(
    peer: Peer, command: Command, words: list[str], message: str
) -> None:
    peer.fields["schedule"] = lambda **_: schedule()
    result = command("schedule", "update", "nightly", *words)
    assert (result.exit_code, message in result.stderr) == (exits.USAGE, True), result.stderr
    assert all(field == "schedule" for field, _ in peer.operations)


@pytest.mark.parametrize(
    ("trigger", "words", "expected"),
    [
        (
            {
                "__typename": "FileTrigger",
                "kinds": ["INPUT"],
                "name": "*",
                "tags": {"n": 1},
                "batchSeconds": 9.0,
            },
            ["--on-file", "*.csv", "--made", "--reset", "batch"],
            {"file": {"kinds": ["OUTPUT"], "name": "*.csv", "tags": {"n": 1}}},
        ),
        (
            {
                "__typename": "RunTrigger",
                "states": ["FAILED"],
                "outputs": True,
                "steps": ["a"],
                "pipeline": DIGITS,
            },
            ["--reset", "after-state"],
            {"after": {"outputs": True, "steps": ["a"], "pipeline": objects.PIPELINE}},
        ),
        (
            {
                "__typename": "RunTrigger",
                "states": ["FAILED"],
                "outputs": True,
                "steps": ["a"],
                "pipeline": OTHER,
            },
            ["--after", "digits"],
            {"after": {"states": ["FAILED"], "outputs": True, "pipeline": objects.PIPELINE}},
        ),
        (
            {"__typename": "IntervalTrigger", "everySeconds": 60.0, "anchorAt": objects.AT},
            ["--every", "5m"],
            {"interval": {"everySeconds": 300.0}},
        ),
    ],
)
def test_an_update_keeps_what_is_not_said_of_a_trigger(
    peer: Peer, command: Command, trigger: dict[str, Any], words: list[str], expected: dict[str, Any]
) -> None:
    peer.fields["schedule"] = lambda **_: schedule(trigger=trigger)
    peer.fields["pipeline"] = lambda **_: objects.pipeline()
    peer.fields["updateSchedule"] = {"schedule": schedule(), "errors": []}
    result = command("schedule", "update", "nightly", *words)
    assert result.exit_code == exits.OK, result.stderr
    assert peer.operations[-1] == ("updateSchedule", {"input": {"id": SCHEDULE, **expected}})


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        (
            ["--cron", "0 3 * * *", "--zone", "Europe/Berlin"],
            "cron",
            {"expression": "0 3 * * *", "timeZone": "Europe/Berlin"},
        ),
        (["--every", "90m"], "interval", {"everySeconds": 5400}),
        (
            ["--on-file", "*.csv", "--file-tag", "n=1", "--batch", "10s", "--made"],
            "file",
            {"name": "*.csv", "tags": {"n": 1}, "batchSeconds": 10, "kinds": ["OUTPUT"]},
        ),
        (
            ["--after", "digits", "--outputs", "--after-state", "failed"],
            "after",
            {"pipeline": objects.PIPELINE, "outputs": True, "states": ["FAILED"]},
        ),
    ],
)
def test_words_become_the_one_trigger(
    command: Command, created: list[dict[str, Any]], words: list[str], field: str, expected: Any
) -> None:
    request = ["--set", "train.epochs=5", "--tag", "by=night", "--overlap", "skip", "--jitter", "1m"]
    result = command("schedule", "create", "nightly", "digits", *words, *request)
    assert result.exit_code == exits.OK
    assert result.stdout.startswith(f"{SCHEDULE} nightly ACTIVE next ")
    (asked,) = created
    assert {name: asked[name] for name in asked.keys() & {"cron", "interval", "file", "after"}} == {
        field: expected
    }
    assert (asked["overlap"], asked["jitterSeconds"]) == ("SKIP", 60)
    assert asked["run"]["arguments"] == [{"step": "train", "arguments": {"epochs": 5}}]
    assert asked["run"]["tags"] == [{"name": "by", "value": "night"}]


def test_a_schedule_asks_for_whatever_a_start_can(
    peer: Peer, command: Command, created: list[dict[str, Any]]
) -> None:
    peer.fields["dataSource"] = lambda **_: test_sources.source()
    peer.fields["dataset"] = lambda **_: test_datasets.dataset()
    words = (
        "--ask",
        "train.cpus=2",
        "--retry",
        "exit_code=3",
        "--source",
        "raw",
        "--dataset",
        "digits:train",
        "--no-cache",
        "--backend",
        "engine",
    )
    others = ("--file", objects.FILE, "--fail-fast", "--run-name", "by night", "--priority", "-3")
    result = command("schedule", "create", "nightly", "digits", "--every", "1h", *words, *others)
    assert result.exit_code == exits.OK, result.stderr
    assert created[0]["run"] == {
        "resources": [{"step": "train", "cpus": 2}],
        "sources": [test_sources.SOURCE_ID],
        "datasets": [{"dataset": test_datasets.DATASET, "parts": ["train"]}],
        "files": [objects.FILE],
        "backend": "engine",
        "cache": False,
        "failFast": True,
        "name": "by night",
        "priority": -3,
        "arguments": [],
        "retry": [{"reason": "EXIT_CODE", "times": 3, "memoryFactor": 1.0}],
        "tags": [],
    }


@pytest.mark.parametrize("words", [[], ["--every", "5m", "--cron", "@daily"]])
def test_one_trigger_is_wanted(command: Command, created: list[dict[str, Any]], words: list[str]) -> None:
    result = command("schedule", "create", "nightly", "digits", *words)
    assert (result.exit_code, created) == (exits.USAGE, [])
    assert "exactly one of --cron, --every, --on-file and --after" in result.stderr


def test_a_list_and_one_are_shown(peer: Peer, command: Command) -> None:
    peer.fields["schedules"] = objects.connection([schedule()])
    cells = command("schedule", "list").stdout.strip().split("\t")
    assert cells[:4] == ["nightly", "ACTIVE", "digits", "at 0 3 * * * (Europe/Berlin)"]
    assert cells[5:] == ["gone", SCHEDULE]
    peer.fields["schedule"] = lambda **given: schedule() if given.get("name") == "nightly" else None
    shown = command("schedule", "show", "nightly").stdout.splitlines()
    assert shown[1] == "starts digits at 0 3 * * * (Europe/Berlin)"
    asked = "--set train.epochs=5 --set train.lr=0.1 --ask train.cpus=2 --file"
    assert (
        shown[2] == f"with {asked} {objects.FILE} --tag by=night --backend engine --priority -3 --fail-fast"
    )
    assert [line.split()[0] for line in shown[3:5]] == ["next", "next"]
    assert shown[-1].endswith("FAILED\t\tgone")
    assert command("schedule", "show", "other").exit_code == exits.NOT_FOUND


def test_the_next_times_are_a_schedules_or_an_expressions(peer: Peer, command: Command) -> None:
    peer.fields["schedule"] = schedule()
    peer.fields["previewSchedule"] = [objects.AT]
    assert json.loads(command("schedule", "next", "nightly", "--json").stdout) == [objects.AT, objects.LATER]
    assert json.loads(command("schedule", "next", "--cron", "@daily", "--json").stdout) == [objects.AT]
    assert peer.operations[-1] == ("previewSchedule", {"cron": "@daily", "timeZone": "UTC", "count": 10})
    assert command("schedule", "next").exit_code == exits.USAGE


@pytest.mark.parametrize(
    ("verb", "field", "answer"),
    [
        ("pause", "pauseSchedule", {"schedule": schedule(state="PAUSED", nextAt=None)}),
        ("resume", "resumeSchedule", {"schedule": schedule()}),
        ("delete", "deleteSchedule", {"id": SCHEDULE}),
        ("run", "runSchedule", {"run": objects.run()}),
    ],
)
def test_a_schedule_is_changed_by_its_name(
    peer: Peer, command: Command, verb: str, field: str, answer: dict[str, Any]
) -> None:
    peer.fields["schedule"] = schedule()
    peer.fields[field] = {**answer, "errors": []}
    result = command("schedule", verb, "nightly")
    assert result.exit_code == exits.OK
    assert peer.operations[-1] == (field, {"input": {"id": SCHEDULE}})
    expected = {"pause": "PAUSED", "resume": "ACTIVE", "delete": "deleted", "run": "RUNNING"}[verb]
    assert expected in result.stdout
