"""Modules, their immutable versions, and the functions a version brings: the tables, and reading them.

How a version comes is in installations.py, which one is used in module_versions.py, how a module goes in
removals.py. Old runs keep the version they were given, whatever becomes of its module.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    bindparam,
    false,
    select,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, paging, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.paging import Page, Slice
from db.states import VersionState
from db.viewers import Viewer


class Module(Base):
    """An installed bundle of functions. `versions` counts the numbers given out.

    A removed one stays for what refers to it; its name is free for another.
    """

    __tablename__ = "modules"
    __table_args__ = (
        Index(
            "ix_modules_project_id_name",
            "project_id",
            "name",
            unique=True,
            sqlite_where=text("removed_at IS NULL"),
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    versions: Mapped[int] = mapped_column(Integer, default=0)
    active_version_id: Mapped[bytes | None] = mapped_column(
        Id, ForeignKey("module_versions.id", use_alter=True)
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    removed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class ModuleVersion(Base):
    """One state of a module. Until its manifest is read it belongs to no module and has no number.

    `source`, `ref`, `subfolder`, `submodules` and `wanted_name` are what was asked for, `revision` the commit
    that it was. One whose content was installed before is READY without a number, and says by `same_as` which
    version it is. `prepared_at` is when it was first ready on any backend.
    """

    __tablename__ = "module_versions"
    __table_args__ = (UniqueConstraint("module_id", "number"), columns.one_of("state", VersionState))

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    module_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("modules.id"))
    number: Mapped[int | None] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(Text)
    ref: Mapped[str | None] = mapped_column(Text)
    subfolder: Mapped[str | None] = mapped_column(Text)
    submodules: Mapped[bool] = mapped_column(Boolean, server_default=false())
    wanted_name: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)
    same_as: Mapped[bytes | None] = mapped_column(Id, ForeignKey("module_versions.id"))
    digest: Mapped[str | None] = mapped_column(Text)
    state: Mapped[VersionState] = mapped_column(Choice(VersionState), index=True)
    message: Mapped[str | None] = mapped_column(Text)
    problems: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    notes: Mapped[list[dict[str, Any]]] = mapped_column(Json, server_default="[]")
    manifest: Mapped[dict[str, Any] | None] = mapped_column(Json)
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"), unique=True)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    prepared_at: Mapped[datetime | None] = mapped_column(Timestamp)


class Function(Base):
    """One callable of a version; `spec` is its manifests.Function as JSON."""

    __tablename__ = "functions"
    __table_args__ = (UniqueConstraint("version_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    version_id: Mapped[bytes] = mapped_column(Id, ForeignKey("module_versions.id"))
    module_id: Mapped[bytes] = mapped_column(Id, ForeignKey("modules.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(Json)


async def list_modules(session: Session, viewer: Viewer, page: Page) -> Slice[Module]:
    """Installed modules, newest first."""
    statement = select(Module).where(viewers.visible(viewer, Module.project_id), Module.removed_at.is_(None))
    return await paging.fetch(session, Module, statement, Module.id, page)


async def find_module(
    session: Session, viewer: Viewer, *, module_id: bytes | None = None, name: str | None = None
) -> Module | None:
    """The module of this id, even a removed one, or the one of this name."""
    wanted = (
        (Module.id == module_id)
        if module_id is not None
        else (Module.name == name) & Module.removed_at.is_(None)
    )
    statement = select(Module).where(wanted, viewers.visible(viewer, Module.project_id)).limit(1)
    return await session.find(Module, statement)


async def find_modules(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Module]:
    """The modules of these ids that may be seen."""
    seen = viewers.visible(viewer, Module.project_id)
    return await session.all(Module, select(Module).where(Module.id.in_(keys), seen))


async def find_versions(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[ModuleVersion]:
    """The versions of these ids that may be seen."""
    seen = viewers.visible(viewer, ModuleVersion.project_id)
    return await session.all(ModuleVersion, select(ModuleVersion).where(ModuleVersion.id.in_(keys), seen))


async def list_versions(session: Session, module_id: bytes, page: Page) -> Slice[ModuleVersion]:
    """The versions of a module, newest first."""
    statement = select(ModuleVersion).where(
        ModuleVersion.module_id == module_id, ModuleVersion.number.is_not(None)
    )
    return await paging.fetch(session, ModuleVersion, statement, ModuleVersion.number, page)


async def find_functions(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Function]:
    """The functions of these ids that may be seen."""
    seen = viewers.visible(viewer, Module.project_id)
    statement = select(Function).join(Module, Module.id == Function.module_id)
    return await session.all(Function, statement.where(Function.id.in_(keys), seen))


async def functions_of(session: Session, versions: Collection[bytes]) -> list[Function]:
    """The functions of these versions, in the order their manifests name them."""
    statement = select(Function).where(Function.version_id.in_(versions)).order_by(Function.id)
    return await session.all(Function, statement)


async def active_functions(session: Session, keys: Collection[bytes]) -> list[Function]:
    """The functions of these modules' active versions."""
    active = Module.active_version_id == Function.version_id
    statement = select(Function).join(Module, active).where(Module.id.in_(keys))
    return await session.all(Function, statement)


async def list_functions(
    session: Session, viewer: Viewer, page: Page, *, module_id: bytes | None = None
) -> Slice[Function]:
    """The functions of active versions, newest first; of one module if asked."""
    active = Module.active_version_id == Function.version_id
    statement = select(Function).join(Module, active)
    statement = statement.where(viewers.visible(viewer, Module.project_id), Module.removed_at.is_(None))
    if module_id is not None:
        statement = statement.where(Module.id == module_id)
    return await paging.fetch(session, Function, statement, Function.id, page)


async def hold(session: Transaction, versions: Collection[bytes]) -> None:
    """Keep the modules of these versions from being removed until the commit; Conflict for one that was."""
    of_them = select(ModuleVersion.module_id).where(ModuleVersion.id.in_(versions))
    held = select(Module.name, Module.removed_at).where(Module.id.in_(of_them)).order_by(Module.id)
    locked = held.with_for_update(read=True, key_share=True)
    for row in (await session.execute(locked)).all():
        if row.removed_at is not None:
            raise errors.Conflict(f"the module {row.name!r} has been removed")


_ADDRESSED = (
    select(
        Module.name.label("module"),
        Module.id.label("module_id"),
        Function.id,
        Function.version_id,
        Function.name,
        Function.spec,
    )
    .join(Function, Module.active_version_id == Function.version_id)
    .where(
        Module.project_id == bindparam("project"),
        Module.removed_at.is_(None),
        Module.name.in_(bindparam("names", expanding=True)),
    )
)


async def addressed(session: Session, project_id: bytes, names: Collection[str]) -> dict[str, Any]:
    """The functions of the named modules' active versions, by address `module/function`."""
    rows = (await session.execute(_ADDRESSED, {"project": project_id, "names": list(names)})).all()
    return {f"{row.module}/{row.name}": row for row in rows}
