"""Removing a module: its name is free at once, its history stays, its content is freed by the supervisor.

Refused while a run that has not ended uses one of its versions. Pipelines that use it are a reason to refuse
too, unless the caller insists: their steps then find no function until a module of that name has one again.
What lies on disk is freed as work: `removed_at` is the intent, the installer's effect comes after it, and
`freed` after that, so that a crash in between only repeats it. What another version needs stays.
"""

from collections.abc import Collection

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.orm import aliased

from db import columns, errors, ids, viewers
from db.database import Session, Transaction
from db.jobs import Job
from db.modules import Module, ModuleVersion
from db.pipelines import Pipeline, Revision
from db.preparations import UNFINISHED, Preparation
from db.runs import Run
from db.states import TERMINAL_RUN
from db.steps import Step
from db.viewers import Viewer

_NAMED = 5


async def remove(session: Transaction, viewer: Viewer, module_id: bytes, *, insist: bool = False) -> bytes:
    """Remove a module; a repeat is fine. Raises NotFound, Forbidden, or Conflict with what uses it."""
    seen = viewers.visible(viewer, Module.project_id)
    # Whoever starts a run holds the row too (modules.hold): one of the two sees the other.
    locked = select(Module).where(Module.id == module_id, seen).with_for_update()
    module = await session.find(Module, locked)
    if module is None:
        raise errors.NotFound("there is no such module", path=("id",))
    viewers.require_writer(viewer, module.project_id)
    if module.removed_at is not None:
        return module_id
    if running := await _running(session, module_id):
        message = f"runs that have not ended use {module.name}: {_listed(running)}"
        raise errors.Conflict(message, path=("id",))
    drawn = await pipelines_using(session, module_id)
    if drawn and not insist:
        message = f"pipelines use {module.name}: {_listed(drawn)}; insist to remove it nevertheless"
        raise errors.Conflict(message, path=("id",))
    gone = update(Module).where(Module.id == module_id, Module.removed_at.is_(None))
    await session.execute(gone.values(removed_at=columns.now()))
    session.wake()
    return module_id


async def pipelines_using(session: Session, module_id: bytes) -> list[str]:
    """The names of the pipelines whose latest revision has a step of this module, in order."""
    latest = (Revision.pipeline_id == Pipeline.id) & (Revision.number == Pipeline.revision)
    statement = (
        select(Pipeline.name)
        .join(Revision, latest)
        .join(Step, Step.revision_id == Revision.id)
        .where(Step.module_id == module_id, Pipeline.deleted_at.is_(None))
        .distinct()
        .order_by(Pipeline.name)
        .limit(_NAMED + 1)
    )
    return list((await session.execute(statement)).scalars())


_OF_REMOVED = (
    select(Preparation)
    .join(ModuleVersion, ModuleVersion.id == Preparation.version_id)
    .join(Module, Module.id == ModuleVersion.module_id)
    .where(
        Preparation.backend_id == bindparam("backend"),
        Preparation.host == bindparam("host"),
        Module.removed_at.is_not(None),
    )
)
_ABANDONED = _OF_REMOVED.where(Preparation.state.in_(UNFINISHED))
_TO_FREE = _OF_REMOVED.where(Preparation.state.not_in(UNFINISHED), Preparation.freed_at.is_(None)).order_by(
    Preparation.id
)


async def abandoned(session: Session, backend_id: bytes, host: str) -> list[Preparation]:
    """Preparations under way here of modules that were removed meanwhile."""
    return await session.all(Preparation, _ABANDONED, {"backend": backend_id, "host": host})


async def to_free(session: Session, backend_id: bytes, host: str) -> list[Preparation]:
    """What removed modules have left here, oldest first."""
    return await session.all(Preparation, _TO_FREE, {"backend": backend_id, "host": host})


async def needless(session: Session, preparation: Preparation) -> tuple[str | None, str | None]:
    """The digest of the content, and what was prepared, that nothing else here needs; None for what is needed."""
    digest = await session.scalar(
        select(ModuleVersion.digest).where(ModuleVersion.id == preparation.version_id)
    )
    live = (Module.id == ModuleVersion.module_id) & Module.removed_at.is_(None)
    content = exists().where(ModuleVersion.digest == digest, live)
    other = aliased(Preparation)
    beside = (other.backend_id == preparation.backend_id) & (other.host == preparation.host)
    made = exists().where(
        beside, other.prepared == preparation.prepared, other.version_id == ModuleVersion.id, live
    )
    kept = (await session.execute(select(content.label("content"), made.label("made")))).one()
    return (None if kept.content else digest), (None if kept.made else preparation.prepared or None)


async def freed(session: Transaction, keys: Collection[bytes]) -> None:
    """Record that nothing is left of these preparations."""
    ours = update(Preparation).where(Preparation.id.in_(keys), Preparation.freed_at.is_(None))
    await session.execute(ours.values(freed_at=columns.now()))


async def _running(session: Session, module_id: bytes) -> list[str]:
    """The ids of the runs that have not ended and use a version of this module."""
    versions = select(ModuleVersion.id).where(ModuleVersion.module_id == module_id)
    used = exists().where(Job.run_id == Run.id, Job.version_id.in_(versions))
    statement = select(Run.id).where(Run.state.not_in(TERMINAL_RUN), used).order_by(Run.id).limit(_NAMED + 1)
    return [ids.encode("run", key) for key in (await session.execute(statement)).scalars()]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
