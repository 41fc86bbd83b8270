"""Backends as the system of record knows them, and the supervisors that hold them.

A claim locks the backend's row, so that one claimer at a time decides capacity and fairness. The lease is
one row a supervisor with an epoch: whoever starts again on a host raises the epoch, and what the former
one still reports changes nothing.
"""

import enum
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Integer, Text, bindparam, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import admission, columns, ids
from db.admission import Place
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction


class Scope(enum.Enum):
    """Who may adopt what runs on a backend: any replica, or one on the same host."""

    HOST = "HOST"
    CLUSTER = "CLUSTER"


class Supervisor(Base):
    """One that claims, launches and watches. `name` is the host's for HOST backends; the highest epoch counts."""

    __tablename__ = "supervisors"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    epoch: Mapped[int] = mapped_column(BigInteger, default=1)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)


class Backend(Base):
    """A configured adapter and what it can hold. Zero gpus means none; slots bound workers at once.

    The amounts are as configured, or as the adapter told where `config` does not have them among its `caps`.
    `devices` names its GPUs where they are known: index, name, memory_bytes. `enforced` says what it
    can do and how it keeps jobs to what they ask for. `available` is what it said last that it has: the rest of
    what is configured is out of reach just now. `place_*` is the job that others have passed (admission.py).
    health.py has `unavailable_since`, which is None while it answers, and its last error.
    """

    __tablename__ = "backends"
    __table_args__ = (columns.one_of("scope", Scope),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    kind: Mapped[str] = mapped_column(Text)
    scope: Mapped[Scope] = mapped_column(Choice(Scope))
    config: Mapped[dict[str, Any]] = mapped_column(Json)
    slots: Mapped[int] = mapped_column(Integer)
    cpus: Mapped[float] = mapped_column(Float)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(Integer)
    devices: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    enforced: Mapped[dict[str, Any] | None] = mapped_column(Json)
    available: Mapped[dict[str, float] | None] = mapped_column(Json)
    unavailable_since: Mapped[datetime | None] = mapped_column(Timestamp)
    last_error: Mapped[str | None] = mapped_column(Text)
    last_error_at: Mapped[datetime | None] = mapped_column(Timestamp)
    place_job_id: Mapped[bytes | None] = mapped_column(Id)
    place_passes: Mapped[int] = mapped_column(Integer, default=0)
    place_since: Mapped[datetime | None] = mapped_column(Timestamp)
    supervisor_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("supervisors.id"))
    epoch: Mapped[int | None] = mapped_column(BigInteger)


LEASE = timedelta(seconds=15)


async def take_lease(session: Transaction, name: str) -> Supervisor:
    """Become the supervisor of this name: its epoch goes up, and the former holder's reports count no more."""
    expires = columns.now() + LEASE
    once = columns.insert_once(session.postgresql, Supervisor, ("name",))
    await session.execute(once, {"id": ids.new(), "name": name, "epoch": 0, "expires_at": expires})
    raised = (
        update(Supervisor)
        .where(Supervisor.name == name)
        .values(epoch=Supervisor.epoch + 1, expires_at=expires)
        .returning(Supervisor)
    )
    row = await session.find(Supervisor, raised)
    assert row is not None
    return row


async def renew_lease(session: Transaction, supervisor: Supervisor) -> bool:
    """Stay the supervisor for another lease; False when somebody else has become it."""
    changed = await session.change(
        update(Supervisor)
        .where(Supervisor.id == supervisor.id, Supervisor.epoch == supervisor.epoch)
        .values(expires_at=columns.now() + LEASE)
    )
    return changed == 1


async def others(session: Session, name: str) -> bool:
    """Whether a supervisor of another name may be alive."""
    alive = select(Supervisor.id).where(Supervisor.name != name, Supervisor.expires_at > columns.now())
    return await session.scalar(alive.limit(1)) is not None


async def declare(session: Transaction, values: dict[str, Any]) -> bytes:
    """Have a backend of this name, so that runs can name it before anybody has taken it up; returns its id."""
    once = columns.insert_once(session.postgresql, Backend, ("name",))
    await session.execute(once, {"id": ids.new(), "place_passes": 0, **values})
    found: bytes = await session.scalar(select(Backend.id).where(Backend.name == values["name"]))
    return found


async def configure(session: Transaction, supervisor: Supervisor, values: dict[str, Any]) -> Backend:
    """Record a backend as configured now, by its name, held by this supervisor."""
    await declare(session, values)
    held = {**values, "supervisor_id": supervisor.id, "epoch": supervisor.epoch, "unavailable_since": None}
    changed = update(Backend).where(Backend.name == values["name"]).values(held).returning(Backend)
    row = await session.find(Backend, changed)
    assert row is not None
    return row


_LOCK = select(Backend).where(Backend.id == bindparam("backend")).with_for_update(key_share=True)


async def lock(session: Transaction, backend_id: bytes) -> Backend:
    """Lock a backend's row for a claim; runs go on being started on it."""
    row = await session.find(Backend, _LOCK, {"backend": backend_id})
    assert row is not None
    return row


_KEEP_PLACE = (
    update(Backend)
    .where(Backend.id == bindparam("backend"))
    .values(
        place_job_id=bindparam("job"), place_passes=bindparam("passes"), place_since=bindparam("passed_at")
    )
)


async def keep_place(session: Transaction, backend_id: bytes, place: Place | None) -> None:
    """Remember who has been passed, under the backend's lock."""
    values: dict[str, Any] = {"job": None, "passes": 0, "passed_at": None}
    if place is not None:
        values = {"job": place.job_id, "passes": place.passes, "passed_at": place.since}
    await session.execute(_KEEP_PLACE, {"backend": backend_id, **values})


def capacity(backend: Backend) -> dict[str, float]:
    """What all its jobs together may have now: what it says it has, as far as it is configured to have that."""
    most, said = bounds(backend), backend.available or {}
    there = {what: getattr(backend, what) for what in admission.AMOUNTS}
    return {
        what: min(said.get(what, amount), most.get(what, said.get(what, amount)))
        for what, amount in there.items()
    }


def bounds(backend: Backend) -> dict[str, float]:
    """The most that all its jobs together may ever have.

    Not of what is not configured where the backend says how much there is: that may grow.
    """
    capped, said = backend.config.get("caps", admission.AMOUNTS), backend.available or {}
    return {what: getattr(backend, what) for what in admission.AMOUNTS if what in capped or what not in said}


def device_indices(backend: Backend) -> list[int]:
    """The GPUs that may be given to jobs, by index."""
    known = [device["index"] for device in backend.devices or ()]
    return known[: backend.gpus] if len(known) >= backend.gpus else list(range(backend.gpus))


async def list_all(session: Session) -> list[Backend]:
    """Every configured backend, by name. Anybody may know them."""
    return await session.all(Backend, select(Backend).order_by(Backend.name))
