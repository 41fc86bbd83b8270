"""Why a run or a job is not running, in a code and in words.

What is told is what the supervisor would find: a claim (claims.py) looks at the same in the same order.
"""

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from db import admission, columns, health, limiting, occupancy
from db.attempts import Attempt
from db.backends import Backend
from db.database import Session
from db.jobs import Job
from db.limits import Limit
from db.modules import Module, ModuleVersion
from db.preparations import Preparation
from db.projects import Project
from db.runs import Run
from db.states import TERMINAL_JOB, JobState, PreparationState


class Code(enum.Enum):
    """What a run or a job waits for."""

    NEEDS = "NEEDS"
    PREPARATION = "PREPARATION"
    CAPACITY = "CAPACITY"
    QUOTA = "QUOTA"
    LIMIT = "LIMIT"
    RETRY = "RETRY"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    SUPERVISOR = "SUPERVISOR"
    SCHEDULER = "SCHEDULER"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class Why:
    """A reason."""

    code: Code
    message: str
    limit_id: bytes | None = None


_MOST_NAMED = 5
"""Steps in one message."""

_SUSPENDED = Why(Code.SUSPENDED, "it is suspended, until it is resumed")
_IN_ORDER = (JobState.STARTING, JobState.CANCELLING, JobState.QUEUED)


async def of_runs(session: Session, runs: Collection[bytes]) -> dict[bytes, Why]:
    """What these runs wait for, by their first job that waits; nothing where a job runs, or none is ready.

    A suspended run waits to be resumed, whatever its jobs do.
    """
    still = select(Run.id).where(Run.id.in_(runs), Run.suspended_at.is_not(None))
    told = dict.fromkeys((await session.execute(still)).scalars(), _SUSPENDED)
    found = (
        select(Job.run_id, Job.state, func.min(Job.position).label("position"))
        .where(Job.run_id.in_(runs), Job.state.in_((JobState.RUNNING, *_IN_ORDER)))
        .group_by(Job.run_id, Job.state)
    )
    first: dict[bytes, dict[JobState, int]] = {}
    for row in (await session.execute(found)).all():
        first.setdefault(row.run_id, {})[row.state] = row.position
    wanted: dict[bytes, int] = {}
    for run_id, positions in first.items():
        if run_id not in told and JobState.RUNNING not in positions:
            wanted[run_id] = next(positions[state] for state in _IN_ORDER if state in positions)
    if not wanted:
        return told
    chosen = select(Job).where(Job.run_id.in_(wanted), Job.position.in_(set(wanted.values())))
    rows = [row for row in await session.all(Job, chosen) if row.position == wanted[row.run_id]]
    whys = await explain(session, rows)
    return told | {row.run_id: whys[row.id] for row in rows if row.id in whys}


async def of_jobs(session: Session, keys: Collection[bytes]) -> dict[bytes, Why]:
    """What these jobs wait for; those that run or have ended are left out."""
    return await explain(session, await session.all(Job, select(Job).where(Job.id.in_(keys))))


async def explain(session: Session, rows: Sequence[Job]) -> dict[bytes, Why]:
    """What each of these jobs waits for, if anything."""
    told = {row.id: _SUSPENDED for row in rows if row.suspended and row.state not in TERMINAL_JOB}
    by_state: dict[JobState, list[Job]] = {}
    for row in rows:
        if row.id not in told:
            by_state.setdefault(row.state, []).append(row)
    if waiting := by_state.get(JobState.WAITING):
        told |= await _needs(session, waiting)
    if starting := by_state.get(JobState.STARTING):
        told |= await _starting(session, starting)
    if cancelling := by_state.get(JobState.CANCELLING):
        told |= await _unreachable(session, cancelling)
    if queued := by_state.get(JobState.QUEUED):
        told |= await _queued(session, queued)
    return told


async def _needs(session: Session, rows: Sequence[Job]) -> dict[bytes, Why]:
    """What jobs wait for that need others, or await their end."""
    siblings = select(Job.run_id, Job.position, Job.step, Job.state).where(
        Job.run_id.in_({row.run_id for row in rows}), Job.state.not_in(TERMINAL_JOB)
    )
    unfinished: dict[bytes, dict[int, str]] = {}
    for row in (await session.execute(siblings)).all():
        unfinished.setdefault(row.run_id, {})[row.position] = row.step
    told: dict[bytes, Why] = {}
    for job in rows:
        alive = unfinished.get(job.run_id, {})
        names = [alive[each] for each in (*job.needs, *(job.awaits or ())) if each in alive]
        told[job.id] = Why(Code.NEEDS, f"{job.step} needs {_named(names)}")
    return told


