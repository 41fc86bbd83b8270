"""Reading series over the API: `python -m tests.bench series [--url URL]`.

A million points, ten million, and fifty runs of four metrics of 100,000 points each, put in by the commands of db and
compacted, in a SQLite file of the benchmark's own or in the database of the URL, which must be empty. What was
just reported and is not compacted yet is read, too.
"""

import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson

from backends.compactor import Compactor
from db import batches, feeds, ids, leases, schema
from db.bus import Bus
from db.claims import Launch
from db.database import Database
from db.points import Column
from tests.bench.asked import asked
from tests.bench.rows import Row, p
from tests.bench.server import Server, Wire, free_port
from tests.db.world import World, origin_of

ALL = 'query($r: [ID!]!) { series(runs: $r, names: ["m0"]) { count steps values } }'
DRAWN = """query($r: [ID!]!, $n: [String!]!, $most: Int!, $range: SeriesRange) {
  series(runs: $r, names: $n, maxPoints: $most, range: $range) { name count total steps values } }"""
BATCH = 10_000
BUCKETS = 3_000
"""Points that a thousand buckets have."""
TIMES = 15


async def rows() -> list[Row]:
    """Everything about reading series."""
    url: str = asked().url
    home = Path(tempfile.mkdtemp(prefix="rungraph-bench-"))
    try:
        return await _rows(url or f"sqlite:///{home / 'rungraph.db'}", home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _rows(url: str, home: Path) -> list[Row]:
    await schema.upgrade(url)
    database = Database(url, bus=Bus("memory://"))
    world = await World.make(database)
    made = [await _report(world, ["m0"], 1_000_000), await _report(world, ["m0"], 10_000_000)]
    made += [await _report(world, [f"m{n}" for n in range(4)], 100_000) for _ in range(50)]
    fresh = await _report(world, ["m0"], 1_000_000)
    began = time.perf_counter()
    for launch in made:
        await world.end(launch)
    await Compactor(database).step()
    compacting = time.perf_counter() - began
    server = Server(home, free_port(), url)
    try:
        # The lease of who put it in runs out: a server does not lock another one out.
        await asyncio.sleep(leases.LEASE.total_seconds() + 1)
        await server.start()
        wire = await server.wire()
        return await _measured(wire, url, made, fresh, compacting)
    finally:
        if server.process is not None:
            server.kill()
        await server.client.aclose()
        await database.close()


async def _report(world: World, names: Sequence[str], points: int) -> Launch:
    """A run that reports so many points of each metric, in batches."""
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    origin = await origin_of(world, launch)
    random = np.random.default_rng(0)
    for start in range(0, points, BATCH):
        steps = np.arange(start, start + BATCH)
        given = [Column(name, steps + 10**15, random.random(BATCH), steps) for name in names]
        async with world.database.begin() as session:
            await batches.append(session, await feeds.lock(session, launch.feed_id), origin, given)
    return launch


async def _measured(
    wire: Wire, url: str, made: Sequence[Launch], fresh: Launch, compacting: float
) -> list[Row]:
    one, ten, many = [_ids(made[:1]), _ids(made[1:2]), _ids(made[2:])]
    names = [f"m{n}" for n in range(4)]
    postgresql = not url.startswith("sqlite")
    drawn: dict[str, Any] = {"n": names, "most": BUCKETS}
    zoomed = {"from": 4_321_000, "to": 5_320_999}
    return [
        Row(
            "one series of 1,000,000 points, all of it, p50",
            await _timed(wire, ALL, 1_000_000, r=one),
            "ms", 130, await _limit(url, made[0]), "its chunks read and orjson",
        ),
        Row("the same in 1,000 buckets", await _timed(wire, DRAWN, None, r=one, **drawn), "ms", 20, None, ""),
        Row(
            "the same, just reported, all of it",
            await _timed(wire, ALL, 1_000_000, r=_ids([fresh])),
            "ms", 130, await _limit(url, fresh), "its chunks read and orjson",
        ),
        Row(
            "the same, just reported, in 1,000 buckets",
            await _timed(wire, DRAWN, None, r=_ids([fresh]), **drawn),
            "ms", None, None, "",
        ),
        Row("10,000,000 points in 1,000 buckets", await _timed(wire, DRAWN, None, r=ten, **drawn), "ms", 20, None, ""),
        Row(
            "1,000,000 points out of 10,000,000 in 1,000 buckets",
            await _timed(wire, DRAWN, None, r=ten, range=zoomed, **drawn),
            "ms", None, None, "",
        ),
        Row(
            "50 runs x 4 metrics x 100,000 points in 1,000 buckets",
            await _timed(wire, DRAWN, None, 5, r=many, **drawn),
            "ms", 1_000 if postgresql else 2_000, None, "",
        ),
        Row("compacting and picking 31,000,000 points", compacting, "s", None, None, ""),
    ]  # fmt: skip


def _ids(launches: Sequence[Launch]) -> list[str]:
    return [ids.encode("run", launch.run_id) for launch in launches]


async def _timed(wire: Wire, query: str, count: int | None, times: int = TIMES, **variables: Any) -> float:
    """The median of some answers in milliseconds; each is looked at once."""
    answer = orjson.loads(await wire.raw(query, **variables))
    series = answer["data"]["series"]
    assert series and all(each["count"] == len(each["values"]) for each in series)
    assert all(each["count"] == count if count else 2000 < each["count"] <= BUCKETS for each in series)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await wire.raw(query, **variables)
        taken.append(time.perf_counter() - began)
    return p(taken, 50) * 1e3


CHUNKS = """SELECT steps, vals FROM metric_chunks JOIN series ON series.id = series_id
  WHERE feed_id = {} ORDER BY series_id, first_seq"""


async def _limit(url: str, launch: Launch) -> float:
    """What it takes to read a run's chunks, bare, and to write their steps and values as JSON, in milliseconds."""
    taken = []
    statement = CHUNKS.format(launch.feed_id)
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute(f"PRAGMA mmap_size = {1 << 34}")
        for _ in range(TIMES):
            began = time.perf_counter()
            _encode(connection.execute(statement).fetchall())
            taken.append(time.perf_counter() - began)
        connection.close()
    else:
        bare = await asyncpg.connect(url)
        for _ in range(TIMES):
            began = time.perf_counter()
            _encode(await bare.fetch(statement))
            taken.append(time.perf_counter() - began)
        await bare.close()
    return p(taken, 50) * 1e3


def _encode(rows: Sequence[Any]) -> None:
    columns = {
        "steps": np.frombuffer(b"".join(row[0] for row in rows), np.int64),
        "values": np.frombuffer(b"".join(row[1] for row in rows), np.float64),
    }
    orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    from tests.bench.rows import show

    show(asyncio.run(rows()))
