"""Settling: whatever follows from how a run's jobs stand, in the transaction in which they came to stand so.

Ready jobs are decided on (readiness.py) and queued with their inputs recorded, skipped, ended or given the
outputs of another; others are skipped or cancelled. It runs under the run's feed lock, so no separate pass
is needed and two parents that end at once both count.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from db import feeds, jobs, readiness, reuse, states
from db.bus import Wake
from db.database import Transaction
from db.jobs import Job, Member
from db.readiness import Fate
from db.states import TERMINAL_JOB, EndReason, JobState, Standing


async def settle(
    session: Transaction,
    head: feeds.Head,
    run_id: bytes,
    members: Sequence[Job | Member],
    at: datetime,
    *,
    fail_fast: bool,
    cancelling: bool,
) -> list[JobState]:
    """Make every move that follows from how the jobs stand; returns all states, in order of position.

    A job whose inputs cannot be right ends BAD_INPUT here, before any launch, and what needs it is skipped
    in the same pass.
    """
    state = {job.position: job.state for job in members}
    by_position: dict[int, Job | Member] = {job.position: job for job in members}
    while True:
        standings = [
            Standing(job.position, state[job.position], job.needs, job.awaits or ()) for job in members
        ]
        moves = states.advance(standings, fail_fast=fail_fast, cancelling=cancelling)
        if not moves:
            return [state[job.position] for job in members]
        ready = [by_position[position].id for position, to in moves.items() if to is JobState.QUEUED]
        over = {position: to for position, to in moves.items() if to is not JobState.QUEUED}
        now = {**state, **over}  # a condition may ask for what is skipped in this very pass
        fates = await readiness.decide(session, run_id, ready, by_position, now) if ready else {}
        await _end(session, head, over, by_position, {**state, **moves}, at, fail_fast)
        await _follow_fates(session, head, run_id, fates, by_position, at)
        state |= over
        for position, fate in fates.items():
            state[position] = fate.state
            # One that was queued here may be skipped here: another's inputs may be the failure that stops the run.
            by_position[position] = _moved(by_position[position], fate.state)


def _moved(job: Job | Member, to: JobState) -> Member:
    return Member(job.id, job.position, job.step, to, job.needs, job.awaits)


async def _end(
    session: Transaction,
    head: feeds.Head,
    over: Mapping[int, JobState],
    by_position: Mapping[int, Job | Member],
    state: Mapping[int, JobState],
    at: datetime,
    fail_fast: bool,
) -> None:
    """Skip or cancel jobs that will not be launched."""
    cancelled = [(by_position[p], to) for p, to in over.items() if to is JobState.CANCELLED]
    if cancelled:
        await jobs.move(session, head, cancelled, at, ended_at=at, reason=EndReason.CANCELLED)
    skipped = [by_position[p] for p, to in over.items() if to is JobState.SKIPPED]
    if skipped:
        said = [
            (job, {"message": _why(job, by_position, state, fail_fast), "ended_at": at}) for job in skipped
        ]
        await jobs.move_each(session, head, [(job, JobState.SKIPPED, values) for job, values in said], at)


def _why(
    job: Job | Member, by_position: Mapping[int, Job | Member], state: Mapping[int, JobState], fail_fast: bool
) -> str:
    """Why a job is skipped, in words."""
    for position in job.needs:
        if state[position] in TERMINAL_JOB and state[position] is not JobState.SUCCEEDED:
            return f"it needs {by_position[position].step}, which is {state[position].value}"
    failed = next((by_position[p].step for p, value in state.items() if value is JobState.FAILED), "a job")
    assert fail_fast, "a job is skipped for what it needs, or for a failure"
    return f"{failed} failed, and the run stops at its first failure"


async def _follow_fates(
    session: Transaction,
    head: feeds.Head,
    run_id: bytes,
    fates: Mapping[int, Fate],
    by_position: Mapping[int, Job | Member],
    at: datetime,
) -> None:
    queued = {position: fate for position, fate in fates.items() if fate.state is JobState.QUEUED}
    if queued:
        moved = [
            (by_position[position], JobState.QUEUED, {"queued_at": at, "reuse_key": fate.key})
            for position, fate in queued.items()
        ]
        await jobs.move_each(session, head, moved, at)
        session.wake(Wake.SUPERVISORS)
    for position, fate in fates.items():
        if position in queued:
            continue
        job = by_position[position]
        ended: dict[str, Any] = {"ended_at": at, "reason": fate.reason, "message": fate.message}
        if fate.source is not None:
            await reuse.take(session, job.id, run_id, fate.project_id, fate.source)
            ended |= {
                "queued_at": at,
                "exit_code": fate.source.exit_code,
                "output": fate.source.output,
                "reuse_key": fate.key,
                "reused_from": fate.source.origin,
                "headlines": fate.source.metrics,
            }
        await jobs.move(session, head, [(job, fate.state)], at, **ended)
