"""Following a feed over connections that break in every way a connection can."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from rungraph.api import Client
from rungraph.backoff import Backoff
from rungraph.errors import ApiError, Unreachable
from rungraph.feeds import Event

QUERY = "subscription ($after: Int64) { run(id: 1, after: $after) { __typename ... on FeedEvent { seq } } }"
QUICK = Backoff(first_seconds=0.001, most_seconds=0.002, patience_seconds=5)
LAST = 40

BREAKS = ("abort", "restart", "complete", "unavailable", "refuse", "no ack")


class Feed:
    """A server of one feed of LAST numbers, some of them filtered out, that breaks off as it is told."""

    def __init__(self, seed: int = 0, breaks: int = 0) -> None:
        self.random = random.Random(seed)
        self.breaks = breaks
        self.connections = 0
        self.wanted: list[int] = sorted(self.random.sample(range(1, LAST + 1), LAST // 2))
        self.kept_from = 1
        self.opening: str | None = None
        self.authorizations: list[str | None] = []

    @asynccontextmanager
    async def listening(self, backoff: Backoff = QUICK) -> AsyncIterator[Client]:
        async with serve(
            self.speak,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol("graphql-transport-ws")],
            process_request=self.admit,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with Client(f"http://127.0.0.1:{port}", "a-token", for_feeds=backoff) as client:
                yield client

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        self.authorizations.append(request.headers.get("Authorization"))
        self.opening = self.random.choice(BREAKS) if self.breaks > 0 else None
        self.breaks -= 1
        if self.opening == "refuse":
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "later\n")
        return None

    async def speak(self, socket: ServerConnection) -> None:
        assert json.loads(await socket.recv()) == {"type": "connection_init", "payload": {"token": "a-token"}}
        if self.opening == "no ack":
            socket.transport.abort()
            return
        await send(socket, {"type": "connection_ack"})
        await send(socket, {"type": "ping"})
        message = json.loads(await socket.recv())
        while message["type"] == "pong":
            message = json.loads(await socket.recv())
        await self.tell(socket, message["payload"]["variables"]["after"])

    async def tell(self, socket: ServerConnection, after: int) -> None:
        left = self.random.randrange(6) if self.opening else LAST * 3
        for event in self.events(after):
            if left == 0:
                await self.break_off(socket)
                return
            left -= 1
            await send(socket, {"id": "1", "type": "next", "payload": {"data": {"run": event}}})
        await self.break_off(socket) if self.opening else await send(socket, {"id": "1", "type": "complete"})

    def events(self, after: int) -> list[Event]:
        """What is kept after a number; sometimes the last one once more, as a careless replica would."""
        events: list[Event] = []
        if after + 1 < self.kept_from:
            events.append({"__typename": "FeedTruncated", "seq": after, "resumeFrom": self.kept_from})
        for seq in range(max(after + self.random.choice((0, 1)), self.kept_from, 1), LAST + 1):
            kind = "LinesAdded" if seq in self.wanted else "Cursor"
            events.append({"__typename": kind, "seq": seq})
        return [*events, {"__typename": "FeedEnded", "seq": LAST}]

    async def break_off(self, socket: ServerConnection) -> None:
        match self.opening:
            case "abort":
                socket.transport.abort()
            case "restart":
                await socket.close(1012, "restarting")
            case "complete":
                await send(socket, {"id": "1", "type": "complete"})
            case "unavailable":
                error = {"message": "later", "extensions": {"code": "UNAVAILABLE"}}
                await send(socket, {"id": "1", "type": "error", "payload": [error]})


async def send(socket: ServerConnection, message: dict[str, Any]) -> None:
    await socket.send(json.dumps(message))


async def seqs(client: Client, after: int = 0) -> list[int]:
    return [event["seq"] async for event in client.follow(QUERY, {"after": after})]


@pytest.mark.parametrize("seed", range(40))
async def test_every_number_is_seen_once_and_in_order_whatever_breaks(seed: int) -> None:
    feed = Feed(seed, breaks=8)
    async with feed.listening() as client:
        assert await seqs(client) == feed.wanted
    assert feed.connections >= 2
    assert set(feed.authorizations) == {"Bearer a-token"}


async def test_a_feed_is_followed_from_the_number_given() -> None:
    feed = Feed()
    async with feed.listening() as client:
        assert await seqs(client, after=20) == [seq for seq in feed.wanted if seq > 20]
    assert feed.connections == 1


async def test_what_is_no_longer_kept_is_told_once_and_the_rest_follows() -> None:
    feed = Feed(seed=3, breaks=6)
    feed.kept_from = 15
    async with feed.listening() as client:
        events = [event async for event in client.follow(QUERY)]
    assert [event["resumeFrom"] for event in events if event["__typename"] == "FeedTruncated"] == [15]
    assert [event["seq"] for event in events[1:]] == [seq for seq in feed.wanted if seq >= 15]


async def test_patience_ends_when_nothing_comes() -> None:
    feed = Feed()

    async def end_at_once(socket: ServerConnection, after: int) -> None:
        await send(socket, {"id": "1", "type": "complete"})

    feed.tell = end_at_once  # type: ignore[method-assign]
    async with feed.listening(Backoff(0.001, 0.002, patience_seconds=0.05)) as client:
        with pytest.raises(Unreachable, match="before the feed's end"):
            await seqs(client)
    assert feed.connections > 1


async def test_nothing_that_listens_is_told_as_such() -> None:
    async with Client("http://127.0.0.1:9", for_feeds=Backoff(patience_seconds=0)) as client:
        with pytest.raises(Unreachable, match="start one with `rungraph serve`"):
            await seqs(client)


@pytest.mark.parametrize(
    ("close_code", "code"), [(4401, "UNAUTHENTICATED"), (4403, "FORBIDDEN"), (4429, "LIMIT_EXCEEDED")]
)
async def test_what_the_server_refuses_on_purpose_is_not_tried_again(close_code: int, code: str) -> None:
    feed = Feed()

    async def refuse(socket: ServerConnection, after: int) -> None:
        await socket.close(close_code, "no")

    feed.tell = refuse  # type: ignore[method-assign]
    async with feed.listening() as client:
        with pytest.raises(ApiError) as caught:
            await seqs(client)
    assert caught.value.code == code
    assert feed.connections == 1


async def test_leaving_early_closes_the_socket() -> None:
    feed = Feed()
    closed = asyncio.Event()
    tell = feed.tell

    async def tell_and_wait(socket: ServerConnection, after: int) -> None:
        await tell(socket, after)
        await socket.wait_closed()
        closed.set()

    feed.tell = tell_and_wait  # type: ignore[method-assign]
    async with feed.listening() as client:
        events = client.follow(QUERY)
        await anext(events)
        await events.aclose()
        await asyncio.wait_for(closed.wait(), 5)
