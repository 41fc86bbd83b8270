"""Reports: what a supervisor observed of the attempts it holds.

Each is guarded by attempt, supervisor and epoch under the run's feed lock: when somebody else has taken
over, or the attempt has ended, nothing changes and the report is dropped. The transaction that ends a job
makes its dependants ready.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, bindparam, func, insert, select, update

from db import arrivals, columns, contracts, feeds, ids, jobs, limits, policies, runs, texts
from db.attempts import Attempt, Worker
from db.database import Transaction
from db.files import File, FileKind, FileState, media_type_of
from db.jobs import Direction, Job, JobFile
from db.leases import Supervisor
from db.states import EndReason, JobState, WorkerPhase

MOST_WORDS = 2_000
"""Of a backend, for what keeps an attempt from starting."""


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


async def launched(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, handle: Mapping[str, Any]
) -> None:
    """Record how to find the attempt again."""
    await session.execute(_LAUNCHED, {**_held_by(supervisor, attempt_id), "found": dict(handle)})


async def started(
    session: Transaction,
    supervisor: Supervisor,
    attempt_id: bytes,
    feed_id: int,
    rank: int,
    node: str,
    address: str,
    at: datetime,
) -> None:
    """Record that a worker's process exists; when all do, the job is RUNNING."""
    head = await feeds.lock(session, feed_id)
    job = await _held_job(session, supervisor, attempt_id)
    if job is None:
        return
    seen = {"of": attempt_id, "number": rank, "on": node, "reached_at": address, "seen_at": at}
    if not await session.change(_WORKER_STARTED, seen):
        return
    head.emit(
        feeds.Subject.WORKER,
        job.id,
        at,
        phase=WorkerPhase.RUNNING,
        step=job.step,
        rank=rank,
        attempt=job.attempts,
    )
    if job.workers > 1:
        pending = (Worker.attempt_id == attempt_id) & (Worker.phase == WorkerPhase.PENDING)
        if await session.scalar(select(func.count()).where(pending)):
            return
    await session.execute(_ATTEMPT_STARTED, {"attempt": attempt_id, "seen_at": at})
    if job.state is JobState.STARTING:
        begun = {"started_at": job.started_at or at}
        await jobs.move(session, head, [(job, JobState.RUNNING)], columns.now(), **begun)


async def waiting(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, feed_id: int, words: str | None
) -> None:
    """Record what keeps an attempt from starting, in the backend's words; None when nothing does any more."""
    head = await feeds.lock(session, feed_id)
    job = await _held_job(session, supervisor, attempt_id)
    if job is None or job.state is not JobState.STARTING:
        return
    said = None if words is None else texts.storable(words)[:MOST_WORDS]
    if await session.change(_WAITING, {**_held_by(supervisor, attempt_id), "words": said}):
        jobs.emit(head, job, job.state, columns.now(), message=said)


async def ended(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, feed_id: int, end: End
) -> bool:
    """Record an attempt's end, its outputs, and all that follows; False when it was not ours to record."""
    head = await feeds.lock(session, feed_id)
    job = await _held_job(session, supervisor, attempt_id)
    if job is None:
        return False
    reason = job.stop_reason or end.reason
    message = _message(reason, end, job)
    values = {"seen_at": end.at, "why": reason, "code": end.exit_code, "words": message}
    await session.execute(_ATTEMPT_ENDED, {"attempt": attempt_id, **values})
    await _end_workers(session, head, job, attempt_id, end)
    at = columns.now()
    again = None if job.state is JobState.CANCELLING else await _again(session, job, reason, at)
    if again is not None:
        told = {"reason": reason, "message": _told(message, again)}
        await jobs.move(session, head, [(job, JobState.QUEUED)], at, **again, **told)
        if "memory_bytes" in again:  # it is of another kind
            await limits.sort(session, [job.run_id])
    else:
        await _end_job(session, head, job, at, reason, message, end)
    await runs.follow(session, head, job.run_id, at)
    session.wake()
    return True


async def time_out(
    session: Transaction, supervisor: Supervisor, attempt_id: bytes, feed_id: int, grace_seconds: float
) -> bool:
    """Ask an attempt that has taken too long to stop; False when it ended or was asked already."""
    await feeds.lock(session, feed_id)
    values = {"stop_reason": EndReason.TIMED_OUT, "stop_grace_seconds": grace_seconds}
    asked = update(Attempt).where(_OURS, Attempt.stop_reason.is_(None)).values(values)
    return bool(await session.change(asked, _held_by(supervisor, attempt_id)))


