"""Jobs: the steps of a run, and the one guarded way in which they change state.

`move` changes rows by compare-and-set and emits; `settle` makes whatever follows from how a run's jobs
stand: ready ones are queued with their inputs recorded, others skipped or cancelled. It runs in the same
transaction as the change it follows from, under the run's feed lock, so no separate pass is needed and
two parents that end at once both count.
"""

import enum
import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

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
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, contracts, feeds, manifests, states, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.files import File
from db.modules import Function
from db.states import EndReason, JobState, Standing
from db.viewers import Viewer


class Direction(enum.Enum):
    """Whether a job reads a file or hands it on."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class Job(Base):
    """One step of a run, with everything frozen that its launch depends on. `attempts` counts launches.

    Jobs of one `kind` ask for the same of the same version; a claim looks at the first of each kind.
    What is `suspended` is not claimed.
    `pipeline_id` is its run's, for the durations of the same step's former jobs (expectations.py).
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("run_id", "position"),
        UniqueConstraint("run_id", "step"),
        columns.one_of("state", JobState),
        Index("ix_jobs_version", "version_id", "run_id"),
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
    priority: Mapped[int] = mapped_column(Integer, default=0)
    workers: Mapped[int] = mapped_column(Integer, default=1)
    cpus: Mapped[float | None] = mapped_column(Float)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(Integer, default=0)
    timeout_seconds: Mapped[float | None] = mapped_column(Float)
    retries: Mapped[int] = mapped_column(Integer, default=0)
    kind: Mapped[int] = mapped_column(BigInteger, default=lambda context: _kind(context))
    suspended: Mapped[bool] = mapped_column(Boolean, default=False)
    state: Mapped[JobState] = mapped_column(Choice(JobState))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[datetime | None] = mapped_column(Timestamp)
    reason: Mapped[EndReason | None] = mapped_column(Choice(EndReason))
    message: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None] = mapped_column(Integer)
    output: Mapped[Any] = mapped_column(Json, nullable=True)
    reused_from: Mapped[bytes | None] = mapped_column(Id)
    queued_at: Mapped[datetime | None] = mapped_column(Timestamp)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)


def _kind(context: Any) -> int:
    """A number for all that decides whether one job can start where another can, but for its priority."""
    values = context.get_current_parameters()
    names = ("project_id", "version_id", "workers", "cpus", "memory_bytes", "gpus")
    alike = repr([values.get(name) for name in names]).encode()
    return int.from_bytes(hashlib.blake2b(alike, digest_size=8).digest()) >> 1


class JobFile(Base):
    """A file that a job reads or hands on, in order."""

    __tablename__ = "job_files"
    __table_args__ = (columns.one_of("direction", Direction),)

    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    direction: Mapped[Direction] = mapped_column(Choice(Direction), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    file_id: Mapped[bytes] = mapped_column(Id, ForeignKey("files.id"), index=True)


_JOBS = Job.__table__
_MOVE = (
    update(_JOBS)  # type: ignore[arg-type]
    .where(_JOBS.c.id == bindparam("job"), _JOBS.c.state == bindparam("was"))
    .values(state=bindparam("to"))
)
_OF_RUN = select(Job).where(Job.run_id == bindparam("run")).order_by(Job.position)
_OUTPUTS = (
    select(File.id, File.name, File.tags, Job.step, JobFile.job_id)
    .join(JobFile, JobFile.file_id == File.id)
    .join(Job, Job.id == JobFile.job_id)
    .where(JobFile.job_id.in_(bindparam("jobs", expanding=True)), JobFile.direction == Direction.OUTPUT)
    .order_by(Job.position, JobFile.position)
)
_INSERT_FILES = insert(JobFile.__table__)  # type: ignore[arg-type]


async def of_run(session: Session, run_id: bytes) -> list[Job]:
    """The jobs of a run, in order."""
    return await session.all(Job, _OF_RUN, {"run": run_id})


async def of_runs(session: Session, runs: Collection[bytes]) -> list[Job]:
    """The jobs of several runs, in order."""
    statement = select(Job).where(Job.run_id.in_(runs)).order_by(Job.run_id, Job.position)
    return await session.all(Job, statement)


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
    moved: Sequence[tuple[Job, JobState]],
    at: datetime,
    **values: Any,
) -> None:
    """Move jobs to new states, each from the one it was read in, under the feed's lock; emits each."""
    given = {f"new_{name}": value for name, value in values.items()}
    rows = [{"job": job.id, "was": job.state, "to": to, **given} for job, to in moved]
    for job, to in moved:
        assert to in states.JOB_MOVES[job.state], f"{job.state} → {to}"
    changed = await session.change(_move(*values), rows if len(rows) > 1 else rows[0])
    assert changed in (len(rows), -1), "a job changed without its feed's lock"
    for job, to in moved:
        emit(head, job, to, at, **{k: values[k] for k in ("reason", "message", "exit_code") if k in values})


