"""Data sources: named places outside, by URL, with the name of the secret that opens them.

A source is copied into a managed file (data_fetches.py) or given to a run as it is (source_uses.py). A URL holds
no credentials: those are a secret's value, which is not here. A deleted source is found by name no more; what
was made of it says still where it came from.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ForeignKey, Index, Text, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, contracts, errors, ids, paging, projects, secrets, texts, viewers
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.errors import Problem
from db.paging import Page, Slice
from db.viewers import Viewer

SCHEMES = ("file", "http", "https", "s3", "gs", "hdfs")
_LIVE = text("deleted_at IS NULL")


class DataSource(Base):
    """A place outside. `secret` is a name; its value is asked for when it is needed."""

    __tablename__ = "data_sources"
    __table_args__ = (
        Index(
            "ix_data_sources_name",
            "project_id",
            "name",
            unique=True,
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)


async def create(
    session: Transaction,
    viewer: Viewer,
    name: str,
    url: str,
    *,
    secret: str | None = None,
    description: str = "",
    project_id: bytes | None = None,
) -> bytes:
    """A new source; raises Invalid with every mistake, Conflict for a taken name."""
    project = await projects.choose(session, viewer, project_id)
    problems = _problems(name, url, description)
    if problems := problems + await _secret_problems(session, project, secret):
        raise errors.Invalid(problems=problems)
    source_id = ids.new()
    values = {
        "id": source_id,
        "project_id": project,
        "name": name,
        "url": url,
        "secret": secret,
        "description": description,
        "created_by": viewer.user_id,
        "created_at": columns.now(),
    }
    try:
        await session.execute(insert(DataSource).values(values))
    except IntegrityError as error:
        raise errors.Conflict(f"there is a data source named {name!r} already", path=("name",)) from error
    return source_id


async def change(
    session: Transaction,
    viewer: Viewer,
    source_id: bytes,
    *,
    url: str | None = None,
    secret: str | None = None,
    description: str | None = None,
) -> None:
    """Change what is given (an empty `secret` means none); what was fetched or started keeps what it had."""
    source = await lock(session, viewer, source_id)
    problems = _problems(source.name, url if url is not None else source.url, description or "")
    if problems := problems + await _secret_problems(session, source.project_id, secret or None):
        raise errors.Invalid(problems=problems)
    given: dict[str, Any] = {"url": url, "description": description}
    values = {key: value for key, value in given.items() if value is not None}
    if secret is not None:
        values["secret"] = secret or None
    if values:
        await session.execute(update(DataSource).where(DataSource.id == source_id).values(values))


async def delete(session: Transaction, viewer: Viewer, source_id: bytes) -> None:
    """Take a source out of use."""
    await lock(session, viewer, source_id)
    gone = update(DataSource).where(DataSource.id == source_id).values(deleted_at=columns.now())
    await session.execute(gone)


async def lock(session: Transaction, viewer: Viewer, source_id: bytes) -> DataSource:
    """The live source of this id, held until the transaction ends; raises NotFound or Forbidden."""
    wanted = select(DataSource).where(
        DataSource.id == source_id,
        DataSource.deleted_at.is_(None),
        viewers.visible(viewer, DataSource.project_id),
    )
    found = await session.find(DataSource, wanted.with_for_update(key_share=True))
    if found is None:
        raise errors.NotFound("there is no such data source", path=("id",))
    viewers.require_writer(viewer, found.project_id)
    return found


async def find_sources(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[DataSource]:
    """The sources of these ids that may be seen, deleted ones too."""
    seen = viewers.visible(viewer, DataSource.project_id)
    return await session.all(DataSource, select(DataSource).where(DataSource.id.in_(keys), seen))


async def find_named(session: Session, viewer: Viewer, name: str) -> DataSource | None:
    """The live source of this name."""
    wanted = (DataSource.name == name) & DataSource.deleted_at.is_(None)
    seen = viewers.visible(viewer, DataSource.project_id)
    return await session.find(DataSource, select(DataSource).where(wanted, seen).limit(1))


async def list_sources(session: Session, viewer: Viewer, page: Page) -> Slice[DataSource]:
    """Live sources, newest first."""
    seen = viewers.visible(viewer, DataSource.project_id)
    statement = select(DataSource).where(DataSource.deleted_at.is_(None), seen)
    return await paging.fetch(session, DataSource, statement, DataSource.id, page)


async def naming(session: Session, projects: Collection[bytes]) -> list[tuple[bytes, str, str]]:
    """Which live sources name which secrets: project, secret, the source's name."""
    statement = select(DataSource.project_id, DataSource.secret, DataSource.name).where(
        DataSource.project_id.in_(projects), DataSource.deleted_at.is_(None), DataSource.secret.is_not(None)
    )
    rows = (await session.execute(statement.order_by(DataSource.name))).all()
    return [(row.project_id, row.secret, row.name) for row in rows]


def url_problem(url: str) -> str | None:
    """Why this is no URL of a source, in words; never repeats what may be a password."""
    if len(url) > 2000 or texts.refusal(url) or not url.isprintable() or " " in url:
        return "a URL has at most 2,000 printable characters and no spaces"
    try:
        parts = urlsplit(url)
        has_credentials = parts.username is not None or parts.password is not None
        _port = parts.port
    except ValueError:
        return "this is no URL"
    if parts.scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        return f"a URL begins with one of {known}{texts.suggestion(parts.scheme, SCHEMES)}"
    if has_credentials:
        return "a URL holds no credentials: set a secret and name it"
    if parts.scheme == "file":
        here = parts.netloc in ("", "localhost") and parts.path.startswith("/") and len(parts.path) > 1
        return None if here else "say file:///a/path"
    return None if parts.hostname or parts.scheme == "hdfs" else f"say {parts.scheme}://host/path"


def file_name(url: str, otherwise: str) -> str:
    """What a file from there is called: the last part of the path."""
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return name if name and not contracts.name_problem(name) else otherwise


def _problems(name: str, url: str, description: str) -> list[Problem]:
    problems: list[Problem] = []
    if message := contracts.name_problem(name):
        problems.append(Problem(("name",), f"{ids.shorten(name)!r} {message}"))
    if message := url_problem(url):
        problems.append(Problem(("url",), message))
    if len(description) > 10_000 or texts.refusal(description):
        rule = "a description has at most 10,000 characters, all of which can be stored"
        problems.append(Problem(("description",), rule))
    return problems


async def _secret_problems(session: Session, project_id: bytes, secret: str | None) -> list[Problem]:
    if secret is None:
        return []
    message = secrets.name_problem(secret)
    if message is None and await secrets.missing(session, project_id, [secret]):
        message = f"there is no secret named {secret}: set it first"
    return [Problem(("secret",), message)] if message else []