# Statements of hot paths are built once: building one costs as much as running it.
_OURS = (
    (Attempt.id == bindparam("attempt"))
    & (Attempt.supervisor_id == bindparam("supervisor"))
    & (Attempt.epoch == bindparam("holder"))
    & Attempt.ended_at.is_(None)
)
_HELD_JOB = select(Job, Attempt.stop_reason).join(Attempt, Attempt.job_id == Job.id).where(_OURS)
_LAUNCHED = update(Attempt).where(_OURS).values(handle=bindparam("found"))
_WAITING = (
    update(Attempt)
    .where(_OURS, Attempt.waiting.is_distinct_from(bindparam("words", type_=Text)))
    .values(waiting=bindparam("words", type_=Text))
)
_ATTEMPT_STARTED = (
    update(Attempt).where(Attempt.id == bindparam("attempt")).values(started_at=bindparam("seen_at"))
)
_ATTEMPT_ENDED = (
    update(Attempt)
    .where(Attempt.id == bindparam("attempt"))
    .values(
        ended_at=bindparam("seen_at"),
        reason=bindparam("why"),
        exit_code=bindparam("code"),
        message=bindparam("words"),
    )
)
_WORKER = (Worker.attempt_id == bindparam("of")) & (Worker.rank == bindparam("number"))
_WORKER_STARTED = (
    update(Worker)
    .where(_WORKER, Worker.phase == WorkerPhase.PENDING)
    .values(
        phase=WorkerPhase.RUNNING,
        node=bindparam("on"),
        address=bindparam("reached_at"),
        started_at=bindparam("seen_at"),
    )
)
_WORKER_ENDED = (
    update(Worker.__table__)  # type: ignore[arg-type]
    .where(_WORKER)
    .values(phase=bindparam("how"), exit_code=bindparam("code"), ended_at=bindparam("seen_at"))
)


def _held_by(supervisor: Supervisor, attempt_id: bytes) -> dict[str, Any]:
    return {"attempt": attempt_id, "supervisor": supervisor.id, "holder": supervisor.epoch}


async def _held_job(session: Transaction, supervisor: Supervisor, attempt_id: bytes) -> Any:
    """The job whose attempt this is, with the attempt's `stop_reason`; None when it is not ours any more."""
    return await session.find(Job, _HELD_JOB, _held_by(supervisor, attempt_id))


def _message(reason: EndReason, end: End, job: Job) -> str | None:
    if reason is EndReason.TIMED_OUT and job.timeout_seconds is not None:
        return f"took longer than {job.timeout_seconds:g} s"
    if reason is EndReason.CANCELLED:
        return "cancelled"
    return end.message


async def _end_workers(session: Transaction, head: feeds.Head, job: Job, attempt_id: bytes, end: End) -> None:
    rows: list[dict[str, Any]] = []
    for rank in range(job.workers):
        code = end.exit_codes.get(rank)
        phase = (
            WorkerPhase.LOST if code is None else WorkerPhase.SUCCEEDED if code == 0 else WorkerPhase.FAILED
        )
        rows.append({"of": attempt_id, "number": rank, "how": phase, "code": code, "seen_at": end.at})
        head.emit(
            feeds.Subject.WORKER,
            job.id,
            end.at,
            phase=phase,
            step=job.step,
            rank=rank,
            attempt=job.attempts,
            exit_code=code,
        )
    await session.execute(_WORKER_ENDED, rows)


_SO_ENDED = select(func.count()).where(
    Attempt.job_id == bindparam("job"), Attempt.reason == bindparam("why", type_=columns.Choice(EndReason))
)


async def _again(session: Transaction, job: Job, reason: EndReason, at: datetime) -> dict[str, Any] | None:
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


async def _end_job(
    session: Transaction,
    head: feeds.Head,
    job: Job,
    at: datetime,
    reason: EndReason,
    message: str | None,
    end: End,
) -> None:
    to = {EndReason.COMPLETED: JobState.SUCCEEDED, EndReason.CANCELLED: JobState.CANCELLED}
    if reason is EndReason.COMPLETED and end.outputs:
        await _hand_on(session, job, end.outputs, at)
    await jobs.move(
        session,
        head,
        [(job, to.get(reason, JobState.FAILED))],
        at,
        ended_at=end.at,
        reason=reason,
        message=message,
        exit_code=end.exit_code,
        output=end.document,
    )


_RENAMED = select(JobFile.file_id).where(
    JobFile.job_id == bindparam("job"), JobFile.direction == Direction.INPUT, JobFile.name.is_not(None)
)


async def _hand_on(session: Transaction, job: Job, outputs: Sequence[Made], at: datetime) -> None:
    """Insert the files a job made and list them, in its order; an input handed on as it was stays itself.

    Unless the job knew it by another name, which is what it hands it on by.
    """
    renamed = set((await session.execute(_RENAMED, {"job": job.id})).scalars())
    made: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    for position, output in enumerate(outputs):
        unchanged = output.output.kind is contracts.OutputKind.UNCHANGED and not output.output.tags
        same = unchanged and output.input_id is not None and output.input_id not in renamed
        file_id = output.input_id if same and output.input_id else ids.new()
        if file_id != output.input_id:
            made.append(_file(job, file_id, output, at))
        listed.append(
            {"job_id": job.id, "direction": Direction.OUTPUT, "position": position, "file_id": file_id}
        )
    if made:
        await session.execute(insert(File), made)
        arrived = [arrivals.Arrival(f["id"], f["name"], f["kind"].value, f["tags"]) for f in made]
        await arrivals.files_ready(session, job.project_id, arrived, at, run_id=job.run_id)
    await session.execute(insert(JobFile), listed)


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
