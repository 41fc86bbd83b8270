"""What workers print, kept exactly once.

The offset up to which a worker's output is in the database moves in the transaction that stores what was
read, by compare-and-set: a crash before the commit reads the same again, a second reader changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update

from db import batches, feeds, logs
from db.attempts import Attempt, Worker
from db.database import Session, Transaction
from db.jobs import Job
from db.leases import Supervisor
from db.lines import Packed
from db.points import Column, Origin

_LIMIT = logs.Limit()
_PRINTERS = (
    select(
        Worker.id,
        Worker.attempt_id,
        Worker.rank,
        Worker.read_offset,
        Worker.lines,
        Worker.log_bytes,
        Attempt.number,
        Attempt.job_id,
        Attempt.run_id,
        Attempt.feed_id,
        Job.project_id,
        Job.step,
    )
    .join(Attempt, Attempt.id == Worker.attempt_id)
    .join(Job, Job.id == Attempt.job_id)
    .where(
        Attempt.supervisor_id == bindparam("supervisor"),
        Attempt.epoch == bindparam("epoch"),
        Attempt.ended_at.is_(None),
    )
)
_ORIGIN = _PRINTERS.where(Attempt.id == bindparam("attempt"), Worker.rank == bindparam("rank"))
_ORIGINS = _PRINTERS.where(Attempt.id.in_(bindparam("attempts", expanding=True)))
_ADVANCE = (
    update(Worker.__table__)  # type: ignore[arg-type]
    .where(
        Worker.__table__.c.id == bindparam("worker"),
        Worker.__table__.c.read_offset == bindparam("was"),
    )
    .values(read_offset=bindparam("reached"), lines=bindparam("in_all"), log_bytes=bindparam("size"))
)


@dataclass(frozen=True, slots=True)
class Printed:
    """What a worker printed between two offsets, without points; of the log the limit is kept."""

    attempt_id: bytes
    feed_id: int
    rank: int
    was: int
    reached: int
    chunks: Sequence[Packed]
    limit: logs.Limit = _LIMIT


async def offset(session: Session, attempt_id: bytes, rank: int) -> int:
    """How far a worker's output has been stored."""
    ours = (Worker.attempt_id == attempt_id) & (Worker.rank == rank)
    found: int = await session.scalar(select(Worker.read_offset).where(ours))
    return found


async def printed(session: Transaction, supervisor: Supervisor, given: Sequence[Printed]) -> list[bool]:
    """Store what several workers printed; False for each that is not ours to store, or was stored."""
    heads = await feeds.lock_all(session, [one.feed_id for one in given])
    whose = {"supervisor": supervisor.id, "epoch": supervisor.epoch}
    found = await session.execute(_ORIGINS, {**whose, "attempts": [one.attempt_id for one in given]})
    printers = {(row.attempt_id, row.rank): row for row in found.all()}
    answers: list[bool] = []
    stored: list[tuple[Printed, logs.Printer]] = []
    moves: list[dict[str, Any]] = []
    for one in given:
        row = printers.get((one.attempt_id, one.rank))
        answers.append(row is not None and row.read_offset == one.was)
        if row is None or row.read_offset != one.was:
            continue
        del printers[one.attempt_id, one.rank]  # its offset has moved
        stored.append((one, logs.Printer(row.job_id, row.number, one.rank, row.lines, row.log_bytes)))
        moves.append(_move(row, one.reached, one.chunks))
    if not stored:
        return answers
    await session.execute(_ADVANCE, moves)
    await logs.append_all(session, [(heads[one.feed_id], one.chunks, printer) for one, printer in stored])
    for (one, printer), move in zip(stored, moves, strict=True):
        await logs.trim(session, one.feed_id, printer, move["size"], one.limit)
    return answers


async def record(
    session: Transaction,
    supervisor: Supervisor,
    attempt_id: bytes,
    feed_id: int,
    rank: int,
    *,
    was: int,
    reached: int,
    chunks: Sequence[Packed],
    points: Sequence[Sequence[Column]],
    limit: logs.Limit = _LIMIT,
) -> bool:
    """Store what a worker printed between two offsets; False when that is not ours to store, or was stored.

    `points` are batches in the order printed. Of the log the first and the last bytes are kept, to `limit`.
    """
    head = await feeds.lock(session, feed_id)
    parameters = {
        "attempt": attempt_id,
        "rank": rank,
        "supervisor": supervisor.id,
        "epoch": supervisor.epoch,
    }
    row = (await session.execute(_ORIGIN, parameters)).first()
    if row is None or row.read_offset != was:
        return False
    printer = logs.Printer(row.job_id, row.number, rank, row.lines, row.log_bytes)
    moved = _move(row, reached, chunks)
    if not await session.change(_ADVANCE, moved):
        return False
    origin = Origin(
        row.run_id, row.project_id, row.job_id, row.step, attempt_id, row.number, row.id, row.rank
    )
    for batch in points:
        await batches.append(session, head, origin, batch)
    await logs.append(session, head, chunks, printer)
    await logs.trim(session, feed_id, printer, moved["size"], limit)
    return True


def _move(row: Any, reached: int, chunks: Sequence[Packed]) -> dict[str, Any]:
    size = row.log_bytes + sum(chunk.size for chunk in chunks)
    in_all = row.lines + sum(chunk.lines for chunk in chunks)
    return {"worker": row.id, "was": row.read_offset, "reached": reached, "in_all": in_all, "size": size}
