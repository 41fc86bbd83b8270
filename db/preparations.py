"""Preparations: a module version made ready for a backend, an environment on a host or an image.

The work is resumable by name: PENDING and BUILDING both mean that it is to be done, and doing it again
costs nothing where it was done. A job waits for the preparation of its version on its backend.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint, bindparam, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, feeds, ids, module_versions, modules, viewers
from db.columns import Base, Choice, Id, Timestamp
from db.database import Session, Transaction
from db.states import PreparationState
from db.viewers import Viewer


class Preparation(Base):
    """A version on a backend. `host` is empty where any host will do; `prepared` is the adapter's word for it.

    `freed_at` is when what a removed module left here was let go of.
    """

    __tablename__ = "preparations"
    __table_args__ = (
        UniqueConstraint("version_id", "backend_id", "host"),
        columns.one_of("state", PreparationState),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    version_id: Mapped[bytes] = mapped_column(Id, ForeignKey("module_versions.id"))
    backend_id: Mapped[bytes] = mapped_column(Id, ForeignKey("backends.id"))
    host: Mapped[str] = mapped_column(Text, default="")
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"))
    state: Mapped[PreparationState] = mapped_column(Choice(PreparationState), index=True)
    message: Mapped[str | None] = mapped_column(Text)
    prepared: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    freed_at: Mapped[datetime | None] = mapped_column(Timestamp)


UNFINISHED = (PreparationState.PENDING, PreparationState.BUILDING)


async def request(session: Transaction, version: modules.ModuleVersion, backend_id: bytes, host: str) -> None:
    """Record that a version is to be made ready on a backend; a repeat changes nothing."""
    head = await feeds.lock(session, version.feed_id)
    preparation_id = ids.new()
    values = {
        "id": preparation_id,
        "version_id": version.id,
        "backend_id": backend_id,
        "host": host,
        "feed_id": version.feed_id,
        "state": PreparationState.PENDING,
    }
    once = columns.insert_once(session.postgresql, Preparation, ("version_id", "backend_id", "host"))
    if await session.change(once, values):
        state = PreparationState.PENDING
        head.emit(feeds.Subject.PREPARATION, preparation_id, columns.now(), state=state)
        await feeds.unsettle(session, head)  # the version's feed may have ended, prepared elsewhere
        session.wake()


_UNFINISHED = (
    select(Preparation)
    .join(modules.ModuleVersion, modules.ModuleVersion.id == Preparation.version_id)
    .join(modules.Module, modules.Module.id == modules.ModuleVersion.module_id)
    .where(
        modules.Module.removed_at.is_(None),
        Preparation.backend_id == bindparam("backend"),
        Preparation.host == bindparam("host"),
        Preparation.state.in_(UNFINISHED),
    )
    .order_by(Preparation.id)
)


async def unfinished(session: Session, backend_id: bytes, host: str) -> list[Preparation]:
    """What is to be made ready on a backend, oldest first; nothing of a module that was removed."""
    return await session.all(Preparation, _UNFINISHED, {"backend": backend_id, "host": host})


async def begin(session: Transaction, preparation: Preparation) -> None:
    """Record that the work has begun."""
    at = columns.now()
    await _move(session, preparation, PreparationState.BUILDING, at, None, started_at=at)


async def finish(session: Transaction, preparation: Preparation, prepared: str) -> None:
    """Record the result: the version becomes its module's active one, and jobs that wait for it go on."""
    at = columns.now()
    if await _move(session, preparation, PreparationState.READY, at, None, ended_at=at, prepared=prepared):
        await module_versions.prepared(session, preparation.version_id)
        session.wake()


async def fail(session: Transaction, preparation: Preparation, message: str) -> None:
    """Record that it cannot be made ready, and why; the previous version stays the active one."""
    at = columns.now()
    await _move(session, preparation, PreparationState.FAILED, at, message, ended_at=at)


async def of_versions(session: Session, versions: Collection[bytes]) -> list[Preparation]:
    """The preparations of these versions."""
    statement = select(Preparation).where(Preparation.version_id.in_(versions)).order_by(Preparation.id)
    return await session.all(Preparation, statement)


async def _move(
    session: Transaction,
    preparation: Preparation,
    to: PreparationState,
    at: datetime,
    message: str | None,
    **values: object,
) -> bool:
    head = await feeds.lock(session, preparation.feed_id)
    changed = await session.change(
        update(Preparation)
        .where(Preparation.id == preparation.id, Preparation.state.in_(UNFINISHED))
        .values(state=to, message=message, **values)
    )
    if changed:
        head.emit(feeds.Subject.PREPARATION, preparation.id, at, state=to, message=message)
        unfinished = select(Preparation.id).where(
            Preparation.version_id == preparation.version_id, Preparation.state.in_(UNFINISHED)
        )
        if await session.scalar(unfinished.limit(1)) is None:
            head.end()
    return bool(changed)


async def find_preparations(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Preparation]:
    """The preparations of these ids whose versions may be seen."""
    version = modules.ModuleVersion
    seen = viewers.visible(viewer, version.project_id)
    statement = select(Preparation).join(version, version.id == Preparation.version_id)
    return await session.all(Preparation, statement.where(Preparation.id.in_(keys), seen))
