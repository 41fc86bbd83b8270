"""States, reasons and the moves between them. Pure: no table, no clock.

A run's state is derived from its jobs' by `derive`, a job's readiness from what it needs by `advance`; the
rows change only along `JOB_MOVES`, by compare-and-set (jobs.py). Terminal is final.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class RunState(enum.Enum):
    """The state of a run, derived from its jobs."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class JobState(enum.Enum):
    """The state of a job."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class EndReason(enum.Enum):
    """Why an attempt, and the job with its last one, ended."""

    COMPLETED = "COMPLETED"
    EXIT_CODE = "EXIT_CODE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMED_OUT = "TIMED_OUT"
    PREEMPTED = "PREEMPTED"
    IMAGE_UNAVAILABLE = "IMAGE_UNAVAILABLE"
    LAUNCH_REJECTED = "LAUNCH_REJECTED"
    BAD_INPUT = "BAD_INPUT"
    BAD_OUTPUT = "BAD_OUTPUT"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


class WorkerPhase(enum.Enum):
    """The phase of one worker of an attempt."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"


class VersionState(enum.Enum):
    """The state of a module version."""

    FETCHING = "FETCHING"
    READY = "READY"
    FAILED = "FAILED"


class PreparationState(enum.Enum):
    """The state of a module version's preparation on one backend."""

    PENDING = "PENDING"
    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"


S = JobState

JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    S.WAITING: frozenset({S.QUEUED, S.SUCCEEDED, S.SKIPPED, S.CANCELLED, S.FAILED}),
    S.QUEUED: frozenset({S.STARTING, S.SKIPPED, S.CANCELLED, S.FAILED}),
    S.STARTING: frozenset({S.RUNNING, S.QUEUED, S.CANCELLING, S.SUCCEEDED, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.QUEUED, S.CANCELLING, S.SUCCEEDED, S.FAILED, S.CANCELLED}),
    # However it ends from here, also by itself in the moment of the request: it was asked to.
    S.CANCELLING: frozenset({S.CANCELLED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
    S.SKIPPED: frozenset(),
}
"""Every legal move. WAITING or QUEUED → FAILED is a job that cannot be launched: BAD_INPUT, LAUNCH_REJECTED;
WAITING → SUCCEEDED one that takes its outputs from another."""

REOPENED = (S.FAILED, EndReason.LOST, S.RUNNING)
"""The one move out of an end, of an external run's job alone: it was taken for lost, and reports again."""

TERMINAL_JOB = frozenset(state for state, moves in JOB_MOVES.items() if not moves)
ACTIVE_JOB = frozenset({S.STARTING, S.RUNNING, S.CANCELLING})
"""A job in one of these has an attempt that holds capacity of its backend."""
TERMINAL_RUN = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})

RETRIED = frozenset({EndReason.EXIT_CODE, EndReason.OUT_OF_MEMORY, EndReason.PREEMPTED, EndReason.LOST})
"""Reasons after which another attempt may end otherwise, where the function grants retries."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What readiness depends on: a job's position in its run, its state, the positions it needs to succeed
    and those it awaits only the end of.
    """

    position: int
    state: JobState
    needs: Sequence[int]
    awaits: Sequence[int] = ()


def derive(states: Sequence[JobState], *, cancelling: bool) -> RunState:
    """The state of a run from its jobs' states and whether its cancellation was asked for.

    Asked for, a run ends CANCELLED if that touched any job; else a failure fails it.
    """
    if all(state in TERMINAL_JOB for state in states):
        if cancelling and S.CANCELLED in states:
            return RunState.CANCELLED
        if S.FAILED in states:
            return RunState.FAILED
        return RunState.CANCELLED if S.CANCELLED in states else RunState.SUCCEEDED
    if cancelling:
        return RunState.CANCELLING
    if all(state in (S.WAITING, S.QUEUED) for state in states):
        return RunState.QUEUED
    return RunState.RUNNING


def advance(jobs: Sequence[Standing], *, fail_fast: bool, cancelling: bool) -> dict[int, JobState]:
    """The moves that follow from how a run's jobs stand: position → QUEUED, SKIPPED or CANCELLED.

    A waiting job is ready when all it needs succeeded and all it awaits ended, skipped when any that it needs
    ended otherwise. After a failure a `fail_fast` run skips every job that has not been launched. A cancelled
    run cancels them.
    """
    state = {job.position: job.state for job in jobs}
    moves: dict[int, JobState] = {}
    stop = fail_fast and any(value is S.FAILED for value in state.values())
    for job in sorted(jobs, key=lambda job: job.position):  # needs point backwards: one pass is enough
        to = _next(job, state, stop=stop, cancelling=cancelling)
        if to is not None:
            moves[job.position] = state[job.position] = to
    return moves


def _next(job: Standing, state: Mapping[int, JobState], *, stop: bool, cancelling: bool) -> JobState | None:
    if job.state not in (S.WAITING, S.QUEUED):
        return None
    if cancelling:
        return S.CANCELLED
    if stop:
        return S.SKIPPED
    if job.state is S.QUEUED:
        return None
    needed = [state[position] for position in job.needs]
    if any(value in TERMINAL_JOB and value is not S.SUCCEEDED for value in needed):
        return S.SKIPPED
    ended = all(state[position] in TERMINAL_JOB for position in job.awaits)
    return S.QUEUED if ended and all(value is S.SUCCEEDED for value in needed) else None
