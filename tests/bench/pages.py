"""Lists: the page of newest runs among ten thousand."""

import asyncio
import os
import sqlite3
import time
from typing import Any

from tests.bench.rows import Row, p
from tests.bench.server import Server, serving

PAGE = """query { runs(first: 50) { nodes {
  id name state createdAt startedAt endedAt metrics(names: ["a", "b", "c", "d", "e"]) { name last }
  jobs { step state arguments } } pageInfo { endCursor hasNextPage } } }"""
RUNS = 10_000
SECONDS = 3.0


async def rows() -> list[Row]:
    """The page, one client and several."""
    async with serving() as server:
        await server.ended(await server.start_run("stamp"))
        _multiply(server, RUNS)
        limit = _rows_alone(server)
        times: list[float] = []
        wire = await server.wire()
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            began = time.perf_counter()
            await wire.raw(PAGE)
            times.append(time.perf_counter() - began)
        wire.close()
        rate = await rate_of(server, PAGE)
    label = "page of 50 newest runs with 5 metrics, of 10,000"
    return [
        Row(f"{label}, p50", p(times, 50) * 1e3, "ms", 2, limit * 1e3, "its rows by SQL alone"),
        Row(f"{label}, 8 clients", rate, "requests/s", 500, None, "", more=True),
    ]


async def rate_of(server: Server, query: str) -> float:
    """How many requests a second eight clients get answered."""
    done = 0
    until = time.perf_counter() + SECONDS

    async def client() -> None:
        nonlocal done
        wire = await server.wire()
        while time.perf_counter() < until:
            await wire.raw(query)
            done += 1
        wire.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(8)))
    return done / (time.perf_counter() - began)


def _multiply(server: Server, count: int) -> None:
    """Make a run that has ended ten thousand, as its rows say."""
    database = sqlite3.connect(server.home / "rungraph.db")
    database.row_factory = sqlite3.Row
    feed, run, job = (
        dict(database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone())
        for table in ("feeds WHERE kind = 'RUN'", "runs", "jobs")
    )
    at = database.execute("SELECT max(id) FROM feeds").fetchone()[0]
    with database:
        for number in range(count):
            at += 1
            key = run["id"][:6] + os.urandom(10)
            _insert(database, "feeds", {**feed, "id": at, "owner": key})
            _insert(database, "runs", {**run, "id": key, "feed_id": at, "idempotency_key": None})
            arguments = '{"epochs": 5, "rate": 0.1, "seed": 1, "name": "x", "flag": true}'
            one = {**job, "id": os.urandom(16), "run_id": key, "feed_id": at, "arguments": arguments}
            _insert(database, "jobs", one)
            for name in "abcde":
                _insert(database, "run_metrics", _metric(one, name, number))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def _metric(job: dict[str, Any], name: str, number: int) -> dict[str, Any]:
    return {
        "run_id": job["run_id"],
        "name": name,
        "project_id": job["project_id"],
        "job_id": job["id"],
        "attempt": 1,
        "last": number / 7,
        "last_step": 1,
    }


def _insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _rows_alone(server: Server) -> float:
    """What the page's rows cost by plain SQL: runs, then their jobs and metrics."""
    database = sqlite3.connect(server.home / "rungraph.db")
    times: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        runs = database.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 51").fetchall()
        marks = ", ".join("?" * len(runs))
        keys = [run[0] for run in runs]
        database.execute(f"SELECT * FROM jobs WHERE run_id IN ({marks})", keys).fetchall()
        database.execute(f"SELECT * FROM run_metrics WHERE run_id IN ({marks})", keys).fetchall()
        times.append(time.perf_counter() - began)
    database.close()
    return p(times, 50)
