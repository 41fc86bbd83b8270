"""`rungraph run suspend` and `resume`: what is sent, and what is shown."""

import json

import pytest

from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


@pytest.mark.parametrize(("verb", "told"), [("suspend", " suspended"), ("resume", "")])
def test_a_run_is_suspended_and_resumed(peer: Peer, command: Command, verb: str, told: str) -> None:
    run = objects.run("RUNNING", suspended=bool(told))
    peer.fields[f"{verb}Run"] = {"run": run, "errors": []}
    assert command("run", verb, objects.RUN).stdout == f"{objects.RUN} RUNNING{told}\n"
    assert peer.operations == [(f"{verb}Run", {"input": {"id": objects.RUN}})]
    assert json.loads(command("run", verb, objects.RUN, "--json").stdout)["suspended"] is bool(told)


def test_who_watches_is_told_that_a_run_stands_still(peer: Peer, command: Command) -> None:
    readings = [objects.run(), objects.run("SUCCEEDED", seq=10)]
    peer.fields["run"] = lambda id: readings.pop(0)
    peer.feeds["run"] = objects.events(
        ("RunChanged", {"runState": "RUNNING", "run": {"suspended": True}}),
        ("RunChanged", {"runState": "RUNNING", "run": {"suspended": False}}),
        ("RunChanged", {"runState": "SUCCEEDED", "run": {"suspended": False}}),
    )
    told = command("run", "watch", objects.RUN).stdout.splitlines()
    first = told.index(f"{objects.RUN}: RUNNING suspended")
    assert told[first + 1] == f"{objects.RUN}: RUNNING"
