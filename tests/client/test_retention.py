"""`rungraph retention`: days in, days out."""

import pytest

from rungraph import exits
from tests.client.conftest import Command
from tests.client.peer import Peer

PROJECT = {"id": "p", "name": "default", "metricsDays": 30, "logsDays": None}


def test_it_is_shown_and_set(peer: Peer, command: Command) -> None:
    peer.fields["viewer"] = {"projects": [PROJECT]}
    peer.fields["setRetention"] = {"project": PROJECT, "errors": []}
    assert command("retention", "show").stdout.split() == ["default", "30d", "forever", "p"]
    said = command("retention", "set", "--metrics", "30", "--logs", "forever", "--project", "p").stdout
    assert said == "default keeps metrics for 30 days and logs for ever\n"
    wanted = {"metricsDays": 30, "logsDays": None, "project": "p"}
    assert peer.operations[-1] == ("setRetention", {"input": wanted})


@pytest.mark.parametrize("wrong", [(), ("--logs", "0"), ("--metrics", "-1"), ("--metrics", "soon")])
def test_what_is_no_number_of_days_is_refused_before_anything_is_asked(
    peer: Peer, command: Command, wrong: tuple[str, ...]
) -> None:
    assert command("retention", "set", *wrong).exit_code == exits.USAGE
    assert peer.operations == []
