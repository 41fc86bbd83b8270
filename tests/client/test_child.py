"""A server of the demonstration's own: whose port it is, how it starts, that it ends."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rungraph import child
from rungraph.errors import ClientError
from tests.client.peer import TOKEN, Peer

HEALTHY = """
import http.server, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HEALTHY


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where something takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Puts another program where `python -m graph.serve` looks first."""
    (folder / "graph").mkdir()
    (folder / "graph" / "__init__.py").touch()
    (folder / "graph" / "serve.py").write_text(code)
    monkeypatch.chdir(folder)


def port_of(peer: Peer) -> int:
    return urlsplit(peer.url).port or 0


async def test_a_server_of_ours_that_listens_is_used(peer: Peer, home: Path) -> None:
    (home / "token").write_text(TOKEN)
    peer.fields["viewer"] = {"kind": "ADMINISTRATOR"}
    async with child.server_at(port_of(peer)) as process:
        assert process is None


async def test_a_server_with_another_token_is_told(peer: Peer, home: Path) -> None:
    (home / "token").write_text("another")
    with pytest.raises(ClientError, match="the token here is not its own"):
        async with child.server_at(port_of(peer)):
            pass


async def test_a_port_that_something_else_has_is_told(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "ANSWER_SECONDS", 0.2)
    with pytest.raises(ClientError, match=f"port {silent_port} is taken by something else"):
        async with child.server_at(silent_port):
            pass


@pytest.mark.parametrize("code", [HEALTHY, DEAF])
async def test_a_child_is_healthy_within_and_gone_after(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    stand_in(tmp_path, monkeypatch, code)
    monkeypatch.setattr(child, "STOP_SECONDS", 0.5)
    async with child.server_at(port) as process:
        assert process is not None
        assert process.returncode is None
    assert process.returncode is not None


async def test_a_child_ends_with_whoever_is_cancelled(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, HEALTHY)
    started: asyncio.Future[child.Process | None] = asyncio.get_running_loop().create_future()

    async def stay() -> None:
        async with child.server_at(port) as process:
            started.set_result(process)
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    process = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process is not None
    assert process.returncode is not None


async def test_a_child_that_ends_at_once_is_told_with_its_last_words(
    port: int, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "raise SystemExit('no database')")
    with pytest.raises(ClientError, match="no database"):
        async with child.server_at(port):
            pass
    assert (home / child.LOG_NAME).stat().st_mode & 0o777 == 0o600


def test_the_repository_is_where_the_server_stands() -> None:
    assert (child.repository() / "graph" / "__init__.py").is_file()
