"""What workers print, kept exactly once.

The offset up to which a worker's output is in the database moves in the transaction that stores what was
read, by compare-and-set: a crash before the commit reads the same again, a second reader changes nothing.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from db import batches, feeds, logs
from db.attempts import Attempt, Worker
from db.database import Session, Transaction
from db.jobs import Job
from db.leases import Supervisor
from db.lines import Packed
from db.points import Column, Origin

_LIMIT = logs.Limit()
_ORIGIN = (
    select(
        Worker.id,
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
        Attempt.id == bindparam("attempt"),
        Worker.rank == bindparam("rank"),
        Attempt.supervisor_id == bindparam("supervisor"),
        Attempt.epoch == bindparam("epoch"),
        Attempt.ended_at.is_(None),
    )
)
_ADVANCE = (
    update(Worker.__table__)  # type: ignore[arg-type]
    .where(
        Worker.__table__.c.id == bindparam("worker"),
        Worker.__table__.c.read_offset == bindparam("was"),
    )
    .values(read_offset=bindparam("reached"), lines=bindparam("in_all"), log_bytes=bindparam("size"))
)


async def offset(session: Session, attempt_id: bytes, rank: int) -> int:
    """How far a worker's output has been stored."""
    ours = (Worker.attempt_id == attempt_id) & (Worker.rank == rank)
    found: int = await session.scalar(select(Worker.read_offset).where(ours))
    return found


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
    size = row.log_bytes + sum(chunk.size for chunk in chunks)
    in_all = row.lines + sum(chunk.lines for chunk in chunks)
    moved = {"worker": row.id, "was": was, "reached": reached, "in_all": in_all, "size": size}
    if not await session.change(_ADVANCE, moved):
        return False
    origin = Origin(
        row.run_id, row.project_id, row.job_id, row.step, attempt_id, row.number, row.id, row.rank
    )
    for batch in points:
        await batches.append(session, head, origin, batch)
    await logs.append(session, head, chunks, printer)
    await logs.trim(session, feed_id, printer, size, limit)
    return True
