"""External runs: code anywhere reports to a run that nothing of ours launches.

Such a run has one job, one attempt and one worker, RUNNING from the start. Who reports is heard: any report
moves `expires_at`, and a run whose reporter has been silent until then is LOST (`expire`). A report that comes
after that reopens it, the one move out of an end (states.REOPENED), told in its timeline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, bindparam, func, insert, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, families, feeds, ids, jobs, labels, projects, runs, starts
from db.attempts import Attempt, Worker
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.errors import Problem
from db.jobs import Job
from db.runs import Run
from db.states import REOPENED, TERMINAL_JOB, EndReason, JobState, WorkerPhase
from db.viewers import Viewer

MISSED = 3
"""Heartbeats that may be missed before the run is LOST."""
HEARTBEAT_SECONDS = (1.0, 86_400.0)


class External(Base):
    """Who reports to an external run, and until when silence is borne. No `expires_at`: it has ended."""

    __tablename__ = "externals"
    __table_args__ = (
        Index(
            "ix_externals_expires_at",
            "expires_at",
            sqlite_where=text("expires_at IS NOT NULL"),
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), unique=True)
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), unique=True)
    heartbeat_seconds: Mapped[float] = mapped_column(Float)
    heard_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)


@dataclass(frozen=True, slots=True)
class ExternalSpec:
    """What a user asks for."""

    name: str
    step: str = "main"
    notes: str = ""
    tags: Sequence[tuple[str, str]] = ()
    heartbeat_seconds: float = 60.0
    project_id: bytes | None = None
    parent_id: bytes | None = None
    idempotency_key: str | None = None

    def sha256(self) -> bytes:
        """The digest that tells a repeated request from another one under the same key."""
        parent = self.parent_id and self.parent_id.hex()
        tags = sorted(self.tags)
        return starts.digest(
            "external", self.name, self.step, self.notes, tags, self.heartbeat_seconds, parent
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How an external run's job ends."""

    state: JobState
    reason: EndReason
    message: str | None = None
    exit_code: int | None = None


async def create(session: Transaction, viewer: Viewer, spec: ExternalSpec) -> bytes:
    """A run that is RUNNING elsewhere; returns its id, the same for a repeat under its key.

    Raises NotFound, Forbidden, Conflict, or Invalid with every mistake.
    """
    project_id = await projects.choose(session, viewer, spec.project_id)
    if spec.idempotency_key is not None:
        created = await starts.find_started(session, project_id, spec.idempotency_key, spec.sha256())
        if created is not None:
            return created
    _require_sound(spec)
    await families.require_parent(session, viewer, project_id, spec.parent_id)
    run = {
        "project_id": project_id,
        "pipeline_id": None,
        "name": spec.name,
        "notes": spec.notes,
        "priority": 0,
        "external": True,
        "parent_id": spec.parent_id,
        "idempotency_key": spec.idempotency_key,
        "request_sha256": spec.sha256(),
        "created_by": viewer.user_id,
    }
    at = await clock(session)
    job: dict[str, Any] = {
        "id": ids.new(),
        "position": 0,
        "step": spec.step,
        "arguments": {},
        "needs": [],
        "awaits": None,
        "state": JobState.RUNNING,
        "attempts": 1,
        "queued_at": at,
        "started_at": at,
    }
    head, run_id = await starts.insert_run(session, run, [job], tags=spec.tags, files=[])
    await _insert_attempt(session, head, run_id, job["id"], spec.heartbeat_seconds, at)
    await starts.begin(session, head, run_id, [job], False)
    return run_id


def _require_sound(spec: ExternalSpec) -> None:
    least, most = HEARTBEAT_SECONDS
    problems = [
        *labels.name_problems(spec.name, "name"),
        *labels.name_problems(spec.step, "step"),
        *labels.notes_problems(spec.notes, "notes"),
        *labels.tag_problems(spec.tags, "tags"),
    ]
    if not least <= spec.heartbeat_seconds <= most:
        problems.append(
            Problem(("heartbeatSeconds",), f"a heartbeat comes every {least:g} to {most:g} seconds")
        )
    if problems:
        raise errors.Invalid(problems=problems)


