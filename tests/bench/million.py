"""A database of very many runs, as it would be after years: real rows of every table that lists touch.

One run of each of twenty pipelines is started, ended and deleted by the commands of db; all are its rows with
values of their own: 5 headline values, 10 tags and 5 arguments a run. Very many go in in bulk, without the
indexes, which are made afterwards. The same numbers come out every time. lists.py measures with it.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import asyncpg
import numpy as np
import orjson
from sqlalchemy import select

from db import deletions, schema, tables
from db.bus import Bus
from db.database import Database
from db.feeds import Feed
from db.jobs import Job
from db.manifests import Function, Option, OptionType
from db.runs import Run
from db.steps import StepSpec
from db.viewers import Viewer
from tests.db.world import World

TABLES = ("feeds", "runs", "jobs", "run_metrics", "run_tags", "run_arguments")
CHUNK = 20_000
SPAN_SECONDS = 2 * 365 * 86_400
METRICS = ("accuracy", "f1", "loss", "seconds", "val_loss")
WORDS = ("ada", "brisk", "cedar", "delta", "ember", "fjord", "gamma", "harbor", "indigo", "juniper")
Rows = dict[str, list[tuple[Any, ...]]]


def options() -> tuple[Option, ...]:
    """The five options of the function that all runs are of."""
    words = {"optimizer": ("adam", "sgd", "lion", "lamb"), "model": ("small", "base", "large")}
    numbers = {"lr": 0.1, "batch": 32, "epochs": 10}
    return (
        *(Option(name, type=OptionType.STR, default=choices[0]) for name, choices in words.items()),
        *(Option(name, type=OptionType.FLOAT, default=float(value)) for name, value in numbers.items()),
    )


async def fill(database: Database, count: int) -> None:
    """Put `count` runs into a migrated database that has none."""
    world = await World.make(database, Function("train", options=options()))
    pipelines = [
        await world.draw({"train": StepSpec("train", "ml/train", {})}, name=f"pipeline-{number}")
        for number in range(20)
    ]
    for pipeline_id in pipelines:
        await world.start(pipeline_id)
    await world.drive()
    async with database.read() as session:
        runs = [_kept(row) for row in (await session.execute(select(Run.__table__))).mappings()]
        jobs = [_kept(row) for row in (await session.execute(select(Job.__table__))).mappings()]
        of_first = select(Feed.__table__).where(Feed.owner == runs[0]["id"])
        feed = _kept((await session.execute(of_first)).mappings().one())
    for run in runs:  # newer than all that are made here, they would stand at the head of every page
        await _delete(database, world.viewer, run["id"])
    made = _rows(runs, jobs, feed, count)
    if database.url.get_backend_name() == "sqlite":
        _load_sqlite(database.url.database or "", made, time.perf_counter(), aside=count > CHUNK)
    else:
        url = database.url.render_as_string(hide_password=False)
        await _load_postgresql(url, made, time.perf_counter(), aside=count > CHUNK)


async def _delete(database: Database, viewer: Viewer, run_id: bytes) -> None:
    async with database.begin() as session:
        await deletions.mark(session, viewer, run_id)
    left = True
    while left:
        async with database.begin() as session:
            left = await deletions.erase(session, run_id)


def _rows(runs: Sequence[Any], jobs: Sequence[Any], feed: Any, count: int) -> Iterator[Rows]:
    by_run = {job["run_id"]: job for job in jobs}
    now = int(time.time() * 1_000_000)
    for start in range(0, count, CHUNK):
        yield _chunk(
            [(run, by_run[run["id"]]) for run in runs], feed, start, min(CHUNK, count - start), count, now
        )


def _chunk(
    originals: Sequence[tuple[Any, Any]], feed: Any, start: int, size: int, count: int, now: int
) -> Rows:
    """The rows of some runs, the oldest first; as the database keeps them, columns in the tables' order."""
    random = np.random.default_rng(start)
    rows: Rows = {table: [] for table in TABLES}
    order = {name: itemgetter(*tables.METADATA.tables[name].columns.keys()) for name in TABLES}
    share = random.random(size)
    lengths = random.integers(1_000_000, 7_200_000_000, size)
    values = random.random((size, 8))
    picks = random.integers(0, 1_000_000, (size, 8))
    for index in range(size):
        number = start + index
        created = now - int((1 - number / count) * SPAN_SECONDS * 1_000_000) - 60_000_000
        run, job = originals[int(picks[index, 0] % 7 * picks[index, 1] % 20)]
        run_id = (created // 1000).to_bytes(6) + number.to_bytes(4) + picks[index, 2].tobytes()[:6]
        state = "SUCCEEDED" if share[index] < 0.85 else "FAILED" if share[index] < 0.95 else "CANCELLED"
        loss = float(values[index, 0]) + (5 if state == "FAILED" else 0)
        started, ended = created + 2_000_000, created + 2_000_000 + int(lengths[index])
        words = " ".join(WORDS[int(picks[index, at]) % len(WORDS)] for at in (3, 4))
        arguments = {
            "optimizer": ("adam", "sgd", "lion", "lamb")[int(picks[index, 5]) % 4],
            "model": ("small", "base", "large")[int(picks[index, 6]) % 3],
            "lr": round(10 ** (-1 - 5 * float(values[index, 1])), 6),
            "batch": 2 ** int(picks[index, 7] % 8),
            "epochs": int(picks[index, 5]) % 100,
        }
        made: dict[str, list[dict[str, Any]]] = {
            "feeds": [
                {
                    **feed,
                    "kind": "RUN",
                    "id": 1_000_000 + number,
                    "owner": run_id,
                    "ended": True,
                    "settled": True,
                }
            ],
            "runs": [
                {
                    **run,
                    "id": run_id,
                    "feed_id": 1_000_000 + number,
                    "name": f"{words} {number}",
                    "notes": f"the baseline of {words}" if number % 10 == 0 else "",
                    "state": state,
                    "priority": int(picks[index, 4]) % 3,
                    "external": number % 50 == 0,
                    "archived": number < count * 0.03,
                    "created_at": created,
                    "started_at": started,
                    "ended_at": ended,
                }
            ],
            "jobs": [
                {
                    **job,
                    "id": run_id[:6] + b"\x01" + run_id[7:],
                    "run_id": run_id,
                    "feed_id": 1_000_000 + number,
                    "arguments": orjson.dumps(arguments).decode(),
                    "state": state,
                    "queued_at": created,
                    "started_at": started,
                    "ended_at": ended,
                }
            ],
            "run_metrics": [
                _metric(run_id, run, name, loss if name == "loss" else float(values[index, 2 + at]))
                for at, name in enumerate(METRICS)
            ],
            "run_tags": [
                {"run_id": run_id, "project_id": run["project_id"], "name": name, "value": value}
                for name, value in _tags(number, picks[index])
            ],
            "run_arguments": [
                {
                    "run_id": run_id,
                    "step": "train",
                    "name": name,
                    "project_id": run["project_id"],
                    "leading": True,
                    "number": None if isinstance(value, str) else float(value),
                    "text": value if isinstance(value, str) else None,
                }
                for name, value in arguments.items()
            ],
        }
        for table, some in made.items():
            rows[table] += map(order[table], some)
    return rows


def _kept(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A value as the database keeps it."""
    if isinstance(value, str | int | float | bytes) or value is None:
        return value
    if hasattr(value, "value"):
        return value.value
    if hasattr(value, "timestamp"):
        return int(value.timestamp() * 1_000_000)
    return orjson.dumps(value).decode()


def _metric(run_id: bytes, run: Any, name: str, value: float) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "name": name,
        "project_id": run["project_id"],
        "job_id": run_id[:6] + b"\x01" + run_id[7:],
        "attempt": 1,
        "last": value,
        "last_step": 100,
        "minimum": value * 0.9,
        "minimum_step": 90,
        "maximum": value * 1.1,
        "maximum_step": 10,
    }


def _tags(number: int, picks: Any) -> list[tuple[str, str]]:
    """Ten tags, from one value for a third of all runs to one for each, and a rare one."""
    return [
        ("env", ("dev", "ci", "prod")[int(picks[0]) % 3]),
        ("team", f"team-{int(picks[1]) % 20}"),
        ("dataset", f"dataset-{int(picks[2]) % 50}"),
        ("try", str(int(picks[3]) % 100)),
        ("user", f"user-{int(picks[4]) % 200}"),
        ("branch", f"branch-{int(picks[5]) % 500}"),
        ("seed", str(int(picks[6]) % 1000)),
        ("host", f"host-{int(picks[7]) % 64}"),
        ("commit", f"{number * 2654435761 % 2**32:08x}"),
        ("grade", "gold" if number % 100_000 == 99_999 else f"grade-{int(picks[1]) % 5}"),
    ]


def _load_sqlite(path: str, made: Iterator[Rows], began: float, *, aside: bool) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -1000000", "foreign_keys = OFF", "temp_store = FILE"):
        database.execute(f"PRAGMA {pragma}")
    marks = ", ".join("?" * len(TABLES))
    indexes = database.execute(
        f"SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        f" AND tbl_name IN ({marks})",
        TABLES,
    ).fetchall()
    indexes = indexes if aside else []
    for kind, name, _ in indexes:
        database.execute(f"DROP {kind} {name}")
    for rows in made:
        database.execute("BEGIN")
        for table, some in rows.items():
            columns = tables.METADATA.tables[table].columns.keys()
            values = ", ".join("?" * len(columns))
            database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", some)
        database.execute("COMMIT")
    if aside:
        _say("rows", began)
    for _, name, sql in indexes:
        database.execute(sql)
        _say(name, began)
    if aside:
        database.execute("INSERT INTO run_words(run_words) VALUES ('rebuild')")
        _say("words", began)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


async def _load_postgresql(url: str, made: Iterator[Rows], began: float, *, aside: bool) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SET synchronous_commit = off")
    await connection.execute("SET maintenance_work_mem = '512MB'")
    indexes = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY($1) AND indexname LIKE 'ix_%'",
        list(TABLES),
    )
    indexes = indexes if aside else []
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    for rows in made:
        for table, some in rows.items():
            columns = tables.METADATA.tables[table].columns.keys()
            await connection.copy_records_to_table(table, records=some, columns=columns)
    for name, definition in indexes:
        await connection.execute(definition)
        _say(name, began)
    await connection.execute("VACUUM (ANALYZE)" if aside else "ANALYZE")
    await connection.close()


def _say(what: str, began: float) -> None:
    print(f"{time.perf_counter() - began:7.1f} s  {what}", flush=True)


async def make(url: str, count: int) -> None:
    """Migrate a database and fill it."""
    await schema.upgrade(url)
    database = Database(url, bus=Bus("memory://"))
    await fill(database, count)
    await database.close()
