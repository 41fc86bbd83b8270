"""Attempts and their workers: one launch of a job, and the processes it consists of.

An attempt is inserted before anything is launched; its name derives from job and number, so that launching
twice is one launch. `supervisor_id` and `epoch` say who may report on it. A request to stop it is recorded
here (`stop_reason`) and carried out by the supervisor.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    bindparam,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, ids, viewers
from db.columns import Base, Choice, Id, Json, Serial, Timestamp
from db.database import Session, Transaction
from db.jobs import Job
from db.leases import Supervisor
from db.states import EndReason, WorkerPhase
from db.viewers import Viewer


class Attempt(Base):
    """One launch of a job. `removed` says that the backend holds nothing of it any more.

    `suspended_at` is set while it is to stand still; `suspended_seconds` sums up the times before. `waiting` are
    the backend's words for what keeps it from starting.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index(
            "ix_attempts_held",
            "backend_id",
            sqlite_where=text("removed = 0"),
            postgresql_where=text("NOT removed"),
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"))
    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), index=True)
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"))
    backend_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("backends.id"))
    number: Mapped[int] = mapped_column(Integer)
    host: Mapped[str] = mapped_column(Text, default="")
    supervisor_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("supervisors.id"))
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    handle: Mapped[dict[str, Any] | None] = mapped_column(Json)
    stop_reason: Mapped[EndReason | None] = mapped_column(Choice(EndReason))
    stop_grace_seconds: Mapped[float | None] = mapped_column(Float)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    suspended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    suspended_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    waiting: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[EndReason | None] = mapped_column(Choice(EndReason))
    exit_code: Mapped[int | None] = mapped_column(Integer)
    message: Mapped[str | None] = mapped_column(Text)
    removed: Mapped[bool] = mapped_column(Boolean, default=False)


class Worker(Base):
    """One process, container or pod of an attempt. Its output up to `read_offset` is in the database.

    `devices` are the GPUs it was given, by index; nobody else has them until the attempt has ended.
    """

    __tablename__ = "workers"
    __table_args__ = (UniqueConstraint("attempt_id", "rank"), columns.one_of("phase", WorkerPhase))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"))
    rank: Mapped[int] = mapped_column(Integer)
    phase: Mapped[WorkerPhase] = mapped_column(Choice(WorkerPhase))
    node: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    devices: Mapped[list[int] | None] = mapped_column(Json)
    exit_code: Mapped[int | None] = mapped_column(Integer)
    read_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    lines: Mapped[int] = mapped_column(BigInteger, default=0)
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)


def native_name(job_id: bytes, number: int) -> str:
    """What an attempt is called on its backend: unique for ever, fit for a pod, a container and a file."""
    return f"{ids.encode('job', job_id).replace('_', '-')}-{number}"


class Reporter(NamedTuple):
    """An attempt as far as its token says who asks."""

    run_id: bytes
    job_id: bytes
    number: int
    feed_id: int
    backend_id: bytes | None
    ended_at: datetime | None


async def adopt(
    session: Transaction, backend_id: bytes, host: str, supervisor_id: bytes, epoch: int
) -> list[Attempt]:
    """Take over everything a backend still holds; from now on only this supervisor's reports count."""
    statement = (
        update(Attempt)
        .where(Attempt.backend_id == backend_id, Attempt.host == host, ~Attempt.removed)
        .values(supervisor_id=supervisor_id, epoch=epoch)
        .returning(Attempt)
    )
    return await session.all(Attempt, statement)


async def held(session: Session, supervisor_id: bytes, epoch: int) -> list[Attempt]:
    """The attempts of this supervisor that have not ended, oldest first."""
    statement = select(Attempt).where(
        ~Attempt.removed,
        Attempt.ended_at.is_(None),
        Attempt.supervisor_id == supervisor_id,
        Attempt.epoch == epoch,
    )
    return await session.all(Attempt, statement.order_by(Attempt.id))


async def remaining(session: Session) -> set[str]:
    """What the attempts are called that some backend may still hold."""
    statement = select(Attempt.job_id, Attempt.number).where(~Attempt.removed)
    return {native_name(row.job_id, row.number) for row in (await session.execute(statement)).all()}


# Each attempt comes by these two: building a statement costs as much as running it.
_IS_OVER = select(Attempt.id).where(
    Attempt.id == bindparam("attempt"),
    Attempt.ended_at.is_not(None),
    Attempt.supervisor_id == bindparam("supervisor"),
    Attempt.epoch == bindparam("holder"),
)
_REPORTER = select(
    *(Attempt.run_id, Attempt.job_id, Attempt.number, Attempt.feed_id, Attempt.backend_id, Attempt.ended_at)
).where(Attempt.id == bindparam("attempt"))
_ATTEMPTS = Attempt.__table__
_MARK_REMOVED = (
    update(_ATTEMPTS)  # type: ignore[arg-type]
    .where(
        _ATTEMPTS.c.id == bindparam("attempt"),
        _ATTEMPTS.c.ended_at.is_not(None),
        _ATTEMPTS.c.supervisor_id == bindparam("supervisor"),
        _ATTEMPTS.c.epoch == bindparam("holder"),
    )
    .values(removed=True)
)


async def is_over(session: Session, attempt_id: bytes, supervisor_id: bytes, epoch: int) -> bool:
    """Whether an attempt of this supervisor has ended, so that its backend may let go of it."""
    held = {"attempt": attempt_id, "supervisor": supervisor_id, "holder": epoch}
    return await session.scalar(_IS_OVER, held) is not None


async def mark_removed(
    session: Transaction, supervisor: Supervisor, attempt_ids: Sequence[bytes]
) -> list[None]:
    """Record that the backend holds nothing of these ended attempts any more."""
    ours = {"supervisor": supervisor.id, "holder": supervisor.epoch}
    await session.execute(_MARK_REMOVED, [{"attempt": attempt_id, **ours} for attempt_id in attempt_ids])
    return [None] * len(attempt_ids)


async def find_reporter(session: Session, attempt_id: bytes) -> Reporter | None:
    """What the attempt of this id may report to, and whether it has ended."""
    return await session.find(Reporter, _REPORTER, {"attempt": attempt_id})


async def of_jobs(session: Session, jobs: Collection[bytes]) -> list[Attempt]:
    """The attempts of these jobs, in order."""
    statement = select(Attempt).where(Attempt.job_id.in_(jobs))
    return await session.all(Attempt, statement.order_by(Attempt.job_id, Attempt.number))


async def workers_of(session: Session, attempts: Collection[bytes]) -> list[Worker]:
    """The workers of these attempts, by rank."""
    statement = select(Worker).where(Worker.attempt_id.in_(attempts))
    return await session.all(Worker, statement.order_by(Worker.attempt_id, Worker.rank))


async def find_attempts(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Attempt]:
    """The attempts of these ids whose jobs may be seen."""
    seen = viewers.visible(viewer, Job.project_id, Job.run_id) & viewers.kept(Job.run_id)
    statement = select(Attempt).join(Job, Job.id == Attempt.job_id)
    return await session.all(Attempt, statement.where(Attempt.id.in_(keys), seen))


async def find_workers(session: Session, viewer: Viewer, keys: Collection[int]) -> list[Worker]:
    """The workers of these numbers whose jobs may be seen."""
    seen = viewers.visible(viewer, Job.project_id, Job.run_id) & viewers.kept(Job.run_id)
    statement = (
        select(Worker).join(Attempt, Attempt.id == Worker.attempt_id).join(Job, Job.id == Attempt.job_id)
    )
    return await session.all(Worker, statement.where(Worker.id.in_(keys), seen))
