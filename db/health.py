"""Health of backends: which are away, since when and why, and what each says that it has.

A supervisor records what it meets; whoever lost the lease changes nothing. Jobs of a backend that is away
keep their states and none is claimed; once it answers again, all goes on.
"""

import enum
from collections.abc import Mapping

from sqlalchemy import ColumnElement, bindparam, func, select, update

from db import columns, texts
from db.backends import Backend
from db.bus import Wake
from db.columns import Timestamp
from db.database import Session, Transaction
from db.leases import Supervisor

MOST_WORDS = 2_000
"""Of an error."""


class Health(enum.Enum):
    """Whether a backend can be worked with."""

    OK = "OK"
    UNAVAILABLE = "UNAVAILABLE"
    UNATTENDED = "UNATTENDED"


async def away(session: Transaction, supervisor: Supervisor, backend_id: bytes, error: str) -> bool:
    """Record that a backend does not answer; False when it is somebody else's by now."""
    now = columns.now()
    backend = await session.find(Backend, select(Backend).where(_held(supervisor, backend_id)))
    if backend is None:
        return False
    values = {
        "unavailable_since": backend.unavailable_since or now,
        "last_error": texts.storable(error)[:MOST_WORDS],
        "last_error_at": now,
    }
    return bool(await session.change(update(Backend).where(_held(supervisor, backend_id)).values(values)))


async def unreachable(session: Transaction, backend_id: bytes, error: str) -> None:
    """Record that a backend that nobody holds could not be opened; of one that is held, its holder tells."""
    now = columns.now()
    living = select(Supervisor.id).where(Supervisor.expires_at > columns.clock())
    unheld = Backend.supervisor_id.is_(None) | Backend.supervisor_id.not_in(living)
    words = texts.storable(error)[:MOST_WORDS]
    values = {
        "unavailable_since": func.coalesce(Backend.unavailable_since, bindparam("since", now, Timestamp())),
        "last_error": words,
        "last_error_at": now,
    }
    news = Backend.unavailable_since.is_(None) | Backend.last_error.is_distinct_from(words)
    await session.execute(update(Backend).where(Backend.id == backend_id, unheld, news).values(values))


async def answers(
    session: Transaction, supervisor: Supervisor, backend_id: bytes, available: Mapping[str, float] | None
) -> bool:
    """Record that a backend answers, and what it has; jobs that wait for either are looked at again."""
    values = {"unavailable_since": None, "available": None if available is None else dict(available)}
    changed = await session.change(update(Backend).where(_held(supervisor, backend_id)).values(values))
    if changed:
        session.wake(Wake.SUPERVISORS)
    return bool(changed)


def _held(supervisor: Supervisor, backend_id: bytes) -> ColumnElement[bool]:
    held: ColumnElement[bool] = (
        (Backend.id == backend_id)
        & (Backend.supervisor_id == supervisor.id)
        & (Backend.epoch == supervisor.epoch)
    )
    return held


async def attended(session: Session) -> set[bytes]:
    """The backends that a living supervisor holds."""
    alive = select(Backend.id).join(Supervisor, Supervisor.id == Backend.supervisor_id)
    return set((await session.execute(alive.where(Supervisor.expires_at > columns.clock()))).scalars())


def of(backend: Backend, attended: set[bytes]) -> Health:
    """How a backend is."""
    if backend.unavailable_since is not None:
        return Health.UNAVAILABLE
    return Health.OK if backend.id in attended else Health.UNATTENDED
