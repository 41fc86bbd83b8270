"""Reports: what a supervisor observed of the attempts it holds, many in one transaction.

Each is guarded by attempt, supervisor and epoch under the run's feed lock: when somebody else has taken
over, or the attempt has ended, nothing changes and the report is dropped. Each statement is for all reports of
its kind: many come at once, and a statement of its own for each costs ten times as much. ends.py has the ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Text, bindparam, select, update

from db import columns, feeds, jobs, texts
from db.attempts import Attempt, Worker
from db.columns import Among
from db.database import Session, Transaction
from db.jobs import Job, Move
from db.leases import Supervisor
from db.states import EndReason, JobState, WorkerPhase

MOST_WORDS = 2_000
"""Of a backend, for what keeps an attempt from starting."""


@dataclass(frozen=True, slots=True)
class Launched:
    """How to find an attempt again."""

    attempt_id: bytes
    handle: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Started:
    """A worker's process exists."""

    attempt_id: bytes
    feed_id: int
    rank: int
    node: str
    address: str
    at: datetime


async def launched(session: Transaction, supervisor: Supervisor, given: Sequence[Launched]) -> list[None]:
    """Record how to find attempts again."""
    rows = [{**_held_by(supervisor, one.attempt_id), "found": dict(one.handle)} for one in given]
    await session.execute(_LAUNCHED, rows)
    return [None] * len(given)


async def started(session: Transaction, supervisor: Supervisor, given: Sequence[Started]) -> list[None]:
    """Record that workers' processes exist; when all of a job's do, it is RUNNING."""
    heads = await feeds.lock_all(session, [one.feed_id for one in given])
    held = await held_jobs(session, supervisor, [one.attempt_id for one in given])
    found = await session.execute(_PENDING, {"attempts": list(held)})
    pending = {(row.attempt_id, row.rank) for row in found.all()}
    seen: list[Started] = []
    for one in given:
        if (one.attempt_id, one.rank) in pending:
            pending.remove((one.attempt_id, one.rank))
            seen.append(one)
    if not seen:
        return [None] * len(given)
    await session.execute(_WORKER_STARTED, [_worker(one) for one in seen])
    for one in seen:
        job = held[one.attempt_id]
        told = {"phase": WorkerPhase.RUNNING, "step": job.step, "rank": one.rank, "attempt": job.attempts}
        heads[one.feed_id].emit(feeds.Subject.WORKER, job.id, one.at, **told)
    missing = {attempt_id for attempt_id, _ in pending}
    whole = {one.attempt_id: one for one in seen if one.attempt_id not in missing}
    if whole:
        rows = [{"attempt": one.attempt_id, "seen_at": one.at} for one in whole.values()]
        await session.execute(_ATTEMPT_STARTED, rows)
    moves = [
        Move(heads[one.feed_id], job, JobState.RUNNING, {"started_at": job.started_at or one.at})
        for one in whole.values()
        if (job := held[one.attempt_id]).state is JobState.STARTING
    ]
    if moves:
        await jobs.move_all(session, moves, columns.now())
    return [None] * len(given)


async def waiting(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, feed_id: int, words: str | None
) -> None:
    """Record what keeps an attempt from starting, in the backend's words; None when nothing does any more."""
    head = await feeds.lock(session, feed_id)
    job = (await held_jobs(session, supervisor, [attempt_id])).get(attempt_id)
    if job is None or job.state is not JobState.STARTING:
        return
    said = None if words is None else texts.storable(words)[:MOST_WORDS]
    if await session.change(_WAITING, {**_held_by(supervisor, attempt_id), "words": said}):
        jobs.emit(head, job, job.state, columns.now(), message=said)


async def time_out(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, feed_id: int, grace_seconds: float
) -> bool:
    """Ask an attempt that has taken too long to stop; False when it ended or was asked already."""
    await feeds.lock(session, feed_id)
    values = {"stop_reason": EndReason.TIMED_OUT, "stop_grace_seconds": grace_seconds}
    asked = update(Attempt).where(_OURS, Attempt.stop_reason.is_(None)).values(values)
    return bool(await session.change(asked, _held_by(supervisor, attempt_id)))


# Statements of hot paths are built once: building one costs as much as running it.
_ATTEMPTS, _WORKERS = Attempt.__table__, Worker.__table__
_HELD = (
    (Attempt.supervisor_id == bindparam("supervisor"))
    & (Attempt.epoch == bindparam("holder"))
    & Attempt.ended_at.is_(None)
)
_OURS = (Attempt.id == bindparam("attempt")) & _HELD
_HELD_JOBS = (
    select(Job, Attempt.stop_reason, Attempt.id.label("attempt_id"))
    .join(Attempt, Attempt.job_id == Job.id)
    .where(Among(Attempt.id, "attempts"), _HELD)
)
_PENDING = select(Worker.attempt_id, Worker.rank).where(
    Among(Worker.attempt_id, "attempts"), Worker.phase == WorkerPhase.PENDING
)
_LAUNCHED = update(_ATTEMPTS).where(_OURS).values(handle=bindparam("found"))  # type: ignore[arg-type]
_WAITING = (
    update(Attempt)
    .where(_OURS, Attempt.waiting.is_distinct_from(bindparam("words", type_=Text)))
    .values(waiting=bindparam("words", type_=Text))
)
_ATTEMPT_STARTED = (
    update(_ATTEMPTS)  # type: ignore[arg-type]
    .where(_ATTEMPTS.c.id == bindparam("attempt"))
    .values(started_at=bindparam("seen_at"))
)
_WORKER_STARTED = (
    update(_WORKERS)  # type: ignore[arg-type]
    .where(_WORKERS.c.attempt_id == bindparam("of"), _WORKERS.c.rank == bindparam("number"))
    .values(
        phase=WorkerPhase.RUNNING,
        node=bindparam("on"),
        address=bindparam("reached_at"),
        started_at=bindparam("seen_at"),
    )
)


def _worker(one: Started) -> dict[str, Any]:
    seen = {"on": one.node, "reached_at": one.address, "seen_at": one.at}
    return {"of": one.attempt_id, "number": one.rank, **seen}


def _held_by(supervisor: Supervisor, attempt_id: bytes) -> dict[str, Any]:
    return {"attempt": attempt_id, "supervisor": supervisor.id, "holder": supervisor.epoch}


async def held_jobs(
    session: Session, supervisor: Supervisor, attempt_ids: Sequence[bytes]
) -> dict[bytes, Any]:
    """The jobs of these attempts, with `stop_reason` and `attempt_id`; without what is not ours any more."""
    ours = {"attempts": list(attempt_ids), "supervisor": supervisor.id, "holder": supervisor.epoch}
    return {row.attempt_id: row for row in await session.all(Job, _HELD_JOBS, ours)}  # type: ignore[attr-defined]
