"""The queue of a backend, read by kind: what a claim looks at, however many jobs wait.

Jobs of one kind (jobs.py) can start in one another's place, so a claim needs the first of each, found by
steps down the partial index `ix_jobs_claim`, and more of a kind only when its first has been taken. Ten
thousand jobs alike cost what one does, and hide nothing that came after them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Text, bindparam, func, join, literal_column, select
from sqlalchemy.orm import aliased

from db import columns
from db.database import Session, Transaction
from db.jobs import Job
from db.preparations import Preparation
from db.states import PreparationState

_FOLLOWERS = 63
_NOW = bindparam("now", type_=columns.Timestamp())


def queued(job: Any) -> Any:
    """Of this backend and to be launched, as the partial index has it."""
    return (
        (job.backend_id == bindparam("backend")) & (job.state == literal_column("'QUEUED'")) & ~job.suspended
    )


def kinds() -> Any:
    """Every kind there is in the queue, each found by one step down the index, however long the queue is."""
    found = select(func.min(Job.kind).label("kind")).where(queued(Job)).cte("kinds", recursive=True)
    later = aliased(Job)
    step = select(func.min(later.kind)).where(queued(later), later.kind > found.c.kind).scalar_subquery()
    return found.union_all(select(step).where(found.c.kind.is_not(None)))


COLUMNS = (
    Job.id,
    Job.kind,
    Job.run_id,
    Job.feed_id,
    Job.project_id,
    Job.backend_id,
    Job.step,
    Job.priority,
    Job.workers,
    Job.cpus,
    Job.memory_bytes,
    Job.gpus,
)
"""What a claim looks at."""


def _candidates(source: Any) -> Any:
    host = bindparam("host", type_=Text)
    return (
        select(*COLUMNS)
        .select_from(source)
        .join(
            Preparation,
            (Preparation.version_id == Job.version_id) & (Preparation.backend_id == Job.backend_id),
        )
        .where(host.is_(None) | (Preparation.host == host), Preparation.state == PreparationState.READY)
    )


def _heads() -> Any:
    """The first of every kind, by priority and age, where its version is ready here."""
    of, first = kinds(), aliased(Job)
    earliest = (
        select(first.id)
        .where(
            queued(first),
            first.kind == of.c.kind,
            first.not_before.is_(None) | (first.not_before <= _NOW),
        )
        .order_by(first.priority.desc(), first.id)
        .limit(1)
        .correlate(of)
        .scalar_subquery()
    )
    return _candidates(join(of, Job, Job.id == earliest))


HEADS = _heads()
_NEXT = (
    _candidates(Job)
    .where(queued(Job), Job.kind == bindparam("kind"), Job.not_before.is_(None) | (Job.not_before <= _NOW))
    .order_by(Job.priority.desc(), Job.id)
    .limit(bindparam("most"))
    .offset(bindparam("before"))
)


async def followers(
    session: Transaction, given: Mapping[str, Any], kind: int, before: int = 1, most: int = _FOLLOWERS
) -> Sequence[Any]:
    """What comes after the first ones of a kind, as far as one claim may want it."""
    values = {**given, "kind": kind, "before": before, "most": most}
    return (await session.execute(_NEXT, values)).all()


_NEXT_DUE = select(func.min(Job.not_before)).where(queued(Job), Job.not_before > _NOW)


async def next_due(session: Session, backend_id: bytes, now: datetime) -> datetime | None:
    """When the next job of a backend may be tried again; None where none waits for its time."""
    found: datetime | None = await session.scalar(_NEXT_DUE, {"backend": backend_id, "now": now})
    return found