def _named(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {rest} more" if rest > 0 else shown


async def _starting(session: Session, rows: Sequence[Job]) -> dict[bytes, Why]:
    """What keeps launched jobs from starting: their backend is away, or else its own words."""
    by_job = {row.id: row for row in rows}
    said = select(Attempt.job_id, Attempt.waiting).where(
        Attempt.job_id.in_(by_job), Attempt.ended_at.is_(None), Attempt.waiting.is_not(None)
    )
    told = {
        row.job_id: Why(Code.SCHEDULER, f"{by_job[row.job_id].step}: {row.waiting}")
        for row in (await session.execute(said)).all()
    }
    return told | await _unreachable(session, rows)


async def _unreachable(session: Session, rows: Sequence[Job]) -> dict[bytes, Why]:
    """Which of these jobs have to wait until somebody reaches their backend."""
    backends = {row.id: row for row in await session.all(Backend, select(Backend))}
    attended = await health.attended(session)
    found = {row.id: _away(row, backends[row.backend_id], attended) for row in rows if row.backend_id}
    return {key: why for key, why in found.items() if why is not None}


async def _queued(session: Session, rows: Sequence[Job]) -> dict[bytes, Why]:
    now = columns.now()
    unprepared = await _unprepared(session, rows)
    backends = {row.id: row for row in await session.all(Backend, select(Backend))}
    attended = await health.attended(session)
    held = await occupancy.held(session)
    limited = await _limited(session, rows, backends)
    taken = {key: occupancy.total(row for row in held if row.backend_id == key) for key in backends}
    told: dict[bytes, Why] = {}
    for job in rows:
        backend = backends.get(job.backend_id or b"")
        name = unprepared.get((job.version_id, job.backend_id))
        if backend is None:
            told[job.id] = Why(Code.SUPERVISOR, f"{job.step} has no backend")
        elif (away := _away(job, backend, attended)) is not None:
            told[job.id] = away
        elif job.not_before is not None and job.not_before > now:
            told[job.id] = Why(Code.RETRY, f"{job.step} is tried again at {job.not_before:%H:%M:%S} UTC")
        elif name is not None:
            told[job.id] = Why(Code.PREPARATION, f"module {name} is being made ready for {job.step}")
        elif job.id in limited:
            told[job.id] = limited[job.id]
        else:
            told[job.id] = _capacity(job, backend, taken[backend.id])
    return told


async def _limited(
    session: Session, rows: Sequence[Job], backends: Mapping[bytes, Backend]
) -> dict[bytes, Why]:
    """The first limit that has no room for each job, where there is one."""
    on: dict[bytes, list[Job]] = {}
    for row in rows:
        on.setdefault(row.backend_id or b"", []).append(row)
    told: dict[bytes, Why] = {}
    for backend_id, some in on.items():
        limited = await limiting.seen(session, backend_id, some)
        projects = await _project_names(session, limited.limits.values())
        for row in some:
            for room in limited.rooms.get(row.kind, ()):
                short = admission.shortage(row, room.free)
                if short is None or room.owner is None:
                    continue
                limit = limited.limits[room.owner]
                code = Code.QUOTA if limit.tag_name is None else Code.LIMIT
                on_it = "" if limit.backend_id is None else f" on {backends[limit.backend_id].name}"
                whose = _whose(limit, projects) + on_it
                words = (
                    f"{row.step} waits: {whose} may have {admission.stated(room.whole)} at once; it {short}"
                )
                told.setdefault(row.id, Why(code, words, limit.id))
    return told


async def _project_names(session: Session, found: Iterable[Limit]) -> dict[bytes, str]:
    keys = {limit.project_id for limit in found if limit.project_id is not None}
    named = await session.all(Project, select(Project).where(Project.id.in_(keys))) if keys else []
    return {row.id: row.name for row in named}


def _whose(limit: Limit, projects: Mapping[bytes, str]) -> str:
    """What a limit is of, in words."""
    project = "all projects" if limit.project_id is None else f"project {projects.get(limit.project_id, '')}"
    if limit.tag_name is None:
        return project
    value = "" if limit.tag_value is None else f"={limit.tag_value}"
    each = " (each value)" if limit.tag_value is None else ""
    return f"what has the tag {limit.tag_name}{value}{each} in {project}"


def _away(job: Job, backend: Backend, attended: set[bytes]) -> Why | None:
    match health.of(backend, attended):
        case health.Health.UNATTENDED:
            return Why(
                Code.SUPERVISOR, f"no supervisor has taken up {backend.name}, where {job.step} is to run"
            )
        case health.Health.UNAVAILABLE:
            since = f"{backend.unavailable_since:%Y-%m-%d %H:%M:%S} UTC"
            return Why(
                Code.BACKEND_UNAVAILABLE, f"{backend.name} is away since {since}: {backend.last_error}"
            )
    return None


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


def _capacity(job: Any, backend: Backend, taken: dict[str, float]) -> Why:
    short = admission.shortage(job, occupancy.free(backend, taken))
    if short is not None:
        there = f"{taken['jobs']:g} jobs run there"
        return Why(Code.CAPACITY, f"{job.step} waits for room on {backend.name}: {short}; {there}")
    if taken["jobs"]:
        return Why(Code.CAPACITY, f"{job.step} waits for its turn on {backend.name}, where others go first")
    return Why(Code.SUPERVISOR, f"{job.step} is ready and about to be claimed on {backend.name}")
