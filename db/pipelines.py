"""Pipelines: named graphs of steps, in immutable revisions.

An edit of the steps makes a new revision; what runs or ran keeps its own. Steps are in steps.py.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import (
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, manifests, paging, projects, viewers
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.paging import Page, Slice
from db.steps import Step, StepSpec, check_steps, name_problems, row_of
from db.viewers import Viewer


class Pipeline(Base):
    """A named graph of steps; `revision` is the number of its latest one. Once deleted its name is free."""

    __tablename__ = "pipelines"
    __table_args__ = (
        Index(
            "ix_pipelines_name",
            "project_id",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    revision: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)


class Revision(Base):
    """One immutable state of a pipeline."""

    __tablename__ = "pipeline_revisions"
    __table_args__ = (UniqueConstraint("pipeline_id", "number"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    pipeline_id: Mapped[bytes] = mapped_column(Id, ForeignKey("pipelines.id"))
    number: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


async def create(
    session: Transaction,
    viewer: Viewer,
    name: str,
    steps: Sequence[StepSpec],
    *,
    description: str = "",
    project_id: bytes | None = None,
) -> bytes:
    """A new pipeline with its first revision; raises Invalid with every mistake, Conflict for a taken name."""
    _check_description(description)
    project = await projects.choose(session, viewer, project_id)
    checked = await check_steps(session, project, name, steps)
    pipeline_id, at = ids.new(), columns.now()
    values = {
        "id": pipeline_id,
        "project_id": project,
        "name": name,
        "description": description,
        "revision": 1,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    once = columns.insert_once(
        session.postgresql, Pipeline, ("project_id", "name"), Pipeline.deleted_at.is_(None)
    )
    if not await session.change(once, values):
        raise errors.Conflict(f"there is a pipeline named {name!r} already", path=("name",))
    await _insert_revision(session, viewer, pipeline_id, 1, checked, at)
    return pipeline_id


async def revise(
    session: Transaction,
    viewer: Viewer,
    pipeline_id: bytes,
    *,
    name: str | None = None,
    description: str | None = None,
    steps: Sequence[StepSpec] | None = None,
) -> bytes:
    """Change what is given; new steps make a new revision, and what runs or ran keeps its own."""
    _check_description(description or "")
    pipeline = await _lock(session, viewer, pipeline_id)
    number = pipeline.revision
    if steps is not None:
        wanted = pipeline.name if name is None else name
        checked = await check_steps(session, pipeline.project_id, wanted, steps)
        number += 1
        await _insert_revision(session, viewer, pipeline_id, number, checked, columns.now())
    elif name is not None and (problems := name_problems(name)):
        raise errors.Invalid(problems=problems)
    values = {
        "revision": number,
        "name": name if name is not None else pipeline.name,
        "description": description if description is not None else pipeline.description,
    }
    try:
        await session.execute(update(Pipeline).where(Pipeline.id == pipeline_id).values(values))
    except IntegrityError as error:
        # The constraint decides, not a look beforehand: another rename may be under way.
        raise errors.Conflict(f"there is a pipeline named {name!r} already", path=("name",)) from error
    return pipeline_id


async def find_pipeline(
    session: Session, viewer: Viewer, *, pipeline_id: bytes | None = None, name: str | None = None
) -> Pipeline | None:
    """The pipeline of this id, also a deleted one, or of this name."""
    by_name = (Pipeline.name == name) & Pipeline.deleted_at.is_(None)
    wanted = Pipeline.id == pipeline_id if pipeline_id is not None else by_name
    seen = viewers.visible(viewer, Pipeline.project_id)
    return await session.find(Pipeline, select(Pipeline).where(wanted, seen).limit(1))


async def find_pipelines(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Pipeline]:
    """The pipelines of these ids that may be seen."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    return await session.all(Pipeline, select(Pipeline).where(Pipeline.id.in_(keys), seen))


async def list_pipelines(session: Session, viewer: Viewer, page: Page) -> Slice[Pipeline]:
    """Pipelines, newest first."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    statement = select(Pipeline).where(seen, Pipeline.deleted_at.is_(None))
    return await paging.fetch(session, Pipeline, statement, Pipeline.id, page)


async def list_revisions(session: Session, pipeline_id: bytes, page: Page) -> Slice[Revision]:
    """The revisions of a pipeline, newest first."""
    statement = select(Revision).where(Revision.pipeline_id == pipeline_id)
    return await paging.fetch(session, Revision, statement, Revision.number, page)


_LATEST = (
    select(Revision)
    .join(Pipeline, (Pipeline.id == Revision.pipeline_id) & (Pipeline.revision == Revision.number))
    .where(Pipeline.id.in_(bindparam("pipelines", expanding=True)))
)


async def latest_revisions(session: Session, pipelines: Collection[bytes]) -> list[Revision]:
    """The latest revision of each of these pipelines."""
    return await session.all(Revision, _LATEST, {"pipelines": list(pipelines)})


async def find_revisions(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Revision]:
    """The revisions of these ids whose pipelines may be seen."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    statement = select(Revision).join(Pipeline, Pipeline.id == Revision.pipeline_id)
    return await session.all(Revision, statement.where(Revision.id.in_(keys), seen))


def _check_description(text: str) -> None:
    if message := manifests.text_refusal(text):
        raise errors.Invalid(message, path=("description",))


async def _lock(session: Transaction, viewer: Viewer, pipeline_id: bytes) -> Pipeline:
    statement = select(Pipeline).where(
        Pipeline.id == pipeline_id, viewers.visible(viewer, Pipeline.project_id)
    )
    pipeline = await session.find(Pipeline, statement.with_for_update(key_share=True))
    if pipeline is None:
        raise errors.NotFound("there is no such pipeline", path=("id",))
    viewers.require_writer(viewer, pipeline.project_id)
    return pipeline


async def _insert_revision(
    session: Transaction,
    viewer: Viewer,
    pipeline_id: bytes,
    number: int,
    steps: Sequence[tuple[StepSpec, list[int], bytes]],
    at: datetime,
) -> None:
    revision_id = ids.new()
    values = {
        "id": revision_id,
        "pipeline_id": pipeline_id,
        "number": number,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(insert(Revision).values(values))
    rows = [
        {"revision_id": revision_id, "position": position, "module_id": module_id, **row_of(step, needs)}
        for position, (step, needs, module_id) in enumerate(steps)
    ]
    await session.execute(insert(Step), rows)
