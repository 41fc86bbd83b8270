"""Jobs: the steps of a run, and the one guarded way in which they change state.

`move` changes rows by compare-and-set and emits. What follows from how a run's jobs stand is made in
settling.py.
"""

import enum
import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    bindparam,
    false,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, feeds, states, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.files import File
from db.rows import Columns, Query
from db.states import EndReason, JobState
from db.viewers import Viewer


class Direction(enum.Enum):
    """Whether a job reads a file or hands it on."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class Job(Base):
    """One step of a run, with everything frozen that its launch depends on. `attempts` counts launches.

    Jobs of one `kind` ask for the same of the same version, with the same tags as far as limits look at them; a
    claim looks at the first of each kind.
    What is `suspended` is not claimed. `needs` are positions of jobs that must have succeeded before, `awaits`
    of those that must only have ended; `inputs` are selections and `condition` a condition, both bound to
    positions, `matrix` its combination. What has `headlines` took them with its outputs from `reused_from`.
    `pipeline_id` is its run's, for the durations of the same step's former jobs (expectations.py).
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("run_id", "position"),
        UniqueConstraint("run_id", "step"),
        columns.one_of("state", JobState),
        Index("ix_jobs_version", "version_id", "run_id"),
        Index(
            "ix_jobs_reuse",
            "project_id",
            "reuse_key",
            "id",
            sqlite_where=text("state = 'SUCCEEDED' AND reuse_key IS NOT NULL"),
            postgresql_where=text("state = 'SUCCEEDED' AND reuse_key IS NOT NULL"),
        ),
        Index(
            "ix_jobs_claim",
            "backend_id",
            "kind",
            text("priority DESC"),
            "id",
            sqlite_where=text("state = 'QUEUED' AND suspended = 0"),
            postgresql_where=text("state = 'QUEUED' AND NOT suspended"),
        ),
        Index(
            "ix_jobs_due",
            "backend_id",
            "not_before",
            sqlite_where=text("state = 'QUEUED' AND not_before IS NOT NULL"),
            postgresql_where=text("state = 'QUEUED' AND not_before IS NOT NULL"),
        ),
        Index(
            "ix_jobs_active",
            "backend_id",
            sqlite_where=text("state IN ('STARTING', 'RUNNING', 'CANCELLING')"),
            postgresql_where=text("state IN ('STARTING', 'RUNNING', 'CANCELLING')"),
        ),
        Index(
            "ix_jobs_succeeded",
            "pipeline_id",
            "step",
            "id",
            sqlite_where=text("state = 'SUCCEEDED' AND reused_from IS NULL"),
            postgresql_where=text("state = 'SUCCEEDED' AND reused_from IS NULL"),
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"))
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"))
    pipeline_id: Mapped[bytes | None] = mapped_column(Id)
    position: Mapped[int] = mapped_column(Integer)
    step: Mapped[str] = mapped_column(Text)
    function_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("functions.id"))
    version_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("module_versions.id"))
    backend_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("backends.id"))
    arguments: Mapped[dict[str, Any]] = mapped_column(Json)
    needs: Mapped[list[int]] = mapped_column(Json)
    awaits: Mapped[list[int] | None] = mapped_column(Json)
    inputs: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    condition: Mapped[dict[str, Any] | None] = mapped_column(Json)
    matrix: Mapped[dict[str, Any] | None] = mapped_column(Json)
    cache: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    priority: Mapped[int] = mapped_column(Integer, default=0)
    workers: Mapped[int] = mapped_column(Integer, default=1)
    cpus: Mapped[float | None] = mapped_column(Float)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(Integer, default=0)
    timeout_seconds: Mapped[float | None] = mapped_column(Float)
    retries: Mapped[int] = mapped_column(Integer, default=0)
    retry: Mapped[dict[str, Any] | None] = mapped_column(Json)
    kind: Mapped[int] = mapped_column(
        BigInteger, default=lambda context: kind_of(context.get_current_parameters())
    )
    suspended: Mapped[bool] = mapped_column(Boolean, default=False)
    state: Mapped[JobState] = mapped_column(Choice(JobState))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[datetime | None] = mapped_column(Timestamp)
    reason: Mapped[EndReason | None] = mapped_column(Choice(EndReason))
    message: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None] = mapped_column(Integer)
    output: Mapped[Any] = mapped_column(Json, nullable=True)
    reuse_key: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    reused_from: Mapped[bytes | None] = mapped_column(Id)
    headlines: Mapped[dict[str, list[Any]] | None] = mapped_column(Json)
    queued_at: Mapped[datetime | None] = mapped_column(Timestamp)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)


ALIKE = ("project_id", "version_id", "workers", "cpus", "memory_bytes", "gpus")


def kind_of(values: Mapping[str, Any], tags: Sequence[tuple[str, str]] = ()) -> int:
    """A number for all that decides whether one job can start where another can, but for its priority.

    `tags` are those of its run's that limits look at (limits.py).
    """
    alike = repr([*(values.get(name) for name in ALIKE), *tags]).encode()
    return int.from_bytes(hashlib.blake2b(alike, digest_size=8).digest()) >> 1


