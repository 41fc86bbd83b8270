"""Which version of a module new runs use: the newest that is ready, or the one that was chosen by hand.

Only a version that is prepared is ever used, so that a failed build leaves the previous one in use.
"""

from sqlalchemy import func, select, update

from db import columns, errors, modules, viewers
from db.database import Transaction
from db.modules import Module, ModuleVersion
from db.viewers import Viewer


async def prepared(session: Transaction, version_id: bytes) -> None:
    """Record that a version is ready somewhere. The first time, it becomes the one that new runs use.

    Unless a later one was ready before. What was chosen by hand stays until something newer is ready.
    """
    at = columns.now()
    first = update(ModuleVersion).where(
        ModuleVersion.id == version_id, ModuleVersion.prepared_at.is_(None), ModuleVersion.number.is_not(None)
    )
    version = await session.find(ModuleVersion, first.values(prepared_at=at).returning(ModuleVersion))
    if version is None:
        return
    latest = (
        select(func.max(ModuleVersion.number))
        .where(ModuleVersion.module_id == version.module_id, ModuleVersion.prepared_at.is_not(None))
        .scalar_subquery()
    )
    ours = update(Module).where(Module.id == version.module_id, latest == version.number)
    await session.execute(ours.values(active_version_id=version_id))


async def activate(session: Transaction, viewer: Viewer, version_id: bytes) -> bytes:
    """Choose the version that new runs use; it must be prepared. A repeat is fine."""
    found = await modules.find_versions(session, viewer, [version_id])
    if not found:
        raise errors.NotFound("there is no such version", path=("id",))
    version = found[0]
    viewers.require_writer(viewer, version.project_id)
    if version.same_as is not None:
        return await activate(session, viewer, version.same_as)
    if version.prepared_at is None:
        raise errors.Conflict("this version is ready on no backend, so no run can use it", path=("id",))
    ours = update(Module).where(Module.id == version.module_id, Module.removed_at.is_(None))
    if not await session.change(ours.values(active_version_id=version_id)):
        raise errors.Conflict("its module was removed", path=("id",))
    return version_id


async def use(session: Transaction, version: ModuleVersion) -> None:
    """Who installs what was installed before wants it used; one that is still being prepared will be."""
    if version.prepared_at is not None:
        ours = update(Module).where(Module.id == version.module_id)
        await session.execute(ours.values(active_version_id=version.id))
