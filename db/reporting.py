"""What code reports of itself through the API: metrics of a job that is running, under its own token.

A batch is committed at most once: a producer numbers its batches, and a number that was committed before
changes nothing and gets the same answer.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from db import batches, errors, externals, feeds, ids, texts, viewers
from db.attempts import Attempt, Worker
from db.database import Transaction
from db.jobs import Job
from db.points import Column, Origin
from db.viewers import Viewer

_RUNNING = (
    select(
        Job.project_id,
        Job.run_id,
        Attempt.id,
        Attempt.number,
        Attempt.ended_at,
        Attempt.backend_id,
        Worker.id.label("worker_id"),
        Worker.rank,
    )
    .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempts))
    .join(Worker, Worker.attempt_id == Attempt.id)
    .where(Job.id == bindparam("job"), Worker.rank == bindparam("rank"))
)


async def log(
    session: Transaction,
    viewer: Viewer,
    job_id: bytes,
    rank: int,
    producer: str,
    number: int,
    given: Sequence[Column],
) -> tuple[int, bool]:
    """Add a batch to a running job; returns its number in the run's feed, and whether it was a repeat.

    Raises NotFound, Forbidden, Invalid, or Conflict for a job that is not running.
    """
    if not 1 <= len(producer) <= 100 or texts.refusal(producer):
        raise errors.Invalid("a producer's name has 1 to 100 characters", path=("producer",))
    if not any(len(column.values) for column in given):
        raise errors.Invalid("there are no points in this batch", path=("points",))
    found = await session.scalar(select(Job.feed_id).where(Job.id == job_id))
    if found is None:
        raise errors.NotFound(f"there is no job {ids.encode('job', job_id)}", path=("job",))
    head = await feeds.lock(session, found)
    row = (await session.execute(_RUNNING, {"job": job_id, "rank": rank})).first()
    require_reporter(viewer, job_id, row.project_id if row else None)
    external = row is not None and row.backend_id is None
    heard = external and await externals.hear(session, head, job_id)
    if row is None or (row.ended_at is not None and not heard):
        raise errors.Conflict("this job has no attempt running with a worker of this rank", path=("job",))
    if viewer.kind is viewers.Kind.JOB and viewer.attempt != row.number:
        raise errors.Forbidden("this token is of an earlier attempt", path=("job",))
    committed = await batches.repeated(session, row.id, producer, number)
    if committed is not None:
        return committed, True
    origin = Origin(row.run_id, row.project_id, job_id, row.id, row.number, row.worker_id, row.rank)
    seq = await batches.append(session, head, origin, given)
    await batches.remember(session, row.id, producer, number, seq)
    return seq, False


def require_reporter(viewer: Viewer, job_id: bytes, project_id: bytes | None) -> None:
    """Raise Forbidden unless the viewer may report for this job: its own token, or a writer of its project."""
    if viewer.kind is viewers.Kind.JOB:
        if viewer.job_id != job_id:
            raise errors.Forbidden("this token is of another job", path=("job",))
    elif project_id is not None:
        viewers.require_writer(viewer, project_id)
