"""Backends as the system of record knows them. Who drives one is in leases.py.

A claim locks the backend's row, so that one claimer at a time decides capacity and fairness. One that no
running replica has configured any more is retired: its history stays, and no run can name it.
"""

import enum
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Integer, Text, bindparam, exists, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import admission, columns, ids
from db.admission import Place
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.leases import Supervisor


class Scope(enum.Enum):
    """Who may adopt what runs on a backend: any replica, or one on the same host."""

    HOST = "HOST"
    CLUSTER = "CLUSTER"


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
    retired_at: Mapped[datetime | None] = mapped_column(Timestamp)


async def declare(session: Transaction, values: dict[str, Any]) -> bytes:
    """Have a backend of this name, so that runs can name it before anybody has taken it up; returns its id."""
    once = columns.insert_once(session.postgresql, Backend, ("name",))
    await session.execute(once, {"id": ids.new(), "place_passes": 0, **values})
    named = update(Backend).where(Backend.name == values["name"]).values(retired_at=None)
    found: bytes = await session.scalar(named.returning(Backend.id))
    return found


async def retire(session: Transaction, names: Collection[str]) -> None:
    """Retire every backend that this replica does not have and no other one drives."""
    driven = exists().where(
        (Supervisor.name == Backend.name) | Supervisor.name.startswith(Backend.name + "@"),
        Supervisor.expires_at > columns.clock(),
    )
    gone = update(Backend).where(Backend.name.not_in(names), Backend.retired_at.is_(None), ~driven)
    await session.execute(gone.values(retired_at=columns.now()))


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
    count = max(backend.gpus, int(capacity(backend)["gpus"]))
    return known[:count] if len(known) >= count else list(range(count))


async def list_all(session: Session) -> list[Backend]:
    """Every backend there is or was, by name. Anybody may know them."""
    return await session.all(Backend, select(Backend).order_by(Backend.name))
