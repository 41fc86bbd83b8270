"""Lists among a million runs, over the API: `python -m tests.bench lists --runs 1000000 [--url URL]`.

Without a URL the runs are made in a SQLite file of the benchmark's own, which takes five minutes for a
million; with one, in that database unless it has runs already. The page of newest runs, then every kind of
list: filtered, sorted, rare, common, and those that match nothing.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from db import schema
from db.bus import Bus
from db.database import Database
from db.runs import Run
from tests.bench import million
from tests.bench.asked import asked
from tests.bench.pages import rate_of
from tests.bench.rows import Row, p
from tests.bench.server import Server, free_port

PAGE = """query { runs(first: 50) { nodes {
  id name state createdAt startedAt endedAt metrics { name last } jobs { step state arguments } }
  pageInfo { endCursor hasNextPage } } }"""
LIST = """query ($filter: RunFilter, $sort: RunSort) { runs(first: 50, filter: $filter, sort: $sort) {
  nodes { id name state metrics(names: ["loss"]) { last } } pageInfo { endCursor hasNextPage } } }"""
LOSS = {"by": "METRIC", "name": "loss"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any] | None, float]] = [
    ("by a metric", {}, LOSS, 50),
    ("loss < 0.3 by loss", {"metrics": [{"name": "loss", "lt": 0.3}]}, LOSS, 50),
    (
        "SUCCEEDED, loss < 0.3, by accuracy",
        {"states": ["SUCCEEDED"], "metrics": [{"name": "loss", "lt": 0.3}]},
        {"by": "METRIC", "name": "accuracy"},
        50,
    ),
    ("a tag of every third by loss", {"tags": [{"name": "env", "value": "ci"}]}, LOSS, 50),
    ("a tag of 10 by loss", {"tags": [{"name": "grade", "value": "gold"}]}, LOSS, 50),
    ("a tag of 2,000 by loss", {"tags": [{"name": "branch", "value": "branch-7"}]}, LOSS, 200),
    ("a tag of 10,000 by loss", {"tags": [{"name": "dataset", "value": "dataset-7"}]}, LOSS, 200),
    ("FAILED, newest", {"states": ["FAILED"]}, None, 50),
    ("a tag that none has", {"tags": [{"name": "grade", "value": "none"}]}, None, 50),
    (
        "FAILED and loss < 0.1: none",
        {"states": ["FAILED"], "metrics": [{"name": "loss", "lt": 0.1}]},
        None,
        500,
    ),
    ("lr < 0.00001 by loss", {"arguments": [{"name": "lr", "lt": 1e-5}]}, LOSS, 50),
    ("by an argument", {}, {"by": "ARGUMENT", "name": "lr"}, 50),
    ("by duration", {}, {"by": "DURATION"}, 50),
    ("by name", {}, {"by": "NAME"}, 50),
    ("search for a name", {"search": "brisk cedar 9"}, None, 200),
    ("search for nothing there is", {"search": "zzzq"}, None, 50),
    ("search for two letters: none", {"search": "zz"}, None, 500),
]


async def rows() -> list[Row]:
    """Each kind of list, one client, p50 of 30."""
    options = asked()
    home = Path(tempfile.mkdtemp(prefix="rungraph-lists-", dir=options.folder))
    url = options.url or f"sqlite:///{home / 'rungraph.db'}"
    await schema.upgrade(url)
    database = Database(url, bus=Bus("memory://"))
    async with database.read() as session:
        empty = await session.scalar(select(Run.id).limit(1)) is None
    if empty:
        await million.fill(database, options.runs)
    await database.close()
    server = Server(home, free_port(), url)
    await server.start()
    try:
        return await _measured(server, options.runs)
    finally:
        server.kill(15)
        await server.client.aclose()
        shutil.rmtree(home, ignore_errors=True)


async def _measured(server: Server, count: int) -> list[Row]:
    newest = f"page of 50 newest, {count:,} runs"
    found = [
        Row(f"{newest}, p50", await _p50(server, PAGE, {}), "ms", 2, None, ""),
        Row(f"{newest}, 8 clients", await rate_of(server, PAGE), "requests/s", 500, None, "", more=True),
    ]
    for label, filter, sort, goal in CASES:
        measured = await _p50(server, LIST, {"filter": filter, "sort": sort})
        found.append(Row(f"{label}, p50", measured, "ms", goal, None, ""))
    return found


async def _p50(server: Server, query: str, variables: dict[str, Any]) -> float:
    times = []
    wire = await server.wire()
    for _ in range(33):
        began = time.perf_counter()
        answer = await wire.raw(query, **variables)
        times.append(time.perf_counter() - began)
        assert b'"errors"' not in answer, answer[:500]
    wire.close()
    return p(times[3:], 50) * 1e3
