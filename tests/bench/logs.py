"""Logs: a job that prints a hundred thousand lines a second, and what the others notice of it.

The same things are timed beside nothing, beside a job that prints as much to nowhere (what a busy core costs by
itself, the limit), beside one whose lines are stored, and beside one that one socket follows while another never
reads: points of another run on their way to those who watch, reads, starts. The figures vary by a tenth from one
round to the next, the 99th percentile of starts, of which there are few, by more.
"""

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from tests.bench.follower import WATCH as WATCH_LINES
from tests.bench.ingest import LOG_POINT
from tests.bench.rows import Row, p
from tests.bench.server import START, Server, Wire, serving
from tests.bench.sockets import Socket
from tests.bench.watching import listening

RATE, WATCHERS, SECONDS, ROUNDS = 50, 10, 9.0, 2
READ_PERIOD, START_PERIOD = 0.03, 0.15
LINES, METRICS = 1_000_000, 300_000
READ = "{ runs(first: 20) { nodes { id name state jobs { id step state } } } }"


@dataclass
class Noticed:
    """Seconds that others waited."""

    points: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)


async def rows() -> list[Row]:
    """What others notice; then how fast a million lines and 300,000 metrics are stored and followed."""
    async with serving() as server:
        job, run = await server.running_job()
        calm, control, flood, followed = (Noticed() for _ in range(4))
        for _ in range(ROUNDS):
            await _measured(server, "calm", _noticed(server, job, run, calm))
            async with _flooding(server, "nowhere"):
                await _measured(server, "control", _noticed(server, job, run, control))
            async with _flooding(server, "flood"):
                await _measured(server, "flood", _noticed(server, job, run, flood))
            async with _flooding(server, "flood") as flooding, _watched(server, flooding):
                await _measured(server, "followed", _noticed(server, job, run, followed))
        burst = await _stored(server, "burst")
        numbers = await _stored(server, "numbers")
        read = await _read(server)
        memory = server.resident_bytes() / 1e6
    sys.stdout.write(f"server's memory afterwards {memory:.0f} MB\n")
    found = []
    for name in ("points", "reads", "starts"):
        for percent in (50, 99):
            idle, limit = p(getattr(calm, name), percent) * 1e3, p(getattr(control, name), percent) * 1e3
            label = f"{name}, p{percent}"
            found.append(Row(f"{label}, beside a job that prints nowhere", limit, "ms", None, idle, "no job"))
            for words, noticed in (("stored", flood), ("stored and followed", followed)):
                value = p(getattr(noticed, name), percent) * 1e3
                work = f"{label}, beside 100,000 lines/s {words}"
                found.append(Row(work, value, "ms", limit * 1.1, limit, "printed nowhere"))
    raw = await asyncio.to_thread(_raw_rate)
    limited = "raw frames written, read, inserted"
    found.append(Row("a million lines, read by one follower", read, "lines/s", 100_000, None, "", more=True))
    found.append(Row("a million lines stored", LINES / burst, "lines/s", 100_000, raw, limited, more=True))
    label = "printed metrics stored, two values a line"
    found.append(Row(label, METRICS / numbers, "lines/s", None, None, "", more=True))
    return found


async def _measured(server: Server, name: str, noticing: Awaitable[None]) -> None:
    """Say how much of a core the server took meanwhile."""
    used, began = server.cpu_seconds(), time.perf_counter()
    await noticing
    share = (server.cpu_seconds() - used) / (time.perf_counter() - began)
    sys.stdout.write(f"{name}: the server used {share:.0%} of a core\n")


async def _noticed(server: Server, job: str, run: str, told: Noticed) -> None:
    """What others notice for a while: each kind at its own pace."""
    until = time.perf_counter() + SECONDS
    async with contextlib.AsyncExitStack() as stack:
        listeners = await stack.enter_async_context(
            listening(WATCHERS, f"{server.url}/graphql", server.token, run)
        )
        writing, reading, starting = [await server.wire() for _ in range(3)]
        for wire in (writing, reading, starting):
            stack.callback(wire.close)
        start = partial(starting.raw, START, p=server.pipelines["stamp"])
        await asyncio.gather(
            _write(server, writing, job, until),
            _timed(partial(reading.raw, READ), READ_PERIOD, told.reads, until),
            _timed(start, START_PERIOD, told.starts, until),
        )
        told.points += await listeners.delays()


