"""Preparations that runs want: of versions whose jobs wait on a backend where nobody makes them ready.

Installing a module makes it ready where runs go by default. Elsewhere, the first job that is queued there asks for
it; of a HOST backend also once the host that had it ready is gone. What could not be made ready ends the jobs that
waited for it; one that is queued later has it tried again.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, exists, join, select, update
from sqlalchemy.orm import aliased

from db import columns, feeds, jobs, queues, runs
from db.bus import Wake
from db.database import Session, Transaction
from db.jobs import Job
from db.leases import Supervisor
from db.modules import ModuleVersion
from db.preparations import Preparation
from db.states import EndReason, JobState, PreparationState

_MOST = 64
"""Jobs that are refused in one transaction."""


def _first_of_kinds() -> Any:
    """The first of every kind in a backend's queue."""
    kinds, first = queues.kinds(), aliased(Job)
    earliest = (
        select(first.id)
        .where(queues.queued(first), first.kind == kinds.c.kind)
        .order_by(first.priority.desc(), first.id)
        .limit(1)
        .correlate(kinds)
        .scalar_subquery()
    )
    return join(kinds, Job, Job.id == earliest)


_OF_JOB = (Preparation.version_id == Job.version_id) & (Preparation.backend_id == Job.backend_id)
_LIVES = exists().where(
    Supervisor.name == bindparam("backend_at") + Preparation.host, Supervisor.expires_at > columns.clock()
)
_PREPARED = exists().where(_OF_JOB, (Preparation.host == bindparam("host")) | _LIVES)
_UNPREPARED = (
    select(ModuleVersion)
    .where(ModuleVersion.id.in_(select(Job.version_id).select_from(_first_of_kinds()).where(~_PREPARED)))
    .order_by(ModuleVersion.id)
)
_OTHER = aliased(Preparation)
_ELSEWHERE = exists().where(
    _OTHER.version_id == Preparation.version_id,
    _OTHER.backend_id == Preparation.backend_id,
    _OTHER.state != PreparationState.FAILED,
)
_HOPELESS = (
    select(Preparation)
    .select_from(_first_of_kinds())
    .join(Preparation, _OF_JOB)
    .where(
        Preparation.host == bindparam("host"),
        Preparation.state == PreparationState.FAILED,
        ~_ELSEWHERE,
    )
    .distinct()
)
_WAITING = (
    select(Job.id, Job.feed_id, Job.run_id)
    .where(
        queues.queued(Job),
        Job.version_id == bindparam("version"),
        Job.queued_at <= bindparam("failed_at", type_=columns.Timestamp()),
    )
    .order_by(Job.id)
    .limit(_MOST)
)


@dataclass(frozen=True, slots=True)
class Place:
    """A backend, and whose preparations on it are looked at: a host's, or with an empty one everybody's."""

    backend_id: bytes
    backend: str
    host: str

    def given(self) -> dict[str, Any]:
        """What the statements ask with."""
        return {"backend": self.backend_id, "host": self.host, "backend_at": f"{self.backend}@"}


async def unprepared(session: Session, place: Place) -> list[ModuleVersion]:
    """Versions that jobs wait for here, and that nobody alive has made or makes ready on this backend."""
    return await session.all(ModuleVersion, _UNPREPARED, place.given())


async def hopeless(session: Session, place: Place) -> list[Preparation]:
    """Preparations that failed here, are nowhere else, and that jobs wait for."""
    return await session.all(Preparation, _HOPELESS, place.given())


async def refuse(session: Transaction, place: Place, failed: Preparation) -> int:
    """End some of the jobs that were queued before a preparation failed; how many there were."""
    asked = {**place.given(), "version": failed.version_id, "failed_at": failed.ended_at}
    found = (await session.execute(_WAITING, asked)).all()
    why = f"its module could not be made ready on {place.backend}: {failed.message or 'its log says why'}"
    await feeds.lock_all(session, sorted({row.feed_id for row in found}))
    for row in found:
        await _refuse(session, row, why)
    return len(found)


async def _refuse(session: Transaction, row: Any, why: str) -> None:
    head, at = await feeds.lock(session, row.feed_id), columns.now()
    job = await session.find(Job, select(Job).where(Job.id == row.id))
    if job is None or job.state is not JobState.QUEUED:
        return
    ended = {"ended_at": at, "reason": EndReason.LAUNCH_REJECTED, "message": why}
    await jobs.move(session, head, [(job, JobState.FAILED)], at, **ended)
    await runs.follow(session, head, row.run_id, at)


async def again(session: Transaction, failed: Preparation) -> None:
    """Have a failed preparation tried again."""
    head = await feeds.lock(session, failed.feed_id)
    ours = and_(Preparation.id == failed.id, Preparation.state == PreparationState.FAILED)
    fresh = {"state": PreparationState.PENDING, "message": None, "started_at": None, "ended_at": None}
    if await session.change(update(Preparation).where(ours).values(fresh)):
        at = columns.now()
        head.emit(feeds.Subject.PREPARATION, failed.id, at, state=PreparationState.PENDING)
        await feeds.unsettle(session, head)
        session.wake(Wake.SUPERVISORS)
