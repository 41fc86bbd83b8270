"""`rungraph run list`, `run compare` and `rungraph view`: what is asked, and what is shown."""

import json
from typing import Any

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

VIEW = {
    "id": "view_44444444444444444444444444",
    "name": "best",
    "shared": True,
    "mine": True,
    "filter": {"search": "x"},
    "sort": None,
    "columns": ["loss.min"],
    "updatedAt": objects.LATER,
    "project": {"name": "default"},
}


def test_a_list_asks_for_what_its_options_say(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []

    def runs(**given: Any) -> dict[str, Any]:
        asked.append(given)
        return objects.connection([objects.run()])

    peer.fields["runs"] = runs
    peer.fields["pipeline"] = objects.pipeline()
    options = (
        "--where",
        "loss.min<0.5",
        "--where",
        "not pipeline=digits",
        "--search",
        "ada",
        "--sort",
        "loss:asc",
    )
    assert command("run", "list", *options).exit_code == exits.OK
    assert asked == [
        {
            "filter": {
                "search": "ada",
                "and": [
                    {"metrics": [{"name": "loss", "of": "MIN", "lt": 0.5}]},
                    {"not": {"pipeline": objects.PIPELINE}},
                ],
            },
            "sort": {"by": "METRIC", "name": "loss", "direction": "ASCENDING", "of": "LAST"},
            "first": 20,
        }
    ]
    assert command("run", "list", "--where", "loss").exit_code == exits.USAGE


def test_a_view_is_listed_used_and_deleted(peer: Peer, command: Command) -> None:
    metrics = [{"name": "loss", "last": 1.0, "min": 0.25, "max": 2.0}]
    peer.fields["runViews"] = objects.connection([VIEW])
    peer.fields["runs"] = lambda **given: objects.connection(
        [{**objects.run(), "metrics": metrics, "jobs": []}]
    )
    assert command("view", "list").stdout.split("\t")[:3] == [VIEW["id"], "best", "shared"]
    assert command("run", "list", "--view", "best").stdout.rstrip("\n").split("\t")[-1] == "0.25"
    assert peer.operations[-1][1]["view"] == VIEW["id"]
    peer.fields["deleteRunView"] = {"id": VIEW["id"], "errors": []}
    assert command("view", "delete", "best").exit_code == exits.OK
    assert command("view", "delete", "worst").exit_code == exits.NOT_FOUND


def test_a_view_is_saved_as_the_list_would_be(peer: Peer, command: Command) -> None:
    saved: list[dict[str, Any]] = []

    def create(input: dict[str, Any]) -> dict[str, Any]:
        saved.append(input)
        return {"view": VIEW, "errors": []}

    peer.fields["createRunView"] = create
    result = command(
        "view", "save", "best", "--search", "x", "--sort", "name:asc", "--column", "loss.min", "--shared"
    )
    assert result.stdout == f"{VIEW['id']} best\n"
    assert saved == [
        {
            "name": "best",
            "filter": {"search": "x"},
            "sort": {"by": "NAME", "direction": "ASCENDING"},
            "columns": ["loss.min"],
            "shared": True,
        }
    ]


def test_runs_are_shown_side_by_side(peer: Peer, command: Command) -> None:
    values = {"values": [1.0, 1.5], "deltas": [0.0, 0.5], "relative": [0.0, 0.5]}
    peer.fields["compareRuns"] = {
        "runs": [objects.run(), {**objects.run(), "id": "run_other"}],
        "baseline": objects.run(),
        "arguments": [{"step": "train", "name": "lr", "differs": True, "values": [0.1, None]}],
        "functions": [],
        "tags": [{"name": "team", "differs": True, "values": ["a", "b"]}],
        "metrics": [{"name": "loss", "last": values, "min": values, "max": values}],
    }
    told = command("run", "compare", objects.RUN, objects.RUN).stdout
    assert told.startswith(f"run\t{objects.RUN} (baseline)\trun_other\nstate\t")
    assert "arg:train.lr\t0.1\t\n" in told and "tag:team\ta\tb\n" in told
    assert "loss.last\t1\t1.5 +0.5 (+50.0%)\n" in told
    assert peer.operations[-1][1]["baseline"] == objects.RUN
    assert json.loads(command("run", "compare", objects.RUN, "--json").stdout)["arguments"][0]["name"] == "lr"
