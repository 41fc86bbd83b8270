"""Preparations that runs want: of versions whose jobs wait on a backend for which nobody has made them ready.

Installing a module makes it ready where runs go by default. Elsewhere, the first job that is queued there asks for it.
"""

from typing import Any

from sqlalchemy import exists, join, select
from sqlalchemy.orm import aliased

from db import queues
from db.database import Session
from db.jobs import Job
from db.modules import ModuleVersion
from db.preparations import Preparation


def _unprepared() -> Any:
    """The versions of the kinds of jobs in a backend's queue that have no preparation there."""
    kinds, first = queues.kinds(), aliased(Job)
    earliest = (
        select(first.id)
        .where(queues.queued(first), first.kind == kinds.c.kind)
        .order_by(first.priority.desc(), first.id)
        .limit(1)
        .correlate(kinds)
        .scalar_subquery()
    )
    prepared = exists().where(
        Preparation.version_id == Job.version_id, Preparation.backend_id == Job.backend_id
    )
    of = select(Job.version_id).select_from(join(kinds, Job, Job.id == earliest)).where(~prepared)
    return select(ModuleVersion).where(ModuleVersion.id.in_(of)).order_by(ModuleVersion.id)


_UNPREPARED = _unprepared()


async def unprepared(session: Session, backend_id: bytes) -> list[ModuleVersion]:
    """Versions that jobs wait for on this backend, and that nobody makes ready there."""
    return await session.all(ModuleVersion, _UNPREPARED, {"backend": backend_id})
