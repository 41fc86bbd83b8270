"""Connections over a bare socket: none holds anything for ever that sends no request, or takes no answer."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from graph.connections import Connection
from tests.graph.serving import listening

HEAD, PIECE = b"GET / HTTP/1.1\r\nHost: here\r\n", bytes(1 << 20)
PATIENCE_SECONDS = 20.0


class Hasty(Connection):
    """One that waits no longer than a test does."""

    head_seconds, head_bytes, stalled_seconds, look_seconds = 0.5, 1 << 12, 0.5, 0.02


class Application:
    """Sends pieces without end on `/endless`, after a while on `/late`, else what it was sent."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.pieces = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        try:
            await self._answer(scope["path"], receive, send)
        finally:
            self.ended.set()

    async def _answer(self, path: str, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if path == "/late":
            await asyncio.sleep(3 * Hasty.head_seconds)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if path == "/endless":
            gone = asyncio.ensure_future(receive())
            while not gone.done():
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.pieces += 1
                await asyncio.sleep(0)
            return
        await send({"type": "http.response.body", "body": body})


class Talk:
    """A connection, and what is said over it."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Talk":
        loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def say(self, *parts: bytes, every_seconds: float = 0.0) -> None:
        """Send parts, so long after one another."""
        for part in parts:
            await asyncio.get_running_loop().sock_sendall(self._socket, part)
            await asyncio.sleep(every_seconds)

    async def hear(self) -> bytes:
        """What comes next; nothing once the connection is closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
            except ConnectionError:
                return b""

    async def is_closed(self) -> bool:
        """Whether the connection is closed, when all that came is read."""
        while await self.hear():
            pass
        return True


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with listening(application, listener, Hasty):
            yield listener.getsockname()[1]


@pytest.mark.parametrize("begun", [b"", b"\r\n", HEAD])
async def test_who_sends_no_whole_head_is_cut_off(port: int, begun: bytes) -> None:
    async with Talk(port) as talk:
        await talk.say(begun)
        assert await talk.is_closed()


@pytest.mark.parametrize("drop", [b"a", b"\r\n"])
async def test_nor_does_dripping_help(port: int, drop: bytes) -> None:
    async with Talk(port) as talk:
        await talk.say(b"" if drop == b"\r\n" else HEAD)
        with contextlib.suppress(ConnectionError):
            await talk.say(*[drop] * 1000, every_seconds=0.02)
            pytest.fail("it may drip for twenty seconds")


async def test_nor_a_request_before(port: int) -> None:
    async with Talk(port) as talk:
        await talk.say(HEAD + b"\r\n")
        assert (await talk.hear()).startswith(b"HTTP/1.1 200")
        await talk.say(HEAD)
        assert await talk.is_closed()


async def test_a_head_without_end_is_cut_off_at_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasty, "head_seconds", 1e9)
    async with Talk(port) as talk:
        await talk.say(HEAD)
        with contextlib.suppress(ConnectionError):
            await talk.say(*[b"x: " + bytes([97]) * 1000 + b"\r\n"] * 1000)
        assert await talk.is_closed()


async def test_who_sends_no_more_of_a_body_is_cut_off(port: int, application: Application) -> None:
    async with Talk(port) as talk:
        await talk.say(HEAD + b"Content-Length: 3\r\n\r\n", b"a")
        assert await talk.is_closed()
    await asyncio.wait_for(application.ended.wait(), PATIENCE_SECONDS)


@pytest.mark.parametrize("beside", [b"", HEAD])
async def test_who_takes_nothing_of_an_answer_is_cut_off(
    port: int, application: Application, beside: bytes
) -> None:
    async with Talk(port) as talk:
        await talk.say(HEAD.replace(b"/ ", b"/endless ") + b"\r\n")
        await talk.say(beside)
        await asyncio.wait_for(application.ended.wait(), PATIENCE_SECONDS)
        assert application.pieces < 10


async def test_who_asks_more_meanwhile_and_leaves_ends_the_answer_too(
    port: int, application: Application
) -> None:
    asked = HEAD.replace(b"/ ", b"/endless ") + b"\r\n"
    async with Talk(port) as talk:
        await talk.say(asked + HEAD + b"\r\n" + HEAD + b"\r\n")
        assert await talk.hear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await application.ended.wait()


async def test_who_takes_it_slowly_is_not(port: int, application: Application) -> None:
    async with Talk(port) as talk:
        await talk.say(HEAD.replace(b"/ ", b"/endless ") + b"\r\n")
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 4 * Hasty.stalled_seconds:
            assert await talk.hear()
            await asyncio.sleep(0.02)
        assert not application.ended.is_set()


async def test_who_waits_for_a_late_answer_gets_it(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.post("/late", content=b"sent")).content == b"sent"
        assert (await client.get("/")).status_code == 200


async def test_a_websocket_may_be_silent(port: int) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    async with Talk(port) as talk:
        await talk.say(HEAD + upgrade + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        assert (await talk.hear()).startswith(b"HTTP/1.1 101")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk.hear(), 3 * Hasty.head_seconds)


def test_the_server_waits_so_long() -> None:
    told: dict[str, Any] = {name: getattr(Connection, name) for name in ("head_seconds", "stalled_seconds")}
    assert told == {"head_seconds": 30.0, "stalled_seconds": 60.0}
