"""`rungraph secret`: values come by a pipe, and none is ever shown."""

from typing import Any

import pytest
from typer.testing import CliRunner

from rungraph import exits
from rungraph.command import app
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

SECRET = {
    "id": "s",
    "name": "TOKEN",
    "createdAt": objects.AT,
    "updatedAt": objects.AT,
    "usedBy": ["ml/f", "ml/g"],
}


@pytest.mark.parametrize(
    ("piped", "value"), [("abc\n", "abc"), ("abc", "abc"), ("a\nb\r\n", "a\nb"), (" a \n\n", " a \n")]
)
def test_a_value_comes_from_a_pipe(peer: Peer, command: Command, piped: str, value: str) -> None:
    inputs: list[Any] = []

    def put(input: Any) -> Any:
        inputs.append(input)
        return {"secret": SECRET, "errors": []}

    peer.fields["setSecret"] = put
    result = CliRunner().invoke(app, ["secret", "set", "TOKEN"], input=piped)
    assert (result.exit_code, result.stdout) == (exits.OK, "TOKEN set\n")
    assert inputs == [{"name": "TOKEN", "value": value}]


def test_nothing_is_no_value(peer: Peer, command: Command) -> None:
    result = CliRunner().invoke(app, ["secret", "set", "TOKEN"], input="\n")
    assert (result.exit_code, peer.operations) == (exits.USAGE, [])


def test_secrets_are_listed_and_deleted(peer: Peer, command: Command) -> None:
    peer.fields["secrets"] = objects.connection([SECRET])
    name, _, used = command("secret", "list").stdout.rstrip("\n").split("\t")
    assert (name, used) == ("TOKEN", "ml/f, ml/g")
    peer.fields["deleteSecret"] = {"name": "TOKEN", "errors": []}
    assert command("secret", "delete", "TOKEN").stdout == "TOKEN deleted\n"