async def _write(server: Server, wire: Wire, job: str, until: float) -> None:
    while time.perf_counter() < until:
        server.number += 1
        variables = {"j": job, "p": "watched", "n": server.number, "v": time.time()}
        await asyncio.gather(wire.raw(LOG_POINT, **variables), asyncio.sleep(1 / RATE))


async def _timed(ask: Any, period: float, told: list[float], until: float) -> None:
    while time.perf_counter() < until:
        began = time.perf_counter()
        answer = await ask()
        told.append(time.perf_counter() - began)
        assert b'"data"' in answer, answer
        await asyncio.sleep(period)


@contextlib.asynccontextmanager
async def _flooding(server: Server, name: str) -> AsyncIterator[str]:
    """The job of a run that has begun to print; the run has ended afterwards."""
    run = await server.start_run(name)
    query = "query($r: ID!) { run(id: $r) { jobs { id logs(first: 1) { nodes { number } } } } }"
    while not (job := (await server.ask(query, r=run))["run"]["jobs"][0])["logs"]["nodes"]:
        await asyncio.sleep(0.01)
    yield str(job["id"])
    await server.ended(run)


@contextlib.asynccontextmanager
async def _watched(server: Server, job: str) -> AsyncIterator[None]:
    """One who follows a job's lines, and one who does not read what it asked for."""
    process = await _follower(server, job)
    stalled = await asyncio.to_thread(Socket, f"{server.url}/graphql", server.token)
    stalled.subscribe(WATCH_LINES, j=job, a=0)
    with contextlib.closing(stalled.file):
        yield
    lines, took, pause, lag = orjson.loads((await process.communicate())[0])
    words = f"{lines:,} lines in {took:.1f} s, the longest pause {pause * 1e3:.0f} ms, late p50 {lag[0] * 1e3:.0f} ms"
    sys.stdout.write(f"the follower got {words}, p99 {lag[1] * 1e3:.0f} ms\n")


async def _follower(server: Server, job: str) -> asyncio.subprocess.Process:
    command = ("-m", "tests.bench.follower", server.url, server.token, job)
    return await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)


async def _read(server: Server) -> float:
    """Lines a second to who follows a job that prints a million as fast as it can, from its first line on."""
    async with _flooding(server, "burst") as job:
        lines, took, *_ = orjson.loads((await (await _follower(server, job)).communicate())[0])
    return float(lines / took)


async def _stored(server: Server, name: str) -> float:
    """Seconds from a run's start to its end."""
    began = time.perf_counter()
    await server.ended(await server.start_run(name))
    return time.perf_counter() - began


def _raw_rate() -> float:
    """A million such lines: framed to a file in pieces of 64 KiB, read, and inserted as they are."""
    line = b"2026-01-01 12:00:00 INFO step 0000000 of the loop, loss 0.000000 and more\n"
    piece = line * ((64 << 10) // len(line))
    count = LINES * len(line) // len(piece)
    with tempfile.TemporaryDirectory(prefix="rungraph-bench-") as folder:
        database = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE chunks (seq INTEGER PRIMARY KEY, data BLOB)")
        began = time.perf_counter()
        path = Path(folder) / "frames"
        with path.open("wb", buffering=0) as file:
            for _ in range(count):
                file.write(piece)
        descriptor = os.open(path, os.O_RDONLY)
        while data := os.read(descriptor, 1 << 20):
            database.execute("BEGIN IMMEDIATE")
            parts = [(data[at : at + (32 << 10)],) for at in range(0, len(data), 32 << 10)]
            database.executemany("INSERT INTO chunks (data) VALUES (?)", parts)
            database.execute("COMMIT")
        taken = time.perf_counter() - began
        os.close(descriptor)
        database.close()
    return LINES / taken
