"""Logs: a job that prints a hundred thousand lines a second, and what the others notice of it.

The same things are timed without the flood and with it: points of another run on their way to those who
watch, reads, starts. Meanwhile one socket follows the flood's lines and one never reads.
"""

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.bench.follower import WATCH as WATCH_LINES
from tests.bench.metrics import LOG_POINT
from tests.bench.rows import Row, p
from tests.bench.server import Server, serving
from tests.bench.watching import follow, read

RATE, WATCHERS, SECONDS, PERIOD = 50, 10, 10.0, 0.1
LINES, METRICS = 1_000_000, 300_000
READ = "{ runs(first: 20) { nodes { id name state jobs { id step state } } } }"


@dataclass
class Noticed:
    """Seconds that others waited."""

    points: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)


async def rows() -> list[Row]:
    """With and without; then how fast a million lines and 300,000 metrics are stored."""
    async with serving() as server:
        job, run = await server.running_job()
        quiet = await _noticed(server, job, run)
        flooding = await server.start_run("flood")
        async with _watched(server, flooding) as follower:
            flood = await _noticed(server, job, run)
            await server.ended(flooding)
        lines, took, pause = orjson.loads((await follower.communicate())[0])
        burst = await _stored(server, "burst")
        numbers = await _stored(server, "numbers")
        memory = server.resident_bytes() / 1e6
    sys.stdout.write(f"server's memory afterwards {memory:.0f} MB\n")
    sys.stdout.write(f"the follower got {lines:,} lines, the longest pause was {pause * 1e3:.0f} ms\n")
    found = []
    for name in ("points", "reads", "starts"):
        calm, beside = getattr(quiet, name), getattr(flood, name)
        for percent in (50, 99):
            measured, limit = p(beside, percent) * 1e3, p(calm, percent) * 1e3
            label = f"{name} beside 100,000 lines/s: p{percent}"
            found.append(Row(label, measured, "ms", None, limit, "the same without the flood"))
    raw = await asyncio.to_thread(_raw_rate)
    limited = "raw frames written, read, inserted"
    found.append(Row("followed by one watcher", lines / took, "lines/s", 100_000, None, "", more=True))
    found.append(Row("a million lines stored", LINES / burst, "lines/s", 100_000, raw, limited, more=True))
    label = "printed metrics stored, two values a line"
    found.append(Row(label, METRICS / numbers, "lines/s", None, None, "", more=True))
    return found


async def _noticed(server: Server, job: str, run: str) -> Noticed:
    """What others notice for a while: each kind at its own pace."""
    told = Noticed()
    until = time.perf_counter() + SECONDS
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(follow(server, run)) for _ in range(WATCHERS)]
        readers = [asyncio.create_task(read(socket, told.points)) for socket in sockets]
        await asyncio.gather(
            _write(server, job, until),
            _timed(lambda: server.ask(READ), told.reads, until),
            _timed(lambda: server.start_run("stamp"), told.starts, until),
        )
        for reader in readers:
            reader.cancel()
    return told


async def _write(server: Server, job: str, until: float) -> None:
    while time.perf_counter() < until:
        server.number += 1
        variables = {"j": job, "p": "watched", "n": server.number, "v": time.time()}
        await asyncio.gather(server.ask(LOG_POINT, **variables), asyncio.sleep(1 / RATE))


async def _timed(ask: Any, told: list[float], until: float) -> None:
    while time.perf_counter() < until:
        began = time.perf_counter()
        await ask()
        told.append(time.perf_counter() - began)
        await asyncio.sleep(PERIOD)


@contextlib.asynccontextmanager
async def _watched(server: Server, run: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One who follows a run's lines, and one who does not read what it asked for."""
    asked = await server.ask("query($r: ID!) { run(id: $r) { jobs { id } } }", r=run)
    job = asked["run"]["jobs"][0]["id"]
    command = ("-m", "tests.bench.follower", server.url, server.token, job)
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    async with follow(server, query=WATCH_LINES, variables={"j": job, "a": 0}):
        yield process


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
