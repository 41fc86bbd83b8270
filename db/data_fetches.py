"""Fetches: copying what lies at a data source into a managed file.

A fetch is intent (FETCHING) until backends/retrieving.py has done it (READY, with the file) or cannot (FAILED), or
somebody does not want it any more (CANCELLED).
URL and secret are those of the moment it was asked for. What a crash interrupts is begun again; asking again
while one is under way gives that one.
"""

import enum
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, ForeignKey, Index, Text, insert, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, contracts, data_sources, errors, files, ids, paging, viewers
from db.columns import Base, Choice, Id, Timestamp
from db.database import Session, Transaction
from db.files import File, FileKind, FileState
from db.paging import Page, Slice
from db.viewers import Viewer


class DataFetchState(enum.Enum):
    """FETCHING → READY | FAILED | CANCELLED."""

    FETCHING = "FETCHING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class DataFetch(Base):
    """A copy under way or done. `total_bytes` is what the place says beforehand, where it says so."""

    __tablename__ = "data_fetches"
    __table_args__ = (
        columns.one_of("state", DataFetchState),
        Index(
            "ix_data_fetches_fetching",
            "id",
            sqlite_where=text("state = 'FETCHING'"),
            postgresql_where=text("state = 'FETCHING'"),
        ),
        Index("ix_data_fetches_source", "source_id", "id"),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    source_id: Mapped[bytes] = mapped_column(Id, ForeignKey("data_sources.id"))
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str | None] = mapped_column(Text)
    limit_bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[DataFetchState] = mapped_column(Choice(DataFetchState))
    message: Mapped[str | None] = mapped_column(Text)
    done_bytes: Mapped[int] = mapped_column(BigInteger)
    total_bytes: Mapped[int | None] = mapped_column(BigInteger)
    file_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("files.id"), index=True)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)


async def request(
    session: Transaction, viewer: Viewer, source_id: bytes, *, name: str | None = None, limit_bytes: int
) -> bytes:
    """Ask for a copy and return the fetch's id: the one under way, if there is one."""
    source = await data_sources.lock(session, viewer, source_id)
    if name is not None and (message := contracts.name_problem(name)):
        raise errors.Invalid(f"{ids.shorten(name)!r} {message}", path=("name",))
    if limit_bytes < 1:
        raise errors.Invalid("a limit is at least 1 byte", path=("limitBytes",))
    going = (DataFetch.source_id == source_id) & (DataFetch.state == DataFetchState.FETCHING)
    known: bytes | None = await session.scalar(select(DataFetch.id).where(going).limit(1))
    if known is not None:
        return known
    fetch_id = ids.new()
    values = {
        "id": fetch_id,
        "project_id": source.project_id,
        "source_id": source_id,
        "name": name or data_sources.file_name(source.url, source.name),
        "url": source.url,
        "secret": source.secret,
        "limit_bytes": limit_bytes,
        "state": DataFetchState.FETCHING,
        "done_bytes": 0,
        "created_by": viewer.user_id,
        "created_at": columns.now(),
    }
    await session.execute(insert(DataFetch).values(values))
    session.wake()
    return fetch_id


async def cancel(session: Transaction, viewer: Viewer, fetch_id: bytes) -> bytes:
    """End a fetch without a file; one that has ended stays as it is. Raises NotFound or Forbidden."""
    found = await find_fetches(session, viewer, [fetch_id])
    if not found:
        raise errors.NotFound("there is no such fetch", path=("id",))
    viewers.require_writer(viewer, found[0].project_id)
    ended = {"state": DataFetchState.CANCELLED, "ended_at": columns.now()}
    if await session.change(update(DataFetch).where(_under_way(fetch_id)).values(ended)):
        session.wake()
    return fetch_id


async def fetching(session: Session) -> list[DataFetch]:
    """What is to be copied, oldest first."""
    waiting = DataFetch.state == DataFetchState.FETCHING
    return await session.all(DataFetch, select(DataFetch).where(waiting).order_by(DataFetch.id))


async def progress(session: Transaction, fetch_id: bytes, done_bytes: int, total_bytes: int | None) -> None:
    """Say how far it is."""
    values = {"done_bytes": done_bytes, "total_bytes": total_bytes}
    await session.execute(update(DataFetch).where(_under_way(fetch_id)).values(values))


async def fetched(session: Transaction, fetch: DataFetch, sha256: str, size_bytes: int) -> None:
    """Make a file of what arrived; a repeat changes nothing."""
    now = columns.now()
    ended = {"state": DataFetchState.READY, "done_bytes": size_bytes, "total_bytes": size_bytes}
    changed = update(DataFetch).where(_under_way(fetch.id)).values(**ended, ended_at=now)
    if not await session.change(changed):
        return
    file = {
        "id": ids.new(),
        "project_id": fetch.project_id,
        "name": fetch.name,
        "kind": FileKind.INPUT,
        "state": FileState.READY,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "media_type": files.media_type_of(fetch.name),
        "tags": {},
        "created_by": fetch.created_by,
        "created_at": now,
    }
    await session.execute(insert(File).values(file))
    await session.execute(update(DataFetch).where(DataFetch.id == fetch.id).values(file_id=file["id"]))
    session.wake()


async def failed(session: Transaction, fetch_id: bytes, message: str) -> None:
    """Record that it cannot be had, and why; a repeat changes nothing."""
    values = {"state": DataFetchState.FAILED, "message": message[:2000], "ended_at": columns.now()}
    if await session.change(update(DataFetch).where(_under_way(fetch_id)).values(values)):
        session.wake()


async def find_fetches(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[DataFetch]:
    """The fetches of these ids that may be seen."""
    seen = viewers.visible(viewer, DataFetch.project_id)
    return await session.all(DataFetch, select(DataFetch).where(DataFetch.id.in_(keys), seen))


async def list_fetches(session: Session, source_id: bytes, page: Page) -> Slice[DataFetch]:
    """The fetches of a source, newest first."""
    statement = select(DataFetch).where(DataFetch.source_id == source_id)
    return await paging.fetch(session, DataFetch, statement, DataFetch.id, page)


def _under_way(fetch_id: bytes) -> ColumnElement[bool]:
    return (DataFetch.id == fetch_id) & (DataFetch.state == DataFetchState.FETCHING)
