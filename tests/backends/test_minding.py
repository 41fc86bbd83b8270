"""Supervising while things fail underneath: a database that loses answers, jobs that lie, a disk that is full.

The supervisor and the backend are the real ones, in this process, so that what they stand on can be made to
fail; tests/test_crashes.py kills them whole.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from backends import errands, terms
from backends.blobs import Blobs
from backends.clocks import Clock
from backends.configured import Caps
from backends.janitor import Janitor
from backends.local import Local
from backends.supervisor import Configuration, Supervisor
from db import columns, logs, metrics
from db.database import Database, Session, Transaction
from db.leases import Supervisor as Lease
from db.runs import Run
from db.states import TERMINAL_RUN, EndReason, JobState, RunState
from tests.backends.conftest import hinting
from tests.db.world import GIB, HOST, World, function
from tests.processes import until

PRINTING = """
echo $RUNGRAPH_ATTEMPT >> "$EFFECTS/$RUNGRAPH_JOB_ID"
for number in $(seq 300); do
    echo "{\\"metric\\": {\\"count\\": $number}, \\"step\\": $number}"
    echo "line $number"
done
echo kept > "$RUNGRAPH_OUTPUT/kept.txt"
"""


class Losing(Database):
    """Loses connections: before a transaction, before its commit, or with the answer to its commit."""

    chance: random.Random | None = None

    def _lose(self) -> None:
        if self.chance is not None and self.chance.random() < 0.08:
            raise ConnectionResetError("the database is away")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        self._lose()
        async with super().read() as session:
            yield session

    @asynccontextmanager
    async def begin(self, *, aside: bool = False) -> AsyncIterator[Transaction]:
        self._lose()
        async with super().begin(aside=aside) as session:
            yield session
            self._lose()
        self._lose()


@pytest.fixture
async def losing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Losing]:
    """A database that loses nothing yet."""
    monkeypatch.setattr(terms, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(errands, "_AGAIN_SECONDS", 0.01)
    async with hinting(Losing, database_url) as opened:
        yield opened


@asynccontextmanager
async def supervised(world: World, folder: Path) -> AsyncIterator[Supervisor]:
    """A supervisor of this machine, at work."""
    (folder / "effects").mkdir(exist_ok=True)
    local = Local(folder / "local")
    configuration = Configuration("local", "local", local, Caps(8, 8.0, GIB, 0))
    started = Supervisor(
        world.database,
        configuration,
        host=HOST,
        blobs=Blobs(folder / "files"),
        store=folder / "store",
        environment=lambda launch: {
            "EFFECTS": str(folder / "effects"),
            "RUNGRAPH_JOB_ID": launch.job_id.hex(),
            "RUNGRAPH_ATTEMPT": str(launch.number),
        },
        poll_seconds=0.05,
    )
    await started.open()
    try:
        yield started
    finally:
        await started.close()


async def make(database: Database, folder: Path, script: str, **values: Any) -> World:
    """A world whose one function is a shell script."""
    world = await World.make(database)
    version = await world.install(function(command=("sh", "-ec", script), **values))
    (folder / "store" / version.hex()).mkdir(parents=True)
    return world


async def ended(world: World, run_id: bytes) -> Run:
    """A run once it has ended and the backend holds nothing of it any more."""
    async with asyncio.timeout(60):
        while True:
            run, launched = await world.run(run_id), await world.attempts(run_id)
            if run.state in TERMINAL_RUN and all(attempt.removed for attempt in launched):
                return run
            await asyncio.sleep(0.005)


async def printed(database: Database, run: Run) -> tuple[list[float], list[str]]:
    """Every value and every line of a run, in the order of its feed."""
    async with database.read() as session:
        values = [
            value
            for points in (await metrics.since(session, run.feed_id, 0)).parts
            for value in points.values
        ]
        batches = await logs.since(session, run.feed_id, 0)
    return values, [line.line.text for batch in batches for line in batch.lines]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
@pytest.mark.repeats
async def test_a_run_outlives_a_database_that_loses_answers(
    losing: Losing, tmp_path: Path, seed: int
) -> None:
    world = await make(losing, tmp_path, PRINTING)
    run_id = await world.start({"first": (), "second": ("first",)})
    async with supervised(world, tmp_path):
        losing.chance = random.Random(seed)
        watching = Database(losing.url.render_as_string(hide_password=False), bus=losing.bus)
        sound = replace(world, database=watching)
        run = await ended(sound, run_id)
        values, lines = await printed(watching, run)
        await watching.close()
        losing.chance = None
    assert run.state is RunState.SUCCEEDED
    assert values == [*range(1, 301)] * 2
    assert lines == [f"line {number}" for number in range(1, 301)] * 2
    assert [path.read_text() for path in (tmp_path / "effects").iterdir()] == ["1\n"] * 2
    assert list((tmp_path / "local" / "jobs").iterdir()) == []


LIES = {
    "a folder taken away": 'rm -r "$RUNGRAPH_OUTPUT"',
    "a file for a folder": 'rm -r "$RUNGRAPH_OUTPUT"; echo > "$RUNGRAPH_OUTPUT"',
    "no number": """echo '{"files": [], "loss": NaN}' > "$RUNGRAPH_OUTPUT/output.json\"""",
    "half a character": """echo '{"files": [], "word": "\\ud800"}' > "$RUNGRAPH_OUTPUT/output.json\"""",
    "no character": """echo '{"files": [], "word": "\\u0000"}' > "$RUNGRAPH_OUTPUT/output.json\"""",
    "no end": """echo '{"files": [], "size": 1e999}' > "$RUNGRAPH_OUTPUT/output.json\"""",
}