class JobFile(Base):
    """A file that a job reads or hands on, in order; `name` is the one it sees, where that is not the file's."""

    __tablename__ = "job_files"
    __table_args__ = (columns.one_of("direction", Direction),)

    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    direction: Mapped[Direction] = mapped_column(Choice(Direction), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    file_id: Mapped[bytes] = mapped_column(Id, ForeignKey("files.id"), index=True)
    name: Mapped[str | None] = mapped_column(Text)


_JOBS = Job.__table__
_MOVE = (
    update(_JOBS)  # type: ignore[arg-type]
    .where(_JOBS.c.id == bindparam("job"), _JOBS.c.state == bindparam("was"))
    .values(state=bindparam("to"))
)
_OF_RUN = select(Job).where(Job.run_id == bindparam("run")).order_by(Job.position)
_OF_RUNS = Query(select(Job).where(columns.Among(Job.run_id, "runs")).order_by(Job.run_id, Job.position))
_MEMBERS = (
    select(Job.id, Job.run_id, Job.position, Job.step, Job.state, Job.needs, Job.awaits)
    .where(columns.Among(Job.run_id, "runs"))
    .order_by(Job.run_id, Job.position)
)


@dataclass(frozen=True, slots=True)
class Member:
    """A job as far as others of its run depend on it, and it on them."""

    id: bytes
    position: int
    step: str
    state: JobState
    needs: Sequence[int]
    awaits: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A job's move to a new state, with the columns that change with it, told to its run's feed."""

    head: feeds.Head
    job: Job | Member
    to: JobState
    values: Mapping[str, Any]


async def members_of(session: Session, run_id: bytes) -> list[Member]:
    """The jobs of a run, in order, without what a large run's are heavy with."""
    return (await members_of_runs(session, [run_id]))[run_id]


async def members_of_runs(session: Session, runs: Collection[bytes]) -> dict[bytes, list[Member]]:
    """As `members_of`, by run."""
    found: dict[bytes, list[Member]] = {run_id: [] for run_id in runs}
    for row in await session.all(Job, _MEMBERS, {"runs": list(runs)}):
        found[row.run_id].append(cast("Member", row))
    return found


async def of_run(session: Session, run_id: bytes) -> list[Job]:
    """The jobs of a run, in order."""
    return await session.all(Job, _OF_RUN, {"run": run_id})


async def of_runs(session: Session, runs: Collection[bytes], columns: Columns = None) -> list[Job]:
    """The jobs of several runs, in order."""
    return await session.all(Job, _OF_RUNS, {"runs": list(runs)}, columns)


async def find_jobs(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Job]:
    """The jobs of these ids that may be seen."""
    seen = viewers.visible(viewer, Job.project_id, Job.run_id) & viewers.kept(Job.run_id)
    return await session.all(Job, select(Job).where(Job.id.in_(keys), seen))


async def files_of(session: Session, jobs: Collection[bytes], direction: Direction) -> list[Any]:
    """The files these jobs read or hand on: rows of File with the `owner` job's id, in order."""
    statement = (
        select(JobFile.job_id.label("owner"), File)
        .join(File, File.id == JobFile.file_id)
        .where(JobFile.job_id.in_(jobs), JobFile.direction == direction)
        .order_by(JobFile.job_id, JobFile.position)
    )
    return list((await session.execute(statement)).all())


async def move(
    session: Transaction,
    head: feeds.Head,
    moved: Sequence[tuple[Job | Member, JobState]],
    at: datetime,
    **values: Any,
) -> None:
    """Move jobs to new states, each from the one it was read in, under the feed's lock; emits each."""
    await move_each(session, head, [(job, to, values) for job, to in moved], at)


async def move_each(
    session: Transaction,
    head: feeds.Head,
    moved: Sequence[tuple[Job | Member, JobState, Mapping[str, Any]]],
    at: datetime,
) -> None:
    """As `move`, with values of its own for each job, of the same columns for all."""
    await move_all(session, [Move(head, job, to, values) for job, to, values in moved], at)


async def move_all(session: Transaction, moves: Sequence[Move], at: datetime) -> None:
    """As `move_each`, of several runs whose feeds are locked."""
    rows: list[dict[str, Any]] = []
    for each in moves:
        assert each.to in states.JOB_MOVES[each.job.state], f"{each.job.state} → {each.to}"
        given = {f"new_{name}": value for name, value in each.values.items()}
        rows.append({"job": each.job.id, "was": each.job.state, "to": each.to, **given})
    changed = await session.change(_move(*moves[0].values), rows if len(rows) > 1 else rows[0])
    assert changed in (len(rows), -1), "a job changed without its feed's lock"
    for each in moves:
        told = ("reason", "message", "exit_code")
        said = {name: each.values[name] for name in told if name in each.values}
        emit(each.head, each.job, each.to, at, **said)


@functools.cache
def _move(*names: str) -> Any:
    """The statement that moves a job and sets these columns: there are a handful, each built once."""
    return _MOVE.values({name: bindparam(f"new_{name}") for name in names}) if names else _MOVE


def emit(head: feeds.Head, job: Job | Member, state: JobState, at: datetime, **data: Any) -> None:
    """Say what a job's state is now."""
    head.emit(feeds.Subject.JOB, job.id, at, state=state, step=job.step, **data)
