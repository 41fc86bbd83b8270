"""What workers print, kept exactly once.

The offset up to which a worker's output is in the database moves in the transaction that stores what was
read, by compare-and-set: a crash before the commit reads the same again, a second reader changes nothing.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from db import feeds, logs, metrics
from db.attempts import Attempt, Worker
from db.backends import Supervisor
from db.database import Session, Transaction
from db.jobs import Job
from db.logs import Line
from db.points import Column, Origin

_ORIGIN = (
    select(
        Worker.id,
        Worker.rank,
        Worker.read_offset,
        Attempt.number,
        Attempt.job_id,
        Attempt.run_id,
        Attempt.feed_id,
        Job.project_id,
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
    .values(read_offset=bindparam("reached"), lines=Worker.__table__.c.lines + bindparam("more"))
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
    lines: Sequence[Line],
    points: Sequence[Sequence[Column]],
) -> bool:
    """Store what a worker printed between two offsets; False when that is not ours to store, or was stored.

    `points` are batches, one for each printed line of metrics at most, in the order printed.
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
    moved = {"worker": row.id, "was": was, "reached": reached, "more": len(lines)}
    if not await session.change(_ADVANCE, moved):
        return False
    origin = Origin(row.run_id, row.project_id, row.job_id, attempt_id, row.number, row.id, row.rank)
    for batch in points:
        await metrics.append(session, head, origin, batch)
    await logs.append(session, head, lines, job_id=row.job_id, attempt=row.number, rank=rank)
    return True
