"""Datasets: named groups of files in parts, each state of them an immutable, numbered version.

Here are the tables, the dataset's own commands and what is read; versions are made in dataset_versions.py and
given to runs in dataset_uses.py. A deleted dataset is found by name no more; its versions stay readable,
because runs refer to them for ever.
"""

import enum
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, manifests, paging, projects, texts, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.errors import Problem
from db.paging import Page, Slice
from db.viewers import Viewer

MOST_TAGS = 100
_LIVE = text("deleted_at IS NULL")


class DatasetVersionState(enum.Enum):
    """How far a version's statistics are: PROFILING → READY | FAILED. Its files can be used all along."""

    PROFILING = "PROFILING"
    READY = "READY"
    FAILED = "FAILED"


class Dataset(Base):
    """A dataset. `versions` counts the numbers given out."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index(
            "ix_datasets_name", "project_id", "name", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, Any]] = mapped_column(Json)
    versions: Mapped[int] = mapped_column(Integer, default=0)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)


class DatasetVersion(Base):
    """One state of a dataset. `parts` is a list of {name, files, size_bytes, rows}, in order."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "digest"),
        columns.one_of("state", DatasetVersionState),
        Index(
            "ix_dataset_versions_profiling",
            "id",
            sqlite_where=text("state = 'PROFILING'"),
            postgresql_where=text("state = 'PROFILING'"),
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    dataset_id: Mapped[bytes] = mapped_column(Id, ForeignKey("datasets.id"))
    number: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(Text)
    state: Mapped[DatasetVersionState] = mapped_column(Choice(DatasetVersionState))
    message: Mapped[str | None] = mapped_column(Text)
    files: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    parts: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class DatasetFile(Base):
    """A file of a version, in the order of parts and names, with what is known of its table."""

    __tablename__ = "dataset_files"

    version_id: Mapped[bytes] = mapped_column(Id, ForeignKey("dataset_versions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    part: Mapped[str] = mapped_column(Text)
    file_id: Mapped[bytes] = mapped_column(Id, ForeignKey("files.id"), index=True)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    columns: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    message: Mapped[str | None] = mapped_column(Text)


async def create(
    session: Transaction,
    viewer: Viewer,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, Any] | None = None,
    project_id: bytes | None = None,
) -> bytes:
    """A new dataset, without a version yet; raises Invalid with every mistake, Conflict for a taken name."""
    project = await projects.choose(session, viewer, project_id)
    if problems := _problems(name, description, tags or {}):
        raise errors.Invalid(problems=problems)
    dataset_id = ids.new()
    values = {
        "id": dataset_id,
        "project_id": project,
        "name": name,
        "description": description,
        "tags": dict(tags or {}),
        "versions": 0,
        "created_by": viewer.user_id,
        "created_at": columns.now(),
    }
    try:
        await session.execute(insert(Dataset).values(values))
    except IntegrityError as error:
        raise _taken(name) from error
    return dataset_id


async def update_dataset(
    session: Transaction,
    viewer: Viewer,
    dataset_id: bytes,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Change what is given; versions stay as they are."""
    dataset = await lock(session, viewer, dataset_id)
    if problems := _problems(name or dataset.name, description or "", tags or {}):
        raise errors.Invalid(problems=problems)
    given = {"name": name, "description": description, "tags": None if tags is None else dict(tags)}
    values = {key: value for key, value in given.items() if value is not None}
    if not values:
        return
    try:
        await session.execute(update(Dataset).where(Dataset.id == dataset_id).values(values))
    except IntegrityError as error:
        raise _taken(str(name)) from error


async def lock(session: Transaction, viewer: Viewer, dataset_id: bytes, *path: str) -> Dataset:
    """The live dataset of this id, held until the transaction ends; raises NotFound or Forbidden."""
    wanted = select(Dataset).where(
        Dataset.id == dataset_id, Dataset.deleted_at.is_(None), viewers.visible(viewer, Dataset.project_id)
    )
    found = await session.find(Dataset, wanted.with_for_update(key_share=True))
    if found is None:
        raise errors.NotFound("there is no such dataset", path=path or ("id",))
    viewers.require_writer(viewer, found.project_id)
    return found


async def find_dataset(
    session: Session, viewer: Viewer, *, dataset_id: bytes | None = None, name: str | None = None
) -> Dataset | None:
    """The dataset of this id, deleted or not, or the live one of this name."""
    live = (Dataset.name == name) & Dataset.deleted_at.is_(None)
    wanted = Dataset.id == dataset_id if dataset_id is not None else live
    seen = viewers.visible(viewer, Dataset.project_id)
    return await session.find(Dataset, select(Dataset).where(wanted, seen).limit(1))


async def find_datasets(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Dataset]:
    """The datasets of these ids that may be seen, deleted ones too."""
    seen = viewers.visible(viewer, Dataset.project_id)
    return await session.all(Dataset, select(Dataset).where(Dataset.id.in_(keys), seen))


async def list_datasets(session: Session, viewer: Viewer, page: Page) -> Slice[Dataset]:
    """Live datasets, newest first."""
    seen = viewers.visible(viewer, Dataset.project_id)
    statement = select(Dataset).where(Dataset.deleted_at.is_(None), seen)
    return await paging.fetch(session, Dataset, statement, Dataset.id, page)


def _problems(name: str, description: str, tags: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    if not 1 <= len(name) <= 100 or name != name.strip() or not name.isprintable():
        problems.append(
            Problem(("name",), "a name has 1 to 100 printable characters, none of them around it")
        )
    if len(description) > 10_000 or texts.refusal(description):
        rule = "a description has at most 10,000 characters, all of which can be stored"
        problems.append(Problem(("description",), rule))
    if len(tags) > MOST_TAGS:
        problems.append(Problem(("tags",), f"a dataset has at most {MOST_TAGS} tags"))
    for tag, value in list(tags.items())[:MOST_TAGS]:
        if message := texts.refusal(tag) or manifests.tag_refusal(None, value):
            problems.append(Problem(("tags", ids.shorten(tag)), message))
    return problems


def _taken(name: str) -> errors.Conflict:
    return errors.Conflict(f"there is a dataset named {name!r} already", path=("name",))
