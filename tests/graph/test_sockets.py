"""Connections are looked after: their credentials, their number of subscriptions, and whether somebody is there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio
from websockets import ConnectionClosed, Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from db import users
from graph import sockets, sse
from tests.backends.grounds import eventually
from tests.graph.serving import Server
from tests.graph.test_sharing import WATCH, endpoint, socket_of, subscribe
from tests.graph.test_sse import events, streaming

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
REFUSED = {"code": "UNAUTHENTICATED"}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after connections a hundred times as often, and remember no credential."""
    for module in (sockets, sse):
        monkeypatch.setattr(module, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr("graph.credentials._CACHE_SECONDS", 0.0)


@pytest_asyncio.fixture(loop_scope="module")
async def run(server: Server) -> AsyncIterator[Any]:
    started = await server.start(await server.pipeline({"step": SLEEP}))
    await server.until(started["id"], "LinesAdded")
    yield started
    await server.change("cancelRun", "run { id }", id=started["id"], graceSeconds=0)
    await server.finish(started["id"])


async def token_of(server: Server) -> str:
    """A token of its own for the administrator."""
    async with server.around.database.begin() as session:
        viewer = await users.authenticate(session, server.client.token or "")
        assert viewer is not None
        return await users.issue(session, viewer, users.TokenKind.SESSION, timedelta(hours=1))


async def revoke(server: Server, token: str) -> None:
    async with server.around.database.begin() as session:
        await users.revoke(session, token)


async def told(socket: ClientConnection) -> Any:
    async with asyncio.timeout(10):
        return orjson.loads(await socket.recv())


async def test_a_revoked_token_ends_its_subscriptions_and_nobody_elses(
    server: Server, run: Any, hurry: None
) -> None:
    token = await token_of(server)
    async with socket_of(server, token) as theirs, socket_of(server) as ours:
        for socket in (theirs, ours):
            await subscribe(socket, run["id"], 0)
            assert (await told(socket))["type"] == "next"
        assert endpoint(server).topics.count == 1
        await revoke(server, token)
        ending = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                ending.append(await told(theirs))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        *_, refused, complete = ending
        assert refused["payload"]["errors"][0]["extensions"] == REFUSED
        assert complete == {"id": "1", "type": "complete"}
        await server.change("updateRun", "run { id }", id=run["id"], notes="still told")
        kinds = []
        while "RunChanged" not in kinds:
            kinds.append((await told(ours))["payload"]["data"]["run"]["__typename"])


async def test_a_revoked_token_ends_its_events_too(server: Server, run: Any, hurry: None) -> None:
    token = await token_of(server)
    variables = {"run": run["id"], "after": 0}
    async with streaming(server, WATCH, variables, Authorization=f"Bearer {token}") as answer:
        coming = events(answer)
        assert (await anext(coming)).told["seq"] == 1
        await revoke(server, token)
        *_, refused, complete = [event async for event in coming]
    assert orjson.loads(refused.data)["errors"][0]["extensions"] == REFUSED
    assert complete.kind == "complete"


async def test_a_socket_is_pinged_and_lives_while_it_answers(
    server: Server, run: Any, hurry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.2)
    monkeypatch.setattr(sockets, "SILENCE_SECONDS", 2.0)  # a busy machine holds an answer up for a second
    async with socket_of(server) as socket:
        for _ in range(15):  # takes longer than a silent one would live
            assert await told(socket) == {"type": "ping"}
            await socket.send('{"type": "pong"}')
        assert await server.is_well()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                assert await told(socket) == {"type": "ping"}
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == sockets.SILENT


async def test_a_peer_that_takes_nothing_is_let_go(
    server: Server, run: Any, hurry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stalled(server) as socket:
        query = "subscription ($run: ID!, $after: Int64) { run(id: $run, after: $after) { __typename %s } }"
        long = " ".join(f"a{n}: __typename" for n in range(90))
        await subscribe(socket, run["id"], 0, query % long)

        async def begun() -> bool:
            return endpoint(server).topics.count == 1

        async def over() -> bool:
            await server.change("updateRun", "run { id }", id=run["id"], notes="more to be told")
            return endpoint(server).topics.count == 0

        await eventually(begun)
        monkeypatch.setattr(sockets, "SILENCE_SECONDS", 0.3)
        await eventually(over)


async def test_a_connection_has_so_many_subscriptions_and_no_more(server: Server, run: Any) -> None:
    async with socket_of(server) as socket, socket_of(server) as other:
        asked = {"query": WATCH, "variables": {"run": run["id"], "after": 0}}
        for number in range(sockets.MOST_OPERATIONS + 1):
            message = {"id": f"n{number}", "type": "subscribe", "payload": asked}
            await socket.send(orjson.dumps(message).decode())
        answered: set[tuple[str, str]] = set()
        while len(answered) <= sockets.MOST_OPERATIONS:
            message = await told(socket)
            answered.add((message["id"], message["type"]))
        assert {kind for id, kind in answered if id == f"n{sockets.MOST_OPERATIONS}"} == {"error"}
        assert len({id for id, kind in answered if kind == "next"}) == sockets.MOST_OPERATIONS
        await subscribe(other, run["id"], 0)
        assert (await told(other))["type"] == "next"
        await socket.send('{"id": "n0", "type": "complete"}')
        await socket.send(orjson.dumps({"id": "again", "type": "subscribe", "payload": asked}).decode())
        while (message := await told(socket))["id"] != "again":
            pass
        assert message["type"] == "next"


@contextlib.asynccontextmanager
async def stalled(server: Server) -> AsyncIterator[ClientConnection]:
    """A socket that reads nothing after its beginning."""
    url = server.url.replace("http", "ws") + "/graphql"
    headers = {"Authorization": server.bearer}
    leaving: Any = {"close_timeout": 0.1, "proxy": None}
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(url, subprotocols=protocols, additional_headers=headers, **leaving) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        socket.transport.pause_reading()
        yield socket