async def _insert_attempt(
    session: Transaction, head: feeds.Head, run_id: bytes, job_id: bytes, seconds: float, at: datetime
) -> None:
    attempt_id = ids.new()
    attempt = {"id": attempt_id, "job_id": job_id, "run_id": run_id, "feed_id": head.id, "number": 1}
    # No backend holds anything of it.
    await session.execute(insert(Attempt).values(**attempt, created_at=at, started_at=at, removed=True))
    worker = {"attempt_id": attempt_id, "rank": 0, "phase": WorkerPhase.RUNNING, "started_at": at}
    await session.execute(insert(Worker).values(worker))
    external = {"run_id": run_id, "job_id": job_id, "attempt_id": attempt_id, "heartbeat_seconds": seconds}
    until = at + timedelta(seconds=MISSED * seconds)
    await session.execute(insert(External).values(**external, heard_at=at, expires_at=until))


_HELD = (
    select(
        External,
        Job.state,
        Job.reason,
        Job.step,
        Run.cancel_requested_at,
        Run.deleted_at,
        Attempt.stop_grace_seconds,
    )
    .join(Job, Job.id == External.job_id)
    .join(Run, Run.id == External.run_id)
    .join(Attempt, Attempt.id == External.attempt_id)
)
_OF_JOB = _HELD.where(External.job_id == bindparam("job"))
_OF_RUN = _HELD.where(External.run_id == bindparam("run"))


async def find(session: Session, job_id: bytes) -> Any:
    """An external run's External by its job, with `state`, `reason`, `step` and `cancel_requested_at`, or None."""
    return (await session.execute(_OF_JOB, {"job": job_id})).first()


async def get(session: Session, run_id: bytes) -> External:
    """What is known of an external run's reporter."""
    row = await session.find(External, select(External).where(External.run_id == run_id))
    assert row is not None
    return row


async def hear(session: Transaction, head: feeds.Head, job_id: bytes) -> bool:
    """Take note of a report to an external run, whose feed is locked; False when it has ended and stays so.

    One that was taken for lost goes on, unless it is deleted. One that was asked to stop is not given more time
    by reports.
    """
    held = await find(session, job_id)
    if held is None or held.deleted_at is not None:
        return False
    at = await clock(session)
    if (held.state, held.reason) == REOPENED[:2]:
        await _reopen(session, head, held, at)
    elif held.state in TERMINAL_JOB:
        return False
    if held.cancel_requested_at is None:
        # Not at every report: who reports a thousand times a second is heard now and then.
        period = held.heartbeat_seconds
        late = External.expires_at.is_(None) | (
            External.expires_at < at + timedelta(seconds=(MISSED - 0.5) * period)
        )
        until = {"heard_at": at, "expires_at": at + timedelta(seconds=MISSED * period)}
        await session.execute(update(External).where(External.run_id == held.run_id, late).values(until))
    return True


async def _reopen(session: Transaction, head: feeds.Head, held: Any, at: datetime) -> None:
    """Correct that a run was taken for lost: the one move out of an end."""
    was, reason, to = REOPENED
    message = "reported again after it was taken for lost"
    lost = (Job.id == held.job_id) & (Job.state == was) & (Job.reason == reason)
    alive = {"state": to, "reason": None, "message": None, "exit_code": None, "ended_at": None}
    assert await session.change(update(Job).where(lost).values(alive)) == 1, "under its feed's lock"
    gone = {"ended_at": None, "reason": None, "message": None}
    await session.execute(update(Attempt).where(Attempt.id == held.attempt_id).values(gone))
    back = {"phase": WorkerPhase.RUNNING, "ended_at": None}
    await session.execute(update(Worker).where(Worker.attempt_id == held.attempt_id).values(back))
    await feeds.unsettle(session, head)
    head.emit(feeds.Subject.JOB, held.job_id, at, state=to, step=held.step, message=message)
    _tell_worker(head, held, at, WorkerPhase.RUNNING, None)
    await runs.follow(session, head, held.run_id, at)


