"""Deleting runs: hidden at once, gone in small transactions.

`mark` is the intent: from its commit on nobody sees the run. `erase` then takes away what hangs below it, a
bounded piece a transaction, so that a run of millions of points holds no writer up, and a crash between two
pieces costs nothing: whoever looks next (backends/janitor.py) goes on. What pointed at the run stays and points
at nothing. The row of its feed stays, empty and ended: who still follows it comes to its end.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, or_, select, tuple_, update

from db import columns, errors, feeds, metrics, runs, viewers
from db.attempts import Attempt, Worker
from db.batches import Producer
from db.columns import Base
from db.database import Session, Transaction
from db.externals import External
from db.feeds import Event, Feed
from db.files import File
from db.headlines import RunMetric
from db.jobs import Job, JobFile
from db.logs import LogChunk
from db.metrics import Series, Summary
from db.runs import Run, RunFile, RunTag
from db.states import TERMINAL_RUN
from db.viewers import Viewer

_ROWS = 500
"""Small rows a transaction."""
_LOG_CHUNKS = 40
"""Of at most 256 KiB each (logs.py)."""
_SUMMARIES = 100
"""Of about 25 KB each (summaries.py)."""
_BACKEND_LETS_GO = timedelta(hours=1)
"""How long a backend has to let go of the run's attempts, whose rows it needs for that."""


async def mark(session: Transaction, viewer: Viewer, run_id: bytes) -> None:
    """Take a run that has ended out of everybody's sight, for good. Raises NotFound, Forbidden or Conflict."""
    found = await runs.get(session, viewer, run_id)
    viewers.require_writer(viewer, found.project_id)
    await feeds.lock(session, found.feed_id)
    run = await runs.get(session, viewer, run_id)
    if run.state not in TERMINAL_RUN:
        message = f"the run is {run.state.value}: cancel it, and delete it when it has ended"
        raise errors.Conflict(message, path=("id",))
    # Its key is free again: whoever uses it next wants a run that there is.
    gone = {"deleted_at": columns.now(), "idempotency_key": None}
    await session.execute(update(Run).where(Run.id == run_id).values(gone))
    await session.execute(update(Feed).where(Feed.id == run.feed_id).values(floor=Feed.seq, ended=True))
    session.wake()


async def marked(session: Session, *, now: datetime | None = None) -> list[bytes]:
    """The runs that can be erased, the longest marked first; not those whose backend still holds something."""
    held = select(Attempt.id).where(
        Attempt.run_id == Run.id, ~Attempt.removed, Attempt.backend_id.is_not(None)
    )
    overdue = Run.deleted_at < (now or columns.now()) - _BACKEND_LETS_GO
    statement = select(Run.id).where(Run.deleted_at.is_not(None), or_(~held.exists(), overdue))
    return [row.id for row in (await session.execute(statement.order_by(Run.deleted_at).limit(100))).all()]


async def erase(session: Transaction, run_id: bytes) -> bool:
    """Take away a piece of what hangs below a marked run; False when the run itself is gone."""
    marked = select(Run.id, Run.feed_id).where(Run.id == run_id, Run.deleted_at.is_not(None))
    # Two that erase the same run take turns.
    run = (await session.execute(marked.with_for_update())).first()
    if run is None:
        return False
    if await metrics.erase(session, run.feed_id):
        return True
    for table, condition, most in _below(run.id, run.feed_id):
        key = list(table.__table__.primary_key.columns)
        chosen = select(*key).where(condition).limit(most)
        if await session.change(delete(table).where(tuple_(*key).in_(chosen))):
            return True
    if await _erase_files(session, run.id):
        return True
    await _erase_run(session, run.id)
    return False


def _below(run_id: bytes, feed_id: int) -> tuple[tuple[type[Any], Any, int], ...]:
    """What hangs below a run, children first: table, condition, and how many rows at once.

    What refers to a run ON DELETE CASCADE, a few rows, goes with the run itself.
    """
    attempts = select(Attempt.id).where(Attempt.run_id == run_id)
    jobs = select(Job.id).where(Job.run_id == run_id)
    series = select(Series.id).where(Series.run_id == run_id)
    return (
        (Summary, Summary.series_id.in_(series), _SUMMARIES),
        (Series, Series.run_id == run_id, _ROWS),
        (Producer, Producer.attempt_id.in_(attempts), _ROWS),
        (LogChunk, LogChunk.feed_id == feed_id, _LOG_CHUNKS),
        (Event, Event.feed_id == feed_id, _ROWS),
        (RunMetric, RunMetric.run_id == run_id, _ROWS),
        (External, External.run_id == run_id, _ROWS),
        (Worker, Worker.attempt_id.in_(attempts), _ROWS),
        (Attempt, Attempt.run_id == run_id, _ROWS),
        (JobFile, JobFile.job_id.in_(jobs), _ROWS),
        (Job, Job.run_id == run_id, _ROWS),
        (RunFile, RunFile.run_id == run_id, _ROWS),
        (RunTag, RunTag.run_id == run_id, _ROWS),
    )


async def _erase_files(session: Transaction, run_id: bytes) -> bool:
    """Take away files that the run made and nobody uses; the others stay, as nobody's output."""
    unused = File.run_id == run_id
    for column in _columns_to(File):
        using = column.table.alias()  # files refer to files
        unused &= ~select(using).where(using.c[column.name] == File.id).correlate(File).exists()
    chosen = [row.id for row in (await session.execute(select(File.id).where(unused).limit(_ROWS))).all()]
    if chosen:
        await session.execute(delete(File).where(File.id.in_(chosen)))
        return True
    await session.execute(update(File).where(File.run_id == run_id).values(run_id=None, job_id=None))
    return False


async def _erase_run(session: Transaction, run_id: bytes) -> None:
    for column in _columns_to(Run):
        if column.nullable:
            points_at_it = update(column.table).where(column == run_id)
            await session.execute(points_at_it.values({column.name: None}))
    await session.execute(delete(Run).where(Run.id == run_id))


def _columns_to(owner: type[Base]) -> list[Any]:
    """Every column, of whichever aggregate, that refers to a table's id."""
    target = owner.__table__.c.id
    keys = (key for table in Base.metadata.sorted_tables for key in table.foreign_keys)
    return [key.parent for key in keys if key.column is target]
