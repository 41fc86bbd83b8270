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
