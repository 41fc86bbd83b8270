"""Why a run is not running, in a code and in words."""

import enum
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from db import columns
from db.backends import Backend
from db.database import Session
from db.jobs import Job
from db.modules import Module, ModuleVersion
from db.preparations import Preparation
from db.runs import Run
from db.states import ACTIVE_JOB, JobState, PreparationState


class Code(enum.Enum):
    """What a run waits for."""

    PREPARATION = "PREPARATION"
    CAPACITY = "CAPACITY"
    RETRY = "RETRY"
    SUPERVISOR = "SUPERVISOR"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class Why:
    """A reason."""

    code: Code
    message: str


async def explain(session: Session, runs: Collection[bytes]) -> dict[bytes, Why]:
    """What the first ready job of each of these runs waits for; runs without a ready job are left out.

    A suspended run waits to be resumed, whatever its jobs do.
    """
    told = await _suspended(session, runs)
    ready = select(Job).where(Job.run_id.in_(runs), Job.state == JobState.QUEUED)
    first: dict[bytes, Job] = {}
    for job in await session.all(Job, ready.order_by(Job.run_id, Job.position)):
        if job.run_id not in told:
            first.setdefault(job.run_id, job)
    if not first:
        return told
    unprepared = await _unprepared(session, first.values())
    backends = {row.id: row for row in await session.all(Backend, select(Backend))}
    active = select(Job.backend_id, func.count().label("jobs")).where(Job.state.in_(ACTIVE_JOB))
    busy = {
        row.backend_id: row.jobs for row in (await session.execute(active.group_by(Job.backend_id))).all()
    }
    for run_id, job in first.items():
        if job.not_before is not None and job.not_before > columns.now():
            message = f"{job.step} is tried again at {job.not_before:%H:%M:%S} UTC"
            told[run_id] = Why(Code.RETRY, message)
        elif (name := unprepared.get((job.version_id, job.backend_id))) is not None:
            told[run_id] = Why(Code.PREPARATION, f"module {name} is being made ready for {job.step}")
        else:
            told[run_id] = _capacity(job, backends.get(job.backend_id or b""), busy.get(job.backend_id, 0))
    return told


async def _suspended(session: Session, runs: Collection[bytes]) -> dict[bytes, Why]:
    still = select(Run.id).where(Run.id.in_(runs), Run.suspended_at.is_not(None))
    why = Why(Code.SUSPENDED, "it is suspended, until it is resumed")
    return dict.fromkeys((await session.execute(still)).scalars(), why)


async def _unprepared(
    session: Session, jobs: Collection[Job]
) -> dict[tuple[bytes | None, bytes | None], str]:
    """The modules' names of the versions that are not ready on the backends of these jobs."""
    versions = {job.version_id for job in jobs if job.version_id is not None}
    ready = select(Preparation.version_id, Preparation.backend_id).where(
        Preparation.version_id.in_(versions), Preparation.state == PreparationState.READY
    )
    prepared = {(row.version_id, row.backend_id) for row in (await session.execute(ready)).all()}
    named = select(ModuleVersion.id, Module.name).join(Module, ModuleVersion.module_id == Module.id)
    found = await session.execute(named.where(ModuleVersion.id.in_(versions)))
    names = {row.id: row.name for row in found.all()}
    wanted = {(job.version_id, job.backend_id) for job in jobs}
    return {key: names.get(key[0], "") for key in wanted if key not in prepared}


def _capacity(job: Job, backend: Backend | None, busy: int) -> Why:
    if backend is None:
        return Why(Code.SUPERVISOR, "no supervisor has taken up its backend")
    if not busy:
        return Why(Code.SUPERVISOR, f"{job.step} is ready and about to be claimed on {backend.name}")
    return Why(Code.CAPACITY, f"{job.step} waits for room on {backend.name}, where {busy} jobs run")
