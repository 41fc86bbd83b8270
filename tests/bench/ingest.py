"""Metrics written: by one client in columns, by many point by point, each answered once it is committed.

The goals were set where the same chunks raw took 5,600,000 points/s on SQLite. Elsewhere it is the share of that which
says how far the server is from its goal, so it has a row. The endpoint that parses and answers took 8,800 calls/s
there; the one here does so little that it takes twice as many on slower machines: its share is told, and has no goal.

Where the time of a call of 1 x 1,000 points goes, on SQLite (tenth percentiles of 3,000 calls in microseconds, of a
server that marks each step, on two cores of which others had most):

    its 30 kB taken from the socket and its head read                       34
    the request made of it, its host, its token, its body put together      67
    JSON to Python's objects                                                60
    the three columns checked and made arrays, the execution begun         118
    the resolver called, its input made, the batch judged by itself         56
    the batch in the queue, and the task that commits begun                 20
    the transaction opened                                                  55
    what the batch meets, read                                              42
    the chunk made, five rows and it written                                98
    its commit: fifteen pages to the log, and fdatasync                     225
    the connection given back, the followers told                           34
    the caller woken                                                        27
    the answer completed and encoded                                        46
    the answer sent                                                         40

That is all in turn, 970: while a client waits for each answer nothing can be done beside it. Since then the connection
stays open between transactions, which saves 40 of opening it and giving it back. The client's own part, and each
side's waking from the socket, are some 60 more; the median is 1,040 to 1,110. Beside it a thread copies the log into
the database, and the compactor puts chunks together in a tenth of the time: both share the disk and the processor, so
that one call in ten takes 1,400 to 1,700, and the mean is 1,200 to 1,350. With a log that was copied after 1,000 pages
instead of 4,000 those were 1,580 to 2,040, and 1,270 to 1,410.

One point a call with 16 clients takes 190 of a core a call, which a group of calls shares where it can:

    HTTP in, the request made, its host and its token                       50
    JSON, and its coercion                                                  10
    the operation executed, its input made, the batch judged by itself      43
    a call's part in its group's transaction                                37
    a call's part in its group's commit                                     13
    the answer completed, encoded and sent                                  18
    the event loop, tasks and what works beside                             22
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import numpy as np
import orjson

from tests.bench import server as bench
from tests.bench.rows import Row
from tests.bench.server import Server, Wire, limiting, serving

LOG = """mutation($j: ID!, $n: Int64!, $s: [SeriesInput!]!) {
  logMetrics(input: {job: $j, producer: "bench", number: $n, series: $s}) { seq errors { message } } }"""
LOG_POINT = """mutation($j: ID!, $p: String!, $n: Int64!, $v: Float!) {
  logMetrics(input: {job: $j, producer: $p, number: $n, points: [{name: "loss", value: $v}]}) {
    seq errors { message } } }"""
SECONDS = 3.0
CLIENTS = 16
BATCHES = 50
"""Different ones, in turn."""
_TABLE = "CREATE TABLE chunks (series bigint, seq bigint, steps {0}, times {0}, vals {0}, PRIMARY KEY (series, seq))"

Write = Callable[[int], Awaitable[None]]


async def rows() -> list[Row]:
    """What is written a second, beside the same without us around it."""
    async with serving() as server:
        job, _ = await server.running_job()
        return [
            *await _columns(server, job, 1, goal=700_000, there=5_600_000),
            *await _columns(server, job, 10, goal=1_500_000),
            *await _points(server, job, goal=3_000),
        ]


async def _columns(
    server: Server, job: str, names: int, *, goal: float, there: float | None = None
) -> list[Row]:
    bodies = [_body(job, names, number) for number in range(BATCHES)]
    with server.line() as line:

        async def call(number: int) -> None:
            server.number += 1
            answer = line.post(bodies[number % BATCHES] + b"%d}}" % server.number)
            assert b'"errors":[]' in answer, answer

        rate = await _rate(call, SECONDS) * names * 1000
    raw = await (_raw_sqlite(names) if bench.DATABASE is None else _raw_postgresql(names, bench.DATABASE))
    work = f"ingest, one client, {names} x 1,000 points a call"
    row = Row(work, rate, "points/s", goal, raw * names * 1000, "the same chunks raw", more=True)
    return [row, _share(row, there if bench.DATABASE is None else None)]


def _share(row: Row, there: float | None) -> Row:
    """How much of its limit a row is; the goal's share where it was set is the goal."""
    assert row.limit is not None and row.goal is not None
    goal = None if there is None else row.goal / there
    return Row(f"    of what {row.limited_by} takes", row.value / row.limit, "", goal, None, "", more=True)


