"""Claims: which jobs a supervisor launches next, and the intent to launch them.

A claim locks the backend's row, so that one claimer at a time decides capacity and fairness, then the limits
that it shares with other backends, then the runs' feeds, then moves jobs QUEUED → STARTING by compare-and-set
and inserts their attempts. What is launched later is described from the database alone (`describe`), so that
a crash in between costs nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from db import (
    admission,
    attempts,
    backends,
    columns,
    dataset_uses,
    feeds,
    grants,
    ids,
    jobs,
    leases,
    manifests,
    queues,
    runs,
    turns,
)
from db.attempts import Attempt, Worker
from db.backends import Backend
from db.bus import Wake
from db.database import Session, Transaction
from db.files import File
from db.jobs import Direction, Job, JobFile
from db.leases import Supervisor
from db.modules import Function, ModuleVersion
from db.preparations import Preparation
from db.runs import Run
from db.states import EndReason, JobState, RunState, WorkerPhase


@dataclass(frozen=True, slots=True)
class Input:
    """A file to give to a job."""

    name: str
    sha256: str
    tags: dict[str, Any]
    file_id: bytes


@dataclass(frozen=True, slots=True)
class Placed:
    """An input that is in a part of a dataset's version."""

    dataset: str
    version: int
    part: str
    file: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that launching an attempt needs to know."""

    attempt_id: bytes
    job_id: bytes
    run_id: bytes
    feed_id: int
    number: int
    function: manifests.Function
    arguments: dict[str, Any]
    digest: str
    prepared: str | None
    workers: int
    timeout_seconds: float | None
    inputs: tuple[Input, ...]
    resources: manifests.Resources
    devices: tuple[tuple[int, ...], ...] = ()
    """The GPUs of each worker, by rank; empty when the job asks for none."""
    datasets: tuple[Placed, ...] = ()
    grant: grants.Grant = grants.NOTHING

    @property
    def name(self) -> str:
        """What the attempt is called on its backend."""
        return attempts.native_name(self.job_id, self.number)


async def claim(
    session: Transaction, supervisor: Supervisor, backend_id: bytes, host: str, *, most: int = 64
) -> list[bytes]:
    """Claim ready jobs within the backend's capacity; returns the ids of the attempts to launch.

    admission.py says whose turn it is. A job that asks for more than the whole backend may ever have ends
    LAUNCH_REJECTED. Nothing is claimed for a backend that is away.
    """
    if not await leases.hold(session, supervisor):
        return []
    backend, now = await backends.lock(session, backend_id), columns.now()
    turn = await turns.of_backend(session, backend, host, now)
    if turn is None:
        return []
    chosen = await turn.choose(session, most)
    devices = await _assign(session, backend, host, chosen)
    chosen = [row for row in chosen if row.id in devices]
    oversized = turn.oversized
    for row in tuple(oversized):
        oversized += await queues.followers(session, turn.given, row.kind)
    await turn.keep_places(session)
    if not chosen and not oversized:
        return []
    await feeds.lock_all(session, sorted({row.feed_id for row in (*chosen, *oversized)}))
    bounds = backends.bounds(backend)
    for row in oversized:
        await _reject(session, row, admission.excess(backend.name, bounds, row), now)
        session.wake(Wake.SUPERVISORS)  # there may be more of its kind
    return await _start(session, supervisor, host, chosen, devices, now) if chosen else []


_ASSIGNED = (
    select(Worker.devices)
    .join(Attempt, Attempt.id == Worker.attempt_id)
    .where(
        Attempt.backend_id == bindparam("backend"),
        Attempt.host == bindparam("host"),
        ~Attempt.removed,
        Attempt.ended_at.is_(None),
        Worker.devices.is_not(None),
    )
)


async def _assign(
    session: Transaction, backend: Backend, host: str, chosen: Sequence[Any]
) -> dict[bytes, list[list[int]]]:
    """Which GPUs each worker of each job gets, nobody else having them; without those that find none."""
    if not any(row.gpus for row in chosen):
        return {row.id: [] for row in chosen}
    held = (await session.execute(_ASSIGNED, {"backend": backend.id, "host": host})).scalars()
    taken = {index for devices in held for index in devices}
    free = [index for index in backends.device_indices(backend) if index not in taken]
    given: dict[bytes, list[list[int]]] = {}
    for row in chosen:
        count = row.gpus * row.workers
        if count <= len(free):
            own, free = free[:count], free[count:]
            given[row.id] = [own[i : i + row.gpus] for i in range(0, count, row.gpus or 1)]
    return given


async def _reject(session: Transaction, row: Any, why: str | None, at: datetime) -> None:
    head = await feeds.lock(session, row.feed_id)
    job = await session.find(Job, select(Job).where(Job.id == row.id))
    if job is None or job.state is not JobState.QUEUED:
        return
    ended = {"ended_at": at, "reason": EndReason.LAUNCH_REJECTED, "message": why}
    await jobs.move(session, head, [(job, JobState.FAILED)], at, **ended)
    await runs.follow(session, head, row.run_id, at)


_TAKE = (
    update(Job)
    .where(Job.id.in_(bindparam("jobs", expanding=True)), Job.state == JobState.QUEUED, ~Job.suspended)
    .values(state=JobState.STARTING, attempts=Job.attempts + 1, not_before=None)
    .returning(Job.id, Job.attempts)
)
_INSERT_ATTEMPTS = insert(Attempt)
_INSERT_WORKERS = insert(Worker)
_BEGIN_RUNS = (
    update(Run)
    .where(Run.id.in_(bindparam("runs", expanding=True)), Run.state == RunState.QUEUED)
    .values(state=RunState.RUNNING, started_at=bindparam("at"))
    .returning(Run.id, Run.feed_id)
)


async def _start(
    session: Transaction,
    supervisor: Supervisor,
    host: str,
    chosen: Sequence[Any],
    devices: Mapping[bytes, list[list[int]]],
    at: datetime,
) -> list[bytes]:
    taken = await session.execute(_TAKE, {"jobs": [row.id for row in chosen]})
    number = {row.id: row.attempts for row in taken.all()}
    started = [row for row in chosen if row.id in number]
    if not started:
        return []
    attempt_ids = [ids.new() for _ in started]
    rows = [
        {
            "id": attempt_id,
            "job_id": row.id,
            "run_id": row.run_id,
            "feed_id": row.feed_id,
            "backend_id": row.backend_id,
            "number": number[row.id],
            "host": host,
            "supervisor_id": supervisor.id,
            "epoch": supervisor.epoch,
            "created_at": at,
        }
        for row, attempt_id in zip(started, attempt_ids, strict=True)
    ]
    await session.execute(_INSERT_ATTEMPTS, rows)
    workers = [
        {
            "attempt_id": attempt_id,
            "rank": rank,
            "phase": WorkerPhase.PENDING,
            "devices": devices[row.id][rank] if row.gpus else None,
        }
        for row, attempt_id in zip(started, attempt_ids, strict=True)
        for rank in range(row.workers)
    ]
    await session.execute(_INSERT_WORKERS, workers)
    for row in started:
        head = await feeds.lock(session, row.feed_id)
        head.emit(feeds.Subject.JOB, row.id, at, state=JobState.STARTING, step=row.step)
    await _runs_begin(session, started, at)
    return attempt_ids


async def _runs_begin(session: Transaction, started: Sequence[Any], at: datetime) -> None:
    """What `runs.follow` would find for a first job that starts, for all claimed runs at once."""
    begun = {"runs": list({row.run_id for row in started}), "at": at}
    for row in (await session.execute(_BEGIN_RUNS, begun)).all():
        head = await feeds.lock(session, row.feed_id)
        head.emit(feeds.Subject.RUN, row.id, at, state=RunState.RUNNING)


_DESCRIBE = (
    select(
        Attempt.id,
        Attempt.number,
        Job.id.label("job_id"),
        Job.run_id,
        Job.feed_id,
        Job.project_id,
        Job.arguments,
        Job.workers,
        Job.cpus,
        Job.memory_bytes,
        Job.gpus,
        Job.timeout_seconds,
        Function.spec,
        ModuleVersion.digest,
        Preparation.prepared,
    )
    .join(Job, Job.id == Attempt.job_id)
    .join(Function, Function.id == Job.function_id)
    .join(ModuleVersion, ModuleVersion.id == Job.version_id)
    .join(
        Preparation,
        (Preparation.version_id == Job.version_id)
        & (Preparation.backend_id == Attempt.backend_id)
        & (Preparation.host == Attempt.host),
    )
    .where(Attempt.id.in_(bindparam("ids", expanding=True)))
    .order_by(Attempt.id)
)
_INPUTS = (
    select(
        JobFile.job_id, File.id, func.coalesce(JobFile.name, File.name).label("name"), File.sha256, File.tags
    )
    .join(File, File.id == JobFile.file_id)
    .where(JobFile.job_id.in_(bindparam("jobs", expanding=True)), JobFile.direction == Direction.INPUT)
    .order_by(JobFile.job_id, JobFile.position)
)


async def describe(session: Session, attempt_ids: Collection[bytes]) -> list[Launch]:
    """What to launch for these attempts."""
    if not attempt_ids:
        return []
    rows = (await session.execute(_DESCRIBE, {"ids": list(attempt_ids)})).all()
    files = (await session.execute(_INPUTS, {"jobs": [row.job_id for row in rows]})).all()
    given: dict[bytes, list[Input]] = {row.job_id: [] for row in rows}
    for file in files:
        given[file.job_id].append(Input(file.name, file.sha256, file.tags, file.id))
    devices = await _devices(session, [row.id for row in rows if row.gpus])
    placed = await dataset_uses.placed(session, {row.run_id for row in rows})
    functions = {row.id: manifests.decode_function(row.spec) for row in rows}
    granted = await grants.find(
        session,
        {row.id: grants.Entitled(row.run_id, row.project_id, functions[row.id].secrets) for row in rows},
    )
    return [
        Launch(
            attempt_id=row.id,
            job_id=row.job_id,
            run_id=row.run_id,
            feed_id=row.feed_id,
            number=row.number,
            function=functions[row.id],
            arguments=row.arguments,
            digest=row.digest,
            prepared=row.prepared or None,
            workers=row.workers,
            timeout_seconds=row.timeout_seconds,
            inputs=tuple(given[row.job_id]),
            resources=manifests.Resources(row.cpus, row.memory_bytes, row.gpus),
            devices=devices.get(row.id, ()),
            datasets=_placed(given[row.job_id], placed.get(row.run_id, ())),
            grant=granted.get(row.id, grants.NOTHING),
        )
        for row in rows
    ]


async def _devices(
    session: Session, attempt_ids: Sequence[bytes]
) -> dict[bytes, tuple[tuple[int, ...], ...]]:
    if not attempt_ids:
        return {}
    found: dict[bytes, tuple[tuple[int, ...], ...]] = {}
    for worker in await attempts.workers_of(session, attempt_ids):
        found[worker.attempt_id] = (*found.get(worker.attempt_id, ()), tuple(worker.devices or ()))
    return found


def _placed(inputs: Sequence[Input], rows: Sequence[Any]) -> tuple[Placed, ...]:
    """Which of a job's inputs are in which part of the run's datasets."""
    names = {file.file_id: file.name for file in inputs} if rows else {}
    return tuple(
        Placed(row.name, row.number, row.part, names[row.file_id]) for row in rows if row.file_id in names
    )