@functools.cache
def _move(*names: str) -> Any:
    """The statement that moves a job and sets these columns: there are a handful, each built once."""
    return _MOVE.values({name: bindparam(f"new_{name}") for name in names}) if names else _MOVE


def emit(head: feeds.Head, job: Job, state: JobState, at: datetime, **data: Any) -> None:
    """Say what a job's state is now."""
    head.emit(feeds.Subject.JOB, job.id, at, state=state, step=job.step, **data)


async def settle(
    session: Transaction,
    head: feeds.Head,
    jobs: Sequence[Job],
    at: datetime,
    *,
    fail_fast: bool,
    cancelling: bool,
    run_files: Sequence[Any],
) -> list[JobState]:
    """Make every move that follows from how the jobs stand; returns all states, in order of position.

    A job whose inputs cannot be right ends BAD_INPUT here, before any launch, and what needs it is skipped
    in the same pass. `run_files` are the rows (id, name, tags) that steps which need nothing read.
    """
    state = {job.position: job.state for job in jobs}
    by_position = {job.position: job for job in jobs}
    while True:
        standings = [Standing(job.position, state[job.position], tuple(job.needs)) for job in jobs]
        moves = states.advance(standings, fail_fast=fail_fast, cancelling=cancelling)
        if not moves:
            return [state[job.position] for job in jobs]
        ready = [by_position[p] for p, to in moves.items() if to is JobState.QUEUED]
        bad = await _give_inputs(session, ready, by_position, run_files)
        for to in (JobState.SKIPPED, JobState.CANCELLED):
            over = [(by_position[p], to) for p, wanted in moves.items() if wanted is to]
            if over:
                reason = EndReason.CANCELLED if to is JobState.CANCELLED else None
                await move(session, head, over, at, ended_at=at, reason=reason)
        queued = [(job, JobState.QUEUED) for job in ready if job.id not in bad]
        if queued:
            await move(session, head, queued, at, queued_at=at)
            session.wake()
        for job in ready:
            if message := bad.get(job.id):
                ended = {"ended_at": at, "reason": EndReason.BAD_INPUT, "message": message}
                await move(session, head, [(job, JobState.FAILED)], at, **ended)
        for position, to in moves.items():
            state[position] = JobState.FAILED if by_position[position].id in bad else to


async def _give_inputs(
    session: Transaction, ready: Sequence[Job], by_position: Mapping[int, Job], run_files: Sequence[Any]
) -> dict[bytes, str]:
    """Record the inputs of jobs that become ready; returns why, for those whose inputs cannot be right."""
    if not ready:
        return {}
    needed = {by_position[position].id for job in ready for position in job.needs}
    made = (await session.execute(_OUTPUTS, {"jobs": list(needed)})).all() if needed else []
    specs = await _specs(session, {job.function_id for job in ready if job.function_id})
    rows: list[dict[str, Any]] = []
    bad: dict[bytes, str] = {}
    for job in ready:
        if job.needs:
            parents = {by_position[position].id for position in job.needs}
            files = [
                (row.id, contracts.JobFile(row.name, row.tags, f"step {row.step}"))
                for row in made
                if row.job_id in parents
            ]
        else:
            files = [(row.id, contracts.JobFile(row.name, row.tags, "the run")) for row in run_files]
        spec = specs.get(job.function_id)
        problems = contracts.check_inputs(spec, job.arguments, [file for _, file in files]) if spec else ()
        if problems:
            bad[job.id] = "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in problems)
        for position, (file_id, _) in enumerate(files):
            rows.append(
                {"job_id": job.id, "direction": Direction.INPUT, "position": position, "file_id": file_id}
            )
    if rows:
        await session.execute(_INSERT_FILES, rows)
    return bad


_SPECS = select(Function.id, Function.spec).where(Function.id.in_(bindparam("ids", expanding=True)))


async def _specs(session: Session, functions: Collection[bytes]) -> dict[bytes | None, manifests.Function]:
    if not functions:
        return {}
    rows = (await session.execute(_SPECS, {"ids": list(functions)})).all()
    return {row.id: manifests.decode_function(row.spec) for row in rows}
