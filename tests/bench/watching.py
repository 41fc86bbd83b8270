"""Watching: fifty points a second written to one run, a hundred watchers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from tests.bench.metrics import LOG_POINT
from tests.bench.rows import Row, p
from tests.bench.server import Server, limiting, serving

WATCH = """subscription($r: ID!, $a: Int64) { metrics(run: $r, after: $a) {
  ... on FeedEvent { seq } ... on PointsAdded { step series { name steps values } } } }"""
WATCHERS = 100
RATE = 50
SECONDS = 6


async def rows() -> list[Row]:
    """Delays and cost, of the server and of bare WebSockets."""
    bare, bare_cost = await _bare()
    async with serving() as server:
        job, run = await server.running_job()
        delays, cost = await _watched(server, job, run)
    label = f"{RATE} points/s to one run, {WATCHERS} watchers"
    limited = "the same bytes over bare WebSockets"
    return [
        Row(f"{label}: delay p50", p(delays, 50) * 1e3, "ms", 3, p(bare, 50) * 1e3, limited),
        Row(f"{label}: delay p99", p(delays, 99) * 1e3, "ms", 10, p(bare, 99) * 1e3, limited),
        Row(f"{label}: server CPU s per 1,000 deliveries", cost, "s", bare_cost * 1.5, bare_cost, limited),
    ]


async def _watched(server: Server, job: str, run: str) -> tuple[list[float], float]:
    delays: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(follow(server, run)) for _ in range(WATCHERS)]
        readers = [asyncio.create_task(read(socket, delays)) for socket in sockets]
        used = server.cpu_seconds()
        for _ in range(RATE * SECONDS):
            server.number += 1
            variables = {"j": job, "p": "watched", "n": server.number, "v": time.time()}
            await asyncio.gather(server.ask(LOG_POINT, **variables), asyncio.sleep(1 / RATE))
        await asyncio.sleep(0.5)
        cost = (server.cpu_seconds() - used) / len(delays) * 1000
        for reader in readers:
            reader.cancel()
    return delays, cost


@contextlib.asynccontextmanager
async def follow(
    server: Server, run: str = "", *, query: str = WATCH, variables: dict[str, Any] | None = None
) -> AsyncIterator[ClientConnection]:
    """A socket that is subscribed to a run's points, or to what `query` says."""
    url = server.url.replace("http", "ws") + "/graphql"
    headers = {"Authorization": f"Bearer {server.token}"}
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(
        url, subprotocols=protocols, additional_headers=headers, compression=None, proxy=None
    ) as socket:
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        payload = {"query": query, "variables": variables or {"r": run, "a": None}}
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        yield socket


async def read(socket: ClientConnection, delays: list[float]) -> None:
    """Take note of how late each point comes."""
    async for text in socket:
        now = time.time()
        message = orjson.loads(text)
        if message["type"] == "next" and "series" in message["payload"]["data"]["metrics"]:
            delays.append(now - message["payload"]["data"]["metrics"]["series"][0]["values"][0])


async def _bare() -> tuple[list[float], float]:
    """The same messages by a server that does nothing else, at the same rate, to as many sockets."""
    delays: list[float] = []

    async def read(socket: ClientConnection) -> None:
        async for text in socket:
            delays.append(time.time() - orjson.loads(text)["at"])

    async with limiting() as bare, contextlib.AsyncExitStack() as stack, httpx.AsyncClient() as http:
        process = bare.process
        listen = bare.url.replace("http", "ws") + "/listen"
        readers = []
        for _ in range(WATCHERS):
            socket = await stack.enter_async_context(connect(listen, compression=None, proxy=None))
            readers.append(asyncio.create_task(read(socket)))
        used = sum(process.cpu_times()[:2])
        for _ in range(RATE * SECONDS):
            body = orjson.dumps({"at": time.time(), "padding": "x" * 150})
            await asyncio.gather(http.post(f"{bare.url}/push", content=body), asyncio.sleep(1 / RATE))
        await asyncio.sleep(0.5)
        cost = (sum(process.cpu_times()[:2]) - used) / len(delays) * 1000
        for reader in readers:
            reader.cancel()
    return delays, cost
