"""Why a run is not running, in a code and in words."""

import enum
from dataclasses import dataclass

from sqlalchemy import func, select

from db import columns
from db.backends import Backend
from db.database import Session
from db.jobs import Job
from db.modules import Module, ModuleVersion
from db.preparations import Preparation
from db.states import ACTIVE_JOB, JobState, PreparationState


class Code(enum.Enum):
    """What a run waits for."""

    PREPARATION = "PREPARATION"
    CAPACITY = "CAPACITY"
    RETRY = "RETRY"
    SUPERVISOR = "SUPERVISOR"


@dataclass(frozen=True, slots=True)
class Why:
    """A reason."""

    code: Code
    message: str


async def explain(session: Session, run_id: bytes) -> Why | None:
    """What the first of a run's ready jobs waits for; None when none is ready."""
    ready = select(Job).where(Job.run_id == run_id, Job.state == JobState.QUEUED).order_by(Job.position)
    job = await session.find(Job, ready.limit(1))
    if job is None:
        return None
    if job.not_before is not None and job.not_before > columns.now():
        return Why(Code.RETRY, f"{job.step} is tried again at {job.not_before:%H:%M:%S} UTC")
    return await _preparation(session, job) or await _capacity(session, job)


async def _preparation(session: Session, job: Job) -> Why | None:
    wanted = (Preparation.version_id == job.version_id) & (Preparation.backend_id == job.backend_id)
    states = (await session.execute(select(Preparation.state).where(wanted))).scalars().all()
    if PreparationState.READY in states:
        return None
    of = select(Module.name).join(ModuleVersion, ModuleVersion.module_id == Module.id)
    name = await session.scalar(of.where(ModuleVersion.id == job.version_id))
    return Why(Code.PREPARATION, f"module {name} is being made ready for {job.step}")


async def _capacity(session: Session, job: Job) -> Why:
    backend = await session.find(Backend, select(Backend).where(Backend.id == job.backend_id))
    if backend is None:
        return Why(Code.SUPERVISOR, "no supervisor has taken up its backend")
    active = select(func.count()).where(Job.backend_id == job.backend_id, Job.state.in_(ACTIVE_JOB))
    busy = await session.scalar(active)
    if not busy:
        return Why(Code.SUPERVISOR, f"{job.step} is ready and about to be claimed on {backend.name}")
    return Why(Code.CAPACITY, f"{job.step} waits for room on {backend.name}, where {busy} jobs run")
