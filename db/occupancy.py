"""Occupancy: what jobs that have been launched hold of backends, by project. Counted, never kept."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, text

from db import backends
from db.admission import AMOUNTS
from db.backends import Backend
from db.database import Session
from db.jobs import Job

# Statements of hot paths are built once: building one costs as much as running it.
SUMS = (
    func.count().label("jobs"),
    func.sum(Job.workers).label("slots"),
    func.sum(func.coalesce(Job.cpus, 0.0) * Job.workers).label("cpus"),
    func.sum(func.coalesce(Job.memory_bytes, 0) * Job.workers).label("memory_bytes"),
    func.sum(Job.gpus * Job.workers).label("gpus"),
)
LAUNCHED = Job.backend_id.is_not(None) & text("jobs.state IN ('STARTING', 'RUNNING', 'CANCELLING')")
"""As the partial index `ix_jobs_active` has it; what code outside reports is on no backend."""

_HELD = select(Job.backend_id, Job.project_id, *SUMS).where(LAUNCHED).group_by(Job.backend_id, Job.project_id)
_HELD_ON = _HELD.where(Job.backend_id == bindparam("backend"))


async def held_on(session: Session, backend_id: bytes) -> Sequence[Any]:
    """What each project holds of a backend: rows of `backend_id`, `project_id` and sums."""
    return (await session.execute(_HELD_ON, {"backend": backend_id})).all()


async def held(session: Session) -> Sequence[Any]:
    """What each project holds of each backend."""
    return (await session.execute(_HELD)).all()


def total(rows: Iterable[Any]) -> dict[str, float]:
    """The sum of what rows hold, jobs included."""
    found = dict.fromkeys(("jobs", *AMOUNTS), 0.0)
    for row in rows:
        for what in found:
            found[what] += float(getattr(row, what))
    return found


def free(backend: Backend, taken: Mapping[str, float]) -> dict[str, float]:
    """What is left of what a backend has now; less than nothing where it has lost some."""
    return {what: amount - taken[what] for what, amount in backends.capacity(backend).items()}
