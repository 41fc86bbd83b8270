"""Suspending a run and resuming it: an intent on the run, its jobs and their attempts, and nothing of its state.

What is queued is not claimed, what is WAITING will not be once it is ready, and every attempt is to stand still
until it is resumed, with its place and its memory kept; the supervisor sees to that, also the next one. The
clocks of timeouts stop with the attempts. Cancelling goes on as ever.
"""

from typing import Any

from sqlalchemy import select, update

from db import columns, errors, feeds, runs, viewers
from db.attempts import Attempt
from db.backends import Backend
from db.bus import Wake
from db.database import Transaction
from db.jobs import Job
from db.runs import Run
from db.states import TERMINAL_JOB, TERMINAL_RUN, RunState
from db.viewers import Viewer

_OVER = [*TERMINAL_RUN, RunState.CANCELLING]


async def suspend(session: Transaction, viewer: Viewer, run_id: bytes) -> bytes:
    """Have a run stand still; a repeat, or a run that has ended or is about to, is fine and changes nothing."""
    head, run = await _locked(session, viewer, run_id)
    if run.suspended_at is not None or run.state in _OVER:
        return run_id
    await _require_suspending(session, run)
    at = columns.now()
    await session.execute(update(Run).where(Run.id == run_id).values(suspended_at=at))
    alive = update(Job).where(Job.run_id == run_id, Job.state.not_in(TERMINAL_JOB))
    await session.execute(alive.values(suspended=True))
    running = update(Attempt).where(Attempt.run_id == run_id, Attempt.ended_at.is_(None))
    await session.execute(running.values(suspended_at=at))
    head.emit(feeds.Subject.RUN, run_id, at, state=run.state, edited=["suspended"])
    session.wake(Wake.SUPERVISORS)
    return run_id


async def resume(session: Transaction, viewer: Viewer, run_id: bytes) -> bytes:
    """Let a suspended run go on; one that is not suspended stays as it is."""
    head, run = await _locked(session, viewer, run_id)
    if run.suspended_at is None or run.state in _OVER:
        return run_id
    at = columns.now()
    await session.execute(update(Run).where(Run.id == run_id).values(suspended_at=None))
    await session.execute(update(Job).where(Job.run_id == run_id).values(suspended=False))
    still = select(Attempt).where(Attempt.run_id == run_id, Attempt.suspended_at.is_not(None))
    for attempt in await session.all(Attempt, still):
        assert attempt.suspended_at is not None
        until = attempt.ended_at or at
        stood = attempt.suspended_seconds + max(0.0, (until - attempt.suspended_at).total_seconds())
        changed = update(Attempt).where(Attempt.id == attempt.id)
        await session.execute(changed.values(suspended_at=None, suspended_seconds=stood))
    head.emit(feeds.Subject.RUN, run_id, at, state=run.state, edited=["suspended"])
    session.wake(Wake.SUPERVISORS)
    return run_id


def is_suspended(run: Any) -> bool:
    """Whether a run stands still: one that is over, or being cancelled, does not."""
    return run.suspended_at is not None and run.state not in _OVER


async def _locked(session: Transaction, viewer: Viewer, run_id: bytes) -> tuple[feeds.Head, Run]:
    found = await runs.get(session, viewer, run_id)
    viewers.require_writer(viewer, found.project_id)
    if found.external:
        raise errors.Invalid("code outside reports this run: it cannot be suspended from here", path=("id",))
    head = await feeds.lock(session, found.feed_id)
    return head, await runs.get(session, viewer, run_id)


async def _require_suspending(session: Transaction, run: Run) -> None:
    """Raise Conflict where a backend of the run cannot have its jobs stand still."""
    of_run = select(Job.backend_id).where(Job.run_id == run.id, Job.state.not_in(TERMINAL_JOB))
    for backend in await session.all(Backend, select(Backend).where(Backend.id.in_(of_run))):
        if not (backend.enforced or {}).get("suspends", True):
            raise errors.Conflict(f"backend {backend.name} cannot suspend jobs", path=("id",))