async def due(session: Session, *, now: datetime | None = None) -> list[bytes]:
    """External runs whose time is up: silent for too long, or asked to stop long enough ago."""
    at = now or await clock(session)
    asked = Run.cancel_requested_at.is_not(None)
    live = _HELD.where(External.expires_at.is_not(None), (External.expires_at <= at) | asked)
    # Those with the least patience first: many that were asked to stop and may take hours keep no other waiting.
    rows = (await session.execute(live.order_by(External.expires_at).limit(1000))).all()
    return [row.run_id for row in rows if _is_due(row, at)]


async def expire(session: Transaction, run_id: bytes, *, now: datetime | None = None) -> bool:
    """End an external run whose time is up: CANCELLED if that was asked, else LOST; False if it is not up."""
    feed_id = await session.scalar(select(Run.feed_id).where(Run.id == run_id))
    if feed_id is None:
        return False
    head = await feeds.lock(session, feed_id)
    held = (await session.execute(_OF_RUN, {"run": run_id})).first()
    at = now or await clock(session)
    if held is None or not _is_due(held, at):
        return False
    if held.cancel_requested_at is not None:
        message = "cancelled; its reporter did not say that it ended"
        await end(session, head, held, Ending(JobState.CANCELLED, EndReason.CANCELLED, message), at)
    else:
        message = f"nothing was heard of it for {MISSED * held.heartbeat_seconds:g} s"
        await end(session, head, held, Ending(JobState.FAILED, EndReason.LOST, message), at)
    return True


def _is_due(held: Any, at: datetime) -> bool:
    if held.expires_at is None or held.state in TERMINAL_JOB:
        return False
    if held.cancel_requested_at is None:
        return bool(held.expires_at <= at)
    # It hears of the request with its next heartbeat, and has the grace period from then on.
    patience = timedelta(seconds=held.heartbeat_seconds + (held.stop_grace_seconds or 0.0))
    return bool(held.cancel_requested_at + patience <= at)


async def end(session: Transaction, head: feeds.Head, held: Any, ending: Ending, at: datetime) -> None:
    """End an external run's job, and the run with it; its feed is locked, and it has not ended."""
    job = next(job for job in await jobs.of_run(session, held.run_id) if job.id == held.job_id)
    told = {"reason": ending.reason, "message": ending.message, "exit_code": ending.exit_code}
    ended = update(Attempt).where(Attempt.id == held.attempt_id, Attempt.ended_at.is_(None))
    await session.execute(ended.values(ended_at=at, **told))
    phase = {JobState.SUCCEEDED: WorkerPhase.SUCCEEDED, JobState.FAILED: WorkerPhase.FAILED}.get(ending.state)
    if phase is None or ending.reason is EndReason.LOST:
        phase = WorkerPhase.LOST
    gone = {"phase": phase, "ended_at": at, "exit_code": ending.exit_code}
    await session.execute(update(Worker).where(Worker.attempt_id == held.attempt_id).values(gone))
    _tell_worker(head, held, at, phase, ending.exit_code)
    await session.execute(update(External).where(External.run_id == held.run_id).values(expires_at=None))
    await jobs.move(session, head, [(job, ending.state)], at, ended_at=at, **told)
    await runs.follow(session, head, held.run_id, at)


def _tell_worker(
    head: feeds.Head, held: Any, at: datetime, phase: WorkerPhase, exit_code: int | None
) -> None:
    head.emit(
        feeds.Subject.WORKER,
        held.job_id,
        at,
        phase=phase,
        step=held.step,
        rank=0,
        attempt=1,
        exit_code=exit_code,
    )


_NOW = select(func.clock_timestamp())


async def clock(session: Session) -> datetime:
    """Now, by one clock for all replicas: the database's, where it is a server of its own."""
    if session.postgresql:
        now: datetime = await session.scalar(_NOW)
        return now
    return columns.now()