@pytest.mark.parametrize("script", LIES.values(), ids=LIES)
@pytest.mark.repeats
async def test_an_output_that_cannot_be_kept_ends_the_job(
    losing: Losing, tmp_path: Path, script: str
) -> None:
    world = await make(losing, tmp_path, script)
    run_id = await world.start({"only": ()})
    async with supervised(world, tmp_path):
        await ended(world, run_id)
    job = (await world.jobs(run_id))["only"]
    assert job.state in (JobState.SUCCEEDED, JobState.FAILED)
    assert job.reason in (EndReason.COMPLETED, EndReason.BAD_OUTPUT)


async def test_a_claim_that_nobody_was_told_of_is_launched(losing: Losing, tmp_path: Path) -> None:
    world = await make(losing, tmp_path, PRINTING)
    async with supervised(world, tmp_path):
        run_id = await world.start({"only": ()})
        async with losing.read() as session:
            statement = select(Lease).where(Lease.name == "local@" + HOST)
            lease = await session.find(Lease, statement)
        assert lease is not None
        held = replace(world, supervisor=lease)
        await held.claim()
        assert (await ended(world, run_id)).state is RunState.SUCCEEDED


async def test_what_a_death_left_half_written_is_freed_a_day_later(losing: Losing, tmp_path: Path) -> None:
    half, fresh = (tmp_path / "files" / "tmp" / name for name in ("half", "fresh"))
    half.parent.mkdir(parents=True)
    for path in (half, fresh):
        path.touch()
    os.utime(half, (0, 0))
    janitor = Janitor(losing, Blobs(tmp_path / "files"))
    janitor.open()
    await until(lambda: not half.exists(), "it is freed")
    await janitor.close()
    assert fresh.exists(), "somebody may be writing it"


def test_the_clock_of_a_timeout_runs_with_the_process_alone() -> None:
    start = columns.now()
    clock, hour = Clock(), timedelta(hours=1)
    assert clock.ran(start + hour) == timedelta()  # the backend was away: it has not begun
    clock.started_at = start
    assert clock.ran(start + hour) == hour
    clock.suspended_at = start + hour
    assert clock.ran(start + 5 * hour) == hour
    clock.suspended_at, clock.suspended_seconds = None, 4 * 3600.0
    assert clock.ran(start + 6 * hour) == 2 * hour
