"""Metrics: reading a million of them; ingest.py writes them, series.py draws them."""

import time
from typing import Any

import numpy as np
import orjson

from tests.bench.ingest import LOG
from tests.bench.rows import Row, median
from tests.bench.server import Server, serving


async def rows() -> list[Row]:
    """A whole series."""
    async with serving() as server:
        return [await _million(server)]


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
