"""Ends: what follows when attempts have ended, many in one transaction, each statement for all of them.

Guarded as all reports (reports.py). The transaction that ends a job makes its dependants ready.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from db import arrivals, columns, contracts, feeds, ids, jobs, limits, policies, reports, runs
from db.attempts import Attempt, Worker
from db.bus import Wake
from db.columns import Among
from db.database import Session, Transaction
from db.files import File, FileKind, FileState, media_type_of
from db.jobs import Direction, Job, JobFile, Move
from db.leases import Supervisor
from db.states import EndReason, JobState, WorkerPhase


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a job hands on, its content stored. UNCHANGED ones are an input with other tags."""

    output: contracts.OutputFile
    sha256: str
    size_bytes: int
    input_id: bytes | None


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended: what the backend saw, and what its outputs amount to."""

    reason: EndReason
    exit_code: int | None
    exit_codes: Mapping[int, int]
    message: str | None
    at: datetime
    outputs: Sequence[Made] = ()
    document: Any = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt, and how it ended."""

    attempt_id: bytes
    feed_id: int
    end: End


async def ended(session: Transaction, supervisor: Supervisor, given: Sequence[Ended]) -> list[bool]:
    """Record ends, their outputs, and all that follows; False of each that was not ours to record."""
    heads = await feeds.lock_all(session, [one.feed_id for one in given])
    held = await reports.held_jobs(session, supervisor, [one.attempt_id for one in given])
    ours = {one.attempt_id: one.end for one in given if one.attempt_id in held}
    if not ours:
        return [False] * len(given)
    at = columns.now()
    over = [_Over(heads[held[key].feed_id], held[key], key, end) for key, end in ours.items()]
    await session.execute(_ATTEMPT_ENDED, [one.attempt() for one in over])
    await _end_workers(session, over)
    await _hand_on(session, [one for one in over if one.reason is EndReason.COMPLETED], at)
    moves: dict[tuple[str, ...], list[Move]] = defaultdict(list)
    resized: list[bytes] = []
    for one in over:
        move = await _move(session, one, at)
        moves[tuple(move.values)].append(move)
        if "memory_bytes" in move.values:  # it is of another kind
            resized.append(one.job.run_id)
    for alike in moves.values():
        await jobs.move_all(session, alike, at)
    if resized:
        await limits.sort(session, resized)
    await runs.follow_all(session, {one.job.run_id: one.head for one in over}, at)
    session.wake(Wake.SUPERVISORS if any("not_before" in columns_of for columns_of in moves) else Wake.CLAIMS)
    return [one.attempt_id in ours for one in given]


@dataclass(frozen=True, slots=True)
class _Over:
    """An end that is ours to record, and the job that it is of."""

    head: feeds.Head
    job: Any
    attempt_id: bytes
    end: End

    @property
    def reason(self) -> EndReason:
        reason: EndReason = self.job.stop_reason or self.end.reason
        return reason

    @property
    def message(self) -> str | None:
        if self.reason is EndReason.TIMED_OUT and self.job.timeout_seconds is not None:
            return f"took longer than {self.job.timeout_seconds:g} s"
        return "cancelled" if self.reason is EndReason.CANCELLED else self.end.message

    def attempt(self) -> dict[str, Any]:
        """What the attempt's row says from now on."""
        end = self.end
        values = {"seen_at": end.at, "why": self.reason, "code": end.exit_code, "words": self.message}
        return {"attempt": self.attempt_id, **values}


# Statements of hot paths are built once: building one costs as much as running it.
_ATTEMPTS, _WORKERS = Attempt.__table__, Worker.__table__
_ATTEMPT_ENDED = (
    update(_ATTEMPTS)  # type: ignore[arg-type]
    .where(_ATTEMPTS.c.id == bindparam("attempt"))
    .values(
        ended_at=bindparam("seen_at"),
        reason=bindparam("why"),
        exit_code=bindparam("code"),
        message=bindparam("words"),
    )
)
_WORKER_ENDED = (
    update(_WORKERS)  # type: ignore[arg-type]
    .where(_WORKERS.c.attempt_id == bindparam("of"), _WORKERS.c.rank == bindparam("number"))
    .values(phase=bindparam("how"), exit_code=bindparam("code"), ended_at=bindparam("seen_at"))
)


async def _end_workers(session: Transaction, over: Sequence[_Over]) -> None:
    rows: list[dict[str, Any]] = []
    for one in over:
        for rank in range(one.job.workers):
            code, phase = one.end.exit_codes.get(rank), WorkerPhase.LOST
            if code is not None:
                phase = WorkerPhase.SUCCEEDED if code == 0 else WorkerPhase.FAILED
            said = {"of": one.attempt_id, "number": rank, "how": phase, "code": code, "seen_at": one.end.at}
            rows.append(said)
            one.head.emit(
                feeds.Subject.WORKER,
                one.job.id,
                one.end.at,
                phase=phase,
                step=one.job.step,
                rank=rank,
                attempt=one.job.attempts,
                exit_code=code,
            )
    await session.execute(_WORKER_ENDED, rows)


