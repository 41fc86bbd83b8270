"""How databases find pages of runs: by the index that has the order, never by a whole table or a sort of it.

On some thousand runs with statistics, where a scan would be tempting; the statements are the ones that
`list_runs` executes.
"""

from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event, text

from db import filters, ids, listing, sorting
from db.database import Database
from db.paging import Page
from db.pipelines import Pipeline
from db.scans import Scans
from db.viewers import Kind, Viewer
from tests.bench import million

COUNT = 3_000
VIEWER = Viewer(Kind.ADMINISTRATOR)
LOSS = {"by": "METRIC", "name": "loss"}


@pytest_asyncio.fixture(loop_scope="session")
async def many(database: Database) -> Database:
    """A database of some thousand runs, with statistics."""
    await million.fill(database, COUNT)
    async with database.begin() as session:
        await session.execute(text("ANALYZE"))
    return database


CASES: list[tuple[dict[str, Any], dict[str, Any] | None, str]] = [
    ({}, None, "ix_runs_newest"),
    ({}, {"by": "CREATED", "direction": "ASCENDING"}, "ix_runs_"),
    ({"states": ["SUCCEEDED"]}, None, "ix_runs_state"),
    ({"pipeline": "?"}, None, "ix_runs_pipeline"),
    ({"tags": [{"name": "env", "value": "ci"}]}, None, "ix_run_tags_find"),
    (
        {"arguments": [{"step": "train", "name": "optimizer", "eq": "adam"}]},
        None,
        "ix_run_arguments_text",
    ),
    ({"archived": True}, None, "ix_runs_archived"),
    ({"external": True}, None, "ix_runs_external"),
    ({"metrics": [{"name": "loss", "lt": 0.3}]}, LOSS, "ix_run_metrics_last"),
    ({"tags": [{"name": "env", "value": "ci"}]}, {**LOSS, "of": "MIN"}, "ix_run_metrics_min"),
    ({"states": ["SUCCEEDED"]}, {**LOSS, "of": "MAX", "direction": "ASCENDING"}, "ix_run_metrics_max"),
    ({}, {"by": "ARGUMENT", "name": "lr"}, "ix_run_arguments_number"),
    ({}, {"by": "TAG", "name": "seed"}, "ix_run_tags_find"),
    ({}, {"by": "NAME"}, "ix_runs_name"),
    ({}, {"by": "PRIORITY"}, "ix_runs_priority"),
    ({}, {"by": "STARTED"}, "ix_runs_started"),
    ({}, {"by": "ENDED", "direction": "ASCENDING"}, "ix_runs_ended"),
    ({}, {"by": "DURATION"}, "ix_runs_duration"),
    ({}, {"by": "STATE", "direction": "ASCENDING"}, "ix_runs_state"),
    ({"search": "cedar ember"}, None, "words"),
    ({"tags": [{"name": "commit", "value": "00000000"}]}, LOSS, "ix_run_tags_find"),
]


@pytest.mark.slow
async def test_every_kind_of_list_walks_its_index(many: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FEW", 20)
    async with many.read() as session:
        pipeline = ids.encode("pipeline", await session.scalar(text("SELECT max(id) FROM pipelines")))
    assert pipeline and Pipeline.__tablename__ == "pipelines"
    for document, sort, index in CASES:
        asked = {name: pipeline if value == "?" else value for name, value in document.items()}
        plans = await _plans(many, asked, sort)
        # PostgreSQL knows what most runs have, and then takes the runs by id: as bounded, and no slower.
        by_id = many.url.get_backend_name() == "postgresql" and index.startswith("ix_runs_")
        names = (index, "pk_runs on runs ") if by_id else (index,)
        assert any(name in plan for plan in plans for name in names), (document, sort, plans)
        for plan in plans:
            assert not _wasteful(plan), (document, sort, plan)


async def _plans(database: Database, document: dict[str, Any], sort: dict[str, Any] | None) -> list[str]:
    """The plans of every statement of a second page."""
    where, order = filters.parse(document) if document else listing.LIVE, sorting.parse(sort)
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    scanner: Any = database._scanner
    engine = scanner.engine if isinstance(scanner, Scans) else scanner.sync_engine
    async with database.scan() as session:
        first = await listing.list_runs(session, VIEWER, Page(5), where=where, sort=order)
    place = (first.keys or [run.id for run in first.rows] or [None])[-1]
    after = order.key(place.hex() if isinstance(place, bytes) else place) if place is not None else None
    event.listen(engine, "before_cursor_execute", note)
    try:
        async with database.scan() as session:
            await listing.list_runs(session, VIEWER, Page(5, after=after), where=where, sort=order)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    async with database.scan() as session:
        await listing.prepare(session)
        driver = await session.driver()
        plans = [
            await driver.fetch(f"EXPLAIN {sql}", *given)
            if session.postgresql
            else driver.execute(f"EXPLAIN QUERY PLAN {sql}", given).fetchall()
            for sql, given in seen
        ]
        return ["\n".join(str(row[-1]) for row in plan) for plan in plans]


def _wasteful(plan: str) -> bool:
    """Whether a plan reads a large table from end to end, or sorts more than a page's own rows."""
    tables = ("runs", "run_metrics", "run_tags", "run_arguments", "jobs", "feeds")
    lines = [line.strip(" ->") for line in plan.splitlines()]
    scanned = any(line.startswith(f"Seq Scan on {name} ") for line in lines for name in tables)
    whole = any(line in (f"SCAN {name}", f"SCAN {name} AS r") for line in lines for name in tables)
    sorted_ = any("USE TEMP B-TREE FOR ORDER BY" in line or line.startswith("Sort ") for line in lines)
    return scanned or whole or sorted_
