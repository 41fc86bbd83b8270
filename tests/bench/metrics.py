"""Metrics: writing them, reading a million of them."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from tests.bench.rows import Row, median
from tests.bench.server import Server, limiting, serving

LOG = """mutation($j: ID!, $n: Int64!, $s: [SeriesInput!]!) {
  logMetrics(input: {job: $j, producer: "bench", number: $n, series: $s}) { seq errors { message } } }"""
LOG_POINT = """mutation($j: ID!, $p: String!, $n: Int64!, $v: Float!) {
  logMetrics(input: {job: $j, producer: $p, number: $n, points: [{name: "loss", value: $v}]}) {
    seq errors { message } } }"""
SECONDS = 3.0
CLIENTS = 16


async def rows() -> list[Row]:
    """Everything about metrics."""
    async with serving() as server:
        job, _ = await server.running_job()
        found = [
            await _columns(server, job, 1, goal=700_000),
            await _columns(server, job, 10, goal=1_500_000),
            await _points(server, job),
        ]
    async with serving() as server:
        found.append(await _million(server))
    return found


async def _columns(server: Server, job: str, names: int, *, goal: float) -> Row:
    steps = list(range(1000))
    values = np.random.default_rng(0).random(1000).tolist()
    times = [time.time_ns() // 1000] * 1000
    series = [{"name": f"m{n}", "steps": steps, "times": times, "values": values} for n in range(names)]
    number, began = server.number, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        server.number += 1
        await server.ask(LOG, j=job, n=server.number, s=series)
    rate = (server.number - number) * names * 1000 / (time.perf_counter() - began)
    return Row(
        f"ingest, one client, {names} x 1,000 points a call",
        rate,
        "points/s",
        goal,
        _raw_rate(names),
        "the same chunks raw, on SQLite",
        more=True,
    )


def _raw_rate(names: int) -> float:
    """Points a second that SQLite takes as chunks, a transaction a call, as durable."""
    chunk = np.zeros(1000).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE chunks (series, seq, steps, times, vals, PRIMARY KEY (series, seq))")
        calls, began = 0, time.perf_counter()
        while time.perf_counter() - began < 1:
            calls += 1
            database.execute("BEGIN IMMEDIATE")
            rows = [(series, calls, chunk, chunk, chunk) for series in range(names)]
            database.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")
        database.close()
    return calls * names * 1000 / (time.perf_counter() - began)


async def _points(server: Server, job: str) -> Row:
    async with limiting() as bare:
        limit = await _calls(bare.url, job, "-")
    rate = await _calls(server.url, job, server.token)
    return Row(
        f"ingest, one point a call, {CLIENTS} clients",
        rate,
        "calls/s",
        3_000,
        limit,
        "an endpoint that parses and answers",
        more=True,
    )


async def _calls(url: str, job: str, token: str) -> float:
    """Calls a second of several clients."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    done = 0
    until = time.perf_counter() + SECONDS

    async def client(name: str) -> None:
        nonlocal done
        number = 0
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as http:
            while time.perf_counter() < until:
                number += 1
                variables = {"j": job, "p": name, "n": number, "v": 0.5}
                body = orjson.dumps({"query": LOG_POINT, "variables": variables})
                answer = await http.post(f"{url}/graphql", content=body)
                assert b'"errors":[]' in answer.content, answer.text
                done += 1

    began = time.perf_counter()
    await asyncio.gather(*(client(f"c{n}") for n in range(CLIENTS)))
    return done / (time.perf_counter() - began)


async def _million(server: Server) -> Row:
    job, run = await server.running_job()
    steps, batch = 100, 10_000
    for at in range(steps):
        values = (np.arange(batch) / batch).tolist()
        numbers = list(range(at * batch, (at + 1) * batch))
        server.number += 1
        one: dict[str, Any] = {"name": "long", "steps": numbers, "times": numbers, "values": values}
        await server.ask(LOG, j=job, n=server.number, s=[one])
    query = 'query($r: ID!) { series(runs: [$r], names: ["long"]) { count steps values } }'
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        answer = await server.raw(query, r=run)
        times.append(time.perf_counter() - began)
    assert orjson.loads(answer)["data"]["series"][0]["count"] == steps * batch
    return Row(
        "one series of 1,000,000 points, all of it, p50",
        median(times) * 1e3,
        "ms",
        130,
        _encoding() * 1e3,
        "orjson of the same columns",
    )


def _encoding() -> float:
    columns = {"steps": np.arange(1_000_000), "values": np.arange(1_000_000) / 10_000}
    began = time.perf_counter()
    orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)
    return time.perf_counter() - began
