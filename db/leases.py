"""Leases: who drives a backend, decided by the database and by its clock alone.

A lease is one row a backend (of a HOST backend, one a host) with an epoch. Whoever takes it raises the epoch; it
runs out unless it is renewed. Every transaction of a holder begins with `hold`, so that none of a former one
is ever committed after the next holder's first: a process that was paused and wakes changes nothing.
"""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Text, bindparam, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, ids
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction

LEASE = timedelta(seconds=15)


class Supervisor(Base):
    """A lease: `name` says of what, `holder` which replica took it last. The highest epoch counts."""

    __tablename__ = "supervisors"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    holder: Mapped[str] = mapped_column(Text, default="", server_default="")
    epoch: Mapped[int] = mapped_column(BigInteger, default=1)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)


_RAN_OUT = Supervisor.expires_at <= columns.clock()
_RAISE = (
    update(Supervisor)
    .where(Supervisor.name == bindparam("lease"))
    .values(epoch=Supervisor.epoch + 1, holder=bindparam("by"), expires_at=columns.clock(LEASE))
    .returning(Supervisor)
)
_RAISE_OWN = _RAISE.where(_RAN_OUT | (Supervisor.holder == bindparam("by")))
_RAISE_FREE = _RAISE.where(_RAN_OUT)
_OURS = (Supervisor.id == bindparam("supervisor")) & (Supervisor.epoch == bindparam("held"))
_RENEW = update(Supervisor).where(_OURS).values(expires_at=columns.clock(LEASE))
_RELEASE = update(Supervisor).where(_OURS).values(expires_at=columns.clock())
# Whoever takes the lease waits for this transaction's end; those who hold do not wait for one another, nor does
# renewing for them: transactions that overlap without a gap would keep it waiting until the lease has run out.
_HOLD = select(Supervisor.id).where(_OURS).with_for_update(read=True, key_share=True)
_TAKE = select(Supervisor.id).where(Supervisor.name == bindparam("lease")).with_for_update()
_TAKE_OWN = _TAKE.where(_RAN_OUT | (Supervisor.holder == bindparam("by")))
_TAKE_FREE = _TAKE.where(_RAN_OUT)
_IDLE_MS = 5_000
_LIMITED = func.set_config("idle_in_transaction_session_timeout", str(_IDLE_MS), True)
"""PostgreSQL ends a transaction that stands still for so long: a paused process would keep others from the lease."""
_HOLD_POSTGRESQL = _HOLD.add_columns(_LIMITED)


async def take(session: Transaction, name: str, holder: str, *, again: bool = False) -> Supervisor | None:
    """Become the holder, and outdate the former one; None while somebody else is.

    Its own last life a replica succeeds at once, as it has ended; not `again`, within the same life.
    """
    if session.postgresql:
        await session.execute(select(_LIMITED))
    once = columns.insert_once(session.postgresql, Supervisor, ("name",))
    values = {"id": ids.new(), "name": name, "holder": "", "epoch": 0, "expires_at": columns.moment(0)}
    await session.execute(once, values)
    locked, raised = (_TAKE_FREE, _RAISE_FREE) if again else (_TAKE_OWN, _RAISE_OWN)
    by = {"lease": name, "by": holder}
    if await session.scalar(locked, by) is None:
        return None
    return await session.find(Supervisor, raised, by)


async def renew(session: Transaction, lease: Supervisor) -> bool:
    """Stay the holder for another while; False when somebody else has become it."""
    if session.postgresql:
        await session.execute(select(_LIMITED))
    return await session.change(_RENEW, _held(lease)) == 1


async def release(session: Transaction, lease: Supervisor) -> None:
    """Let the next one take it at once; nothing where it is somebody else's already."""
    await session.change(_RELEASE, _held(lease))


async def hold(session: Transaction, lease: Supervisor) -> bool:
    """Whether this transaction is the holder's; if so, nobody takes the lease before it has ended."""
    statement = _HOLD_POSTGRESQL if session.postgresql else _HOLD
    return await session.scalar(statement, _held(lease)) is not None


async def is_free(session: Session, name: str) -> bool:
    """Whether nobody holds the lease of this name just now."""
    held = select(Supervisor.id).where(Supervisor.name == name, Supervisor.expires_at > columns.clock())
    return await session.scalar(held) is None


async def others(session: Session, holder: str) -> bool:
    """Whether another replica may be alive."""
    alive = select(Supervisor.id).where(Supervisor.holder != holder, Supervisor.expires_at > columns.clock())
    return await session.scalar(alive.limit(1)) is not None


def _held(lease: Supervisor) -> dict[str, object]:
    return {"supervisor": lease.id, "held": lease.epoch}
