"""A peer to talk to, and a home of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rungraph.command import app
from tests.client.peer import TOKEN, Peer, listening

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RUNGRAPH_HOME; nothing of the machine's own settings is seen."""
    for name in ("RUNGRAPH_URL", "RUNGRAPH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("RUNGRAPH_HOME", str(folder))
    return folder


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A listening peer."""
    with listening(Peer()) as listening_peer:
        yield listening_peer


@pytest.fixture
def command(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command `rungraph`, its server the peer."""
    monkeypatch.setenv("RUNGRAPH_URL", peer.url)
    monkeypatch.setenv("RUNGRAPH_TOKEN", TOKEN)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=False)