_STATES = {EndReason.COMPLETED: JobState.SUCCEEDED, EndReason.CANCELLED: JobState.CANCELLED}


async def _move(session: Session, one: _Over, at: datetime) -> Move:
    """Where a job goes from here: to its end, or to its next attempt."""
    job, reason, message = one.job, one.reason, one.message
    again = None if job.state is JobState.CANCELLING else await _again(session, job, reason, at)
    if again is not None:
        told = {"reason": reason, "message": _told(message, again)}
        return Move(one.head, job, JobState.QUEUED, {**again, **told})
    values = {
        "ended_at": one.end.at,
        "reason": reason,
        "message": message,
        "exit_code": one.end.exit_code,
        "output": one.end.document,
    }
    return Move(one.head, job, _STATES.get(reason, JobState.FAILED), values)


_SO_ENDED = select(func.count()).where(
    Attempt.job_id == bindparam("job"), Attempt.reason == bindparam("why", type_=columns.Choice(EndReason))
)


async def _again(session: Session, job: Job, reason: EndReason, at: datetime) -> dict[str, Any] | None:
    """The columns of a job that is queued for another attempt; None where it has had its last."""
    if reason not in policies.RULED:
        return None
    policy = policies.decode(job.retry)
    so_ended = await session.scalar(_SO_ENDED, {"job": job.id, "why": reason})
    if not policy.grants(reason, so_ended, job.attempts, job.retries):
        return None
    more = policy.memory(reason, job.memory_bytes)
    if more is None:
        return None
    waited = timedelta(seconds=policy.backoff.seconds(job.attempts))
    columns_of: dict[str, Any] = {"not_before": at + waited, "queued_at": at}
    if more:
        columns_of["memory_bytes"] = more
    return columns_of


def _told(message: str | None, again: Mapping[str, Any]) -> str | None:
    if "memory_bytes" not in again:
        return message
    return f"{message or 'out of memory'}; tried again with {again['memory_bytes'] / (1 << 20):.0f} MiB"


_RENAMED = select(JobFile.job_id, JobFile.file_id).where(
    Among(JobFile.job_id, "jobs"), JobFile.direction == Direction.INPUT, JobFile.name.is_not(None)
)
_INSERT_FILES = insert(File)
_INSERT_LISTED = insert(JobFile)


async def _hand_on(session: Transaction, over: Sequence[_Over], at: datetime) -> None:
    """Insert the files that jobs made and list them, in their order; an input handed on as it was stays itself.

    Unless the job knew it by another name, which is what it hands it on by.
    """
    making = [one for one in over if one.end.outputs]
    if not making:
        return
    known = (await session.execute(_RENAMED, {"jobs": [one.job.id for one in making]})).all()
    renamed = {(row.job_id, row.file_id) for row in known}
    made: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    for one in making:
        for position, output in enumerate(one.end.outputs):
            unchanged = output.output.kind is contracts.OutputKind.UNCHANGED and not output.output.tags
            same = unchanged and (one.job.id, output.input_id) not in renamed
            file_id = output.input_id if same and output.input_id else ids.new()
            if file_id != output.input_id:
                made.append(_file(one.job, file_id, output, at))
            row = {"job_id": one.job.id, "direction": Direction.OUTPUT}
            listed.append({**row, "position": position, "file_id": file_id})
    if made:
        await session.execute(_INSERT_FILES, made)
        await _arrive(session, made, at)
    await session.execute(_INSERT_LISTED, listed)


async def _arrive(session: Transaction, made: Sequence[Mapping[str, Any]], at: datetime) -> None:
    arrived: dict[bytes, dict[bytes | None, list[arrivals.Arrival]]] = {}
    for file in made:
        of_run = arrived.setdefault(file["project_id"], {}).setdefault(file["run_id"], [])
        of_run.append(arrivals.Arrival(file["id"], file["name"], file["kind"].value, file["tags"]))
    for project_id, by_run in arrived.items():
        await arrivals.files_made(session, project_id, by_run, at)


def _file(job: Job, file_id: bytes, made: Made, at: datetime) -> dict[str, Any]:
    return {
        "id": file_id,
        "project_id": job.project_id,
        "name": made.output.name,
        "kind": FileKind.OUTPUT,
        "state": FileState.READY,
        "size_bytes": made.size_bytes,
        "sha256": made.sha256,
        "media_type": media_type_of(made.output.name),
        "tags": dict(made.output.tags),
        "run_id": job.run_id,
        "job_id": job.id,
        "derived_from": made.input_id,
        "created_at": at,
    }
