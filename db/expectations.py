"""How long runs and jobs still take, if everything goes as it usually does.

A job takes what the same step of the same pipeline took the last times it succeeded: the median of at most
SAMPLES, read from an index made for that, so that a page of runs costs two statements whatever lies behind. A
run takes its longest way through what is left. Where a step never succeeded nothing is known.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import bindparam, select, text, union_all

from db import columns
from db.database import Session
from db.jobs import Job
from db.states import TERMINAL_JOB, JobState

SAMPLES = 15
_AT_ONCE = 200
"""Steps a statement; SQLite takes at most 500 selects in one."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds from now to the end of a run, and of each of its jobs by id; None where nothing is known."""

    seconds: float | None
    jobs: Mapping[bytes, float | None]


_MEMBERS = (
    select(
        Job.id,
        Job.run_id,
        Job.pipeline_id,
        Job.position,
        Job.step,
        Job.state,
        Job.needs,
        Job.awaits,
        Job.started_at,
    )
    .where(Job.run_id.in_(bindparam("runs", expanding=True)))
    .order_by(Job.run_id, Job.position)
)


async def of_runs(
    session: Session, runs: Collection[bytes], *, now: datetime | None = None
) -> dict[bytes, Expected]:
    """What is expected of these runs; those that have ended are left out."""
    members: dict[bytes, list[Any]] = {}
    for row in (await session.execute(_MEMBERS, {"runs": list(runs)})).all():
        members.setdefault(row.run_id, []).append(row)
    alive = {run: jobs for run, jobs in members.items() if any(job.state not in TERMINAL_JOB for job in jobs)}
    wanted = {
        (job.pipeline_id, job.step)
        for jobs in alive.values()
        for job in jobs
        if job.state not in TERMINAL_JOB and job.pipeline_id is not None
    }
    usual = await _usual(session, sorted(wanted))
    at = now or columns.now()
    return {run: expect(jobs, usual, at) for run, jobs in alive.items()}


def expect(jobs: Sequence[Any], usual: Mapping[tuple[bytes | None, str], float], now: datetime) -> Expected:
    """The longest way through what is left of one run's jobs, in order of position."""
    ends: dict[int, float | None] = {}
    for job in jobs:  # what a job waits for stands before it
        if job.state in TERMINAL_JOB:
            ends[job.position] = 0.0
            continue
        before = [ends[position] for position in {*job.needs, *(job.awaits or ())}]
        takes = usual.get((job.pipeline_id, job.step))
        known = [end for end in before if end is not None]
        if takes is None or len(known) < len(before):
            ends[job.position] = None
            continue
        running = job.state in (JobState.RUNNING, JobState.CANCELLING) and job.started_at is not None
        passed = (now - job.started_at).total_seconds() if running else 0.0
        ends[job.position] = max(known, default=0.0) + max(0.0, takes - passed)
    left = {job.id: ends[job.position] for job in jobs if job.state not in TERMINAL_JOB}
    known = [end for end in left.values() if end is not None]
    return Expected(max(known, default=0.0) if len(known) == len(left) else None, left)


async def _usual(
    session: Session, wanted: Sequence[tuple[bytes, str]]
) -> dict[tuple[bytes | None, str], float]:
    """The median duration of each pipeline's step, in seconds."""
    took: dict[tuple[bytes | None, str], list[float]] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        for row in (await session.execute(union_all(*map(_last, some)))).all():
            seconds = (row.ended_at - row.started_at).total_seconds()
            took.setdefault((row.pipeline_id, row.step), []).append(seconds)
    return {step: median(seconds) for step, seconds in took.items()}


def _last(step: tuple[bytes, str]) -> Any:
    pipeline_id, name = step
    last = (
        select(Job.pipeline_id, Job.step, Job.started_at, Job.ended_at)
        .where(
            Job.pipeline_id == pipeline_id,
            Job.step == name,
            # As the partial index has it.
            text("jobs.state = 'SUCCEEDED' AND jobs.reused_from IS NULL"),
            Job.started_at.is_not(None),
        )
        .order_by(Job.id.desc())
        .limit(SAMPLES)
    )
    return select(last.subquery())
