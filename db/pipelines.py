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

from db import columns, errors, ids, paging, projects, texts, viewers
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.documents import Document
from db.errors import Problem
from db.paging import Page, Slice
from db.states import TERMINAL_RUN
from db.steps import Step, StepSpec, check_steps, name_problems, row_of, specs_of, steps_of
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
    problems: Sequence[Problem] = (),
) -> bytes:
    """A new pipeline with its first revision; raises Invalid with every mistake, Conflict for a taken name.

    `problems` are what was found wrong in reading it, told along with the rest.
    """
    _check_description(description)
    project = await projects.choose(session, viewer, project_id)
    checked = await check_steps(session, project, name, steps, problems)
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
    problems: Sequence[Problem] = (),
) -> bytes:
    """Change what is given; new steps make a new revision, and what runs or ran keeps its own."""
    _check_description(description or "")
    pipeline = await _lock(session, viewer, pipeline_id)
    number = pipeline.revision
    if steps is not None:
        wanted = pipeline.name if name is None else name
        checked = await check_steps(session, pipeline.project_id, wanted, steps, problems)
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


async def import_(
    session: Transaction,
    viewer: Viewer,
    document: Document,
    *,
    replace: bool = False,
    project_id: bytes | None = None,
    problems: Sequence[Problem] = (),
) -> bytes:
    """A pipeline as its document says: a new one, or with `replace` a new revision of the one of its name."""
    project = await projects.choose(session, viewer, project_id)
    named = (Pipeline.project_id == project) & (Pipeline.name == document.name)
    found = await session.scalar(select(Pipeline.id).where(named, Pipeline.deleted_at.is_(None)))
    if found is None:
        return await create(
            session,
            viewer,
            document.name,
            document.steps,
            description=document.description,
            project_id=project,
            problems=problems,
        )
    if not replace:
        message = f"there is a pipeline named {document.name!r} already: replace it, or give another name"
        raise errors.Conflict(message, path=("name",))
    return await revise(
        session,
        viewer,
        found,
        description=document.description,
        steps=document.steps,
        problems=problems,
    )


async def export(session: Session, viewer: Viewer, revision_id: bytes) -> Document:
    """A revision of a pipeline as a document, under the name that the pipeline has now."""
    (revision,) = await find_revisions(session, viewer, [revision_id])
    (pipeline,) = await find_pipelines(session, viewer, [revision.pipeline_id])
    rows = await steps_of(session, [revision_id])
    return Document(pipeline.name, pipeline.description, tuple(specs_of(rows)))


async def clone(
    session: Transaction,
    viewer: Viewer,
    pipeline_id: bytes,
    name: str,
    *,
    revision_id: bytes | None = None,
    project_id: bytes | None = None,
) -> bytes:
    """A new pipeline with the steps of another, also of a deleted one; of its latest revision or the given."""
    pipeline = await find_pipeline(session, viewer, pipeline_id=pipeline_id)
    if pipeline is None:
        raise errors.NotFound("there is no such pipeline", path=("id",))
    revision = await get_revision(session, viewer, pipeline, revision_id)
    copied = await export(session, viewer, revision.id)
    project = project_id or pipeline.project_id
    return await create(
        session, viewer, name, copied.steps, description=copied.description, project_id=project
    )


async def delete(session: Transaction, viewer: Viewer, pipeline_id: bytes) -> bytes:
    """Take a pipeline out of use: its name is free, its runs and revisions stay as they are.

    Raises Conflict while a run of it has not ended, or a schedule starts it or waits for it.
    """
    pipeline = await _lock(session, viewer, pipeline_id, deleting=True)
    runs, schedules = (Base.metadata.tables[name] for name in ("runs", "schedules"))
    alive = runs.c.deleted_at.is_(None) & runs.c.state.not_in(TERMINAL_RUN)
    run_id = await session.scalar(select(runs.c.id).where(runs.c.pipeline_id == pipeline_id, alive).limit(1))
    if run_id is not None:
        raise errors.Conflict(f"{ids.encode('run', run_id)} of it has not ended", path=("id",))
    used = (schedules.c.pipeline_id == pipeline_id) | (schedules.c.after_pipeline_id == pipeline_id)
    going = select(schedules.c.name).where(used, text("schedules.state <> 'ENDED'"))
    schedule = await session.scalar(going.limit(1))
    if schedule is not None:
        raise errors.Conflict(f"the schedule {schedule!r} uses it: delete that first", path=("id",))
    gone = update(Pipeline).where(Pipeline.id == pipeline.id).values(deleted_at=columns.now())
    await session.execute(gone)
    return pipeline_id


async def hold(session: Transaction, viewer: Viewer, pipeline_id: bytes) -> Pipeline:
    """A pipeline to start a run of, which is not deleted before this transaction has ended."""
    return await get_startable(session, viewer, pipeline_id, holding=True)


async def get_startable(
    session: Session, viewer: Viewer, pipeline_id: bytes, *, holding: bool = False
) -> Pipeline:
    """A pipeline of which this viewer may start a run; raises NotFound or Forbidden."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    wanted = select(Pipeline).where(Pipeline.id == pipeline_id, seen)
    held = wanted.with_for_update(read=True, key_share=True) if holding else wanted
    pipeline = await session.find(Pipeline, held)
    if pipeline is None:
        raise errors.NotFound("there is no such pipeline", path=("pipeline",))
    if pipeline.deleted_at is not None:
        message = f"the pipeline {pipeline.name} was deleted; what is cloned from it can run"
        raise errors.NotFound(message, path=("pipeline",))
    viewers.require_writer(viewer, pipeline.project_id)
    return pipeline


async def get_revision(
    session: Session, viewer: Viewer, pipeline: Pipeline, revision_id: bytes | None
) -> Revision:
    """The revision of this id, or the pipeline's latest; raises NotFound for one of another pipeline."""
    if revision_id is None:
        return (await latest_revisions(session, [pipeline.id]))[0]
    found = await find_revisions(session, viewer, [revision_id])
    if not found or found[0].pipeline_id != pipeline.id:
        raise errors.NotFound("this pipeline has no such revision", path=("revision",))
    return found[0]


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
    if message := texts.refusal(text):
        raise errors.Invalid(message, path=("description",))


async def _lock(
    session: Transaction, viewer: Viewer, pipeline_id: bytes, *, deleting: bool = False
) -> Pipeline:
    """A pipeline to change. Who deletes it waits for whoever is starting a run of it (`hold`)."""
    statement = select(Pipeline).where(
        Pipeline.id == pipeline_id,
        Pipeline.deleted_at.is_(None),
        viewers.visible(viewer, Pipeline.project_id),
    )
    pipeline = await session.find(Pipeline, statement.with_for_update(key_share=not deleting))
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