def _body(job: str, names: int, number: int) -> bytes:
    """A request but for its batch's number: what takes a client to write it is not measured here."""
    steps = list(range(number * 1000, number * 1000 + 1000))
    times = [time.time_ns() // 1000 + step for step in range(1000)]
    random = np.random.default_rng(number)
    series = [
        {"name": f"m{n}", "steps": steps, "times": times, "values": random.random(1000).tolist()}
        for n in range(names)
    ]
    asked = orjson.dumps({"query": LOG, "variables": {"j": job, "s": series}})
    return asked.removesuffix(b"}}") + b',"n":'


async def _rate(call: Write, seconds: float) -> float:
    """Calls a second, one after the other; the first is not counted."""
    await call(0)
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        calls += 1
        await call(calls)
    return calls / (time.perf_counter() - began)


async def _raw_sqlite(names: int) -> float:
    """Transactions a second that SQLite takes of so many chunks, as durable."""
    chunk = np.zeros(1000).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(_TABLE.format("blob"))

        async def write(number: int) -> None:
            database.execute("BEGIN IMMEDIATE")
            rows = [(series, number, chunk, chunk, chunk) for series in range(names)]
            database.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")

        rate = await _rate(write, 1.0)
        database.close()
    return rate


async def _raw_postgresql(names: int, url: str) -> float:
    """Transactions a second that PostgreSQL takes of so many chunks, as durable."""
    chunk = np.zeros(1000).tobytes()
    async with bench.fresh_database(url) as own:
        database = await asyncpg.connect(own)
        await database.execute(_TABLE.format("bytea"))
        arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(["bigint"] * 2 + ["bytea"] * 3, 1))
        insert = f"INSERT INTO chunks SELECT * FROM unnest({arrays})"

        async def write(number: int) -> None:
            await database.execute(insert, list(range(names)), [number] * names, *([[chunk] * names] * 3))

        rate = await _rate(write, 1.0)
        await database.close()
    return rate


async def _points(server: Server, job: str, *, goal: float) -> list[Row]:
    async with limiting() as bare:
        limit = await _calls([await _wire(bare.url) for _ in range(CLIENTS)], job)
    rate = await _calls([await server.wire() for _ in range(CLIENTS)], job)
    work, limited_by = f"ingest, one point a call, {CLIENTS} clients", "an endpoint that parses and answers"
    row = Row(work, rate, "calls/s", goal, limit, limited_by, more=True)
    return [row, _share(row, None)]


async def _wire(url: str) -> Wire:
    host, _, port = url.removeprefix("http://").partition(":")
    return Wire(*await asyncio.open_connection(host, int(port)), "-")


async def _calls(wires: list[Wire], job: str) -> float:
    """Calls a second of several clients."""
    until = time.perf_counter() + SECONDS

    async def client(name: str, wire: Wire) -> int:
        number = 0
        while time.perf_counter() < until:
            number += 1
            answer = await wire.raw(LOG_POINT, j=job, p=name, n=number, v=0.5)
            assert b'"errors":[]' in answer, answer
        wire.close()
        return number

    began = time.perf_counter()
    done = await asyncio.gather(*(client(f"c{at}", wire) for at, wire in enumerate(wires)))
    return sum(done) / (time.perf_counter() - began)
