"""Files: managed blobs, what runs read and what jobs make.

The content lies elsewhere, stored once by its SHA-256 (backends/blobs.py); a row here is a name for it with
tags and lineage. Rows do not change once READY: a job that modifies a file makes another, derived from it.
"""

import enum
import mimetypes
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BigInteger, ForeignKey, Text, func, insert, or_, select, type_coerce, update
from sqlalchemy.orm import Mapped, mapped_column

from db import arrivals, columns, contracts, errors, ids, manifests, paging, projects, texts, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.paging import Page, Slice
from db.viewers import Viewer

UNKNOWN_TYPE = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:; ?[\w.+-]+=[\w.+\"-]+)*", re.ASCII)
"""It goes into a header as it is, so that it must be nothing else."""


class FileKind(enum.Enum):
    """Whether a file was given or made."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


class FileState(enum.Enum):
    """Whether the content is there and was checked."""

    UPLOADING = "UPLOADING"
    READY = "READY"


class File(Base):
    """A managed blob. `size_bytes` is what was announced until READY; `sha256` is set once content arrived."""

    __tablename__ = "files"
    __table_args__ = (columns.one_of("kind", FileKind), columns.one_of("state", FileState))

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[FileKind] = mapped_column(Choice(FileKind))
    state: Mapped[FileState] = mapped_column(Choice(FileState))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(Text, index=True)
    media_type: Mapped[str] = mapped_column(Text)
    tags: Mapped[dict[str, Any]] = mapped_column(Json)
    run_id: Mapped[bytes | None] = mapped_column(Id, index=True)
    job_id: Mapped[bytes | None] = mapped_column(Id, index=True)
    derived_from: Mapped[bytes | None] = mapped_column(Id, ForeignKey("files.id"), index=True)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


async def create_upload(
    session: Transaction,
    viewer: Viewer,
    name: str,
    size_bytes: int,
    *,
    media_type: str | None = None,
    tags: Mapping[str, Any] | None = None,
    project_id: bytes | None = None,
) -> bytes:
    """Announce a file whose content will be sent; returns its id."""
    project = await projects.choose(session, viewer, project_id)
    if message := contracts.name_problem(name):
        raise errors.Invalid(f"{ids.shorten(name)!r} {message}", path=("name",))
    if size_bytes < 0:
        raise errors.Invalid("a size is not negative", path=("sizeBytes",))
    if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        raise errors.Invalid("a media type is like text/plain", path=("mediaType",))
    for tag, value in (tags or {}).items():
        if message := texts.refusal(tag):
            raise errors.Invalid(f"a tag's name {message}", path=("tags", tag))
        if message := manifests.tag_refusal(None, value):
            raise errors.Invalid(message, path=("tags", tag))
    file_id = ids.new()
    values = {
        "id": file_id,
        "project_id": project,
        "name": name,
        "kind": FileKind.INPUT,
        "state": FileState.UPLOADING,
        "size_bytes": size_bytes,
        "media_type": media_type or media_type_of(name),
        "tags": dict(tags or {}),
        "created_by": viewer.user_id,
        "created_at": columns.now(),
    }
    await session.execute(insert(File).values(values))
    return file_id


async def get_uploading(session: Session, viewer: Viewer, file_id: bytes) -> File:
    """A file that still takes content; raises NotFound, Forbidden or Conflict."""
    file = await find(session, viewer, file_id)
    if file is None:
        raise errors.NotFound("there is no such file", path=("id",))
    viewers.require_writer(viewer, file.project_id)
    if file.state is not FileState.UPLOADING:
        raise errors.Conflict("this file is complete; its content does not change", path=("id",))
    return file


async def record_content(
    session: Transaction, viewer: Viewer, file_id: bytes, *, sha256: str, size_bytes: int
) -> None:
    """Record what arrived; sending again before the upload is completed replaces it."""
    file = await get_uploading(session, viewer, file_id)
    if size_bytes != file.size_bytes:
        raise errors.Invalid(
            f"{size_bytes} bytes arrived, {file.size_bytes} were announced", path=("sizeBytes",)
        )
    values = {"sha256": sha256}
    ours = (File.id == file_id) & (File.state == FileState.UPLOADING)
    await session.execute(update(File).where(ours).values(values))


async def complete_upload(
    session: Transaction, viewer: Viewer, file_id: bytes, *, sha256: str, size_bytes: int
) -> bytes:
    """Make a file usable if what arrived is what was meant; a repeat with the same values is fine."""
    file = await find(session, viewer, file_id)
    if file is None:
        raise errors.NotFound("there is no such file", path=("id",))
    viewers.require_writer(viewer, file.project_id)
    if file.sha256 is None:
        raise errors.Conflict("no content has arrived: PUT it to the upload's url first", path=("id",))
    if sha256.lower() != file.sha256:
        raise errors.Invalid(f"the content that arrived has SHA-256 {file.sha256}", path=("sha256",))
    if size_bytes != file.size_bytes:
        raise errors.Invalid(f"the content that arrived has {file.size_bytes} bytes", path=("sizeBytes",))
    ours = (File.id == file_id) & (File.state == FileState.UPLOADING) & (File.sha256 == file.sha256)
    if not await session.change(update(File).where(ours).values(state=FileState.READY)):
        file = await find(session, viewer, file_id)
        if file is None or file.state is not FileState.READY:
            raise errors.Conflict("other content has arrived meanwhile", path=("id",))
        return file_id
    arrival = arrivals.Arrival(file_id, file.name, file.kind.value, file.tags)
    await arrivals.files_ready(session, file.project_id, [arrival], columns.now())
    return file_id


async def find(session: Session, viewer: Viewer, file_id: bytes) -> File | None:
    """The file of this id, if it may be seen."""
    found = await find_files(session, viewer, [file_id])
    return found[0] if found else None


async def find_files(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[File]:
    """The files of these ids that may be seen. A job may see the inputs of its run."""
    if viewer.kind is viewers.Kind.JOB:
        mine = select(File).where(File.id.in_(keys), File.id.in_(_readable_by(viewer)))
        return await session.all(File, mine)
    seen = viewers.visible(viewer, File.project_id, File.run_id)
    return await session.all(File, select(File).where(File.id.in_(keys), seen))


async def named(session: Session, sha256s: Collection[str]) -> set[str]:
    """Those of these contents that a row names."""
    rows = await session.execute(select(File.sha256).where(File.sha256.in_(sha256s)).distinct())
    return {sha256 for sha256 in rows.scalars() if sha256 is not None}


async def list_files(
    session: Session,
    viewer: Viewer,
    page: Page,
    *,
    run_id: bytes | None = None,
    kind: FileKind | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Slice[File]:
    """Files, newest first: made by this run, of this kind, with all of these tags (of a run's files alone)."""
    if tags and run_id is None:
        raise errors.Invalid("files are found by tags within a run: name it too", path=("filter", "run"))
    if viewer.kind is viewers.Kind.JOB:
        statement = select(File).where(File.id.in_(_readable_by(viewer)))
    else:
        statement = select(File).where(viewers.visible(viewer, File.project_id, File.run_id))
    if run_id is not None:
        statement = statement.where(File.run_id == run_id, viewers.kept(File.run_id))
    if kind is not None:
        statement = statement.where(File.kind == kind)
    position = func.strpos if session.postgresql else func.instr
    for name, value in (tags or {}).items():
        written = orjson.dumps({name: value}).decode()[
            1:-1
        ]  # as it stands in the column, before a comma or the end
        tagged = [position(type_coerce(File.tags, Text), written + after) > 0 for after in (",", "}")]
        statement = statement.where(or_(*tagged))
    return await paging.fetch(session, File, statement, File.id, page)


def media_type_of(name: str) -> str:
    """The media type that a file's name suggests."""
    return mimetypes.guess_type(name)[0] or UNKNOWN_TYPE


def _readable_by(viewer: Viewer) -> Any:
    job_files = Base.metadata.tables["job_files"]
    return select(job_files.c.file_id).where(job_files.c.job_id == viewer.job_id)
