"""Modules, their immutable versions, and the functions a version brings.

An installation is work: `install` records a version in FETCHING, the supervisor fetches and checks it
(`fetched`, `failed`) and prepares it (preparations.py). Only a version that is prepared becomes the active
one, so that a failed build leaves the previous version in use. Old runs keep the version they were given.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint, bindparam, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, feeds, ids, manifests, paging, projects, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.paging import Page, Slice
from db.states import VersionState
from db.viewers import Viewer


class Module(Base):
    """An installed bundle of functions. `versions` counts the numbers given out."""

    __tablename__ = "modules"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    versions: Mapped[int] = mapped_column(Integer, default=0)
    active_version_id: Mapped[bytes | None] = mapped_column(
        Id, ForeignKey("module_versions.id", use_alter=True)
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class ModuleVersion(Base):
    """One state of a module. Until its manifest is read it belongs to no module and has no number."""

    __tablename__ = "module_versions"
    __table_args__ = (UniqueConstraint("module_id", "number"), columns.one_of("state", VersionState))

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    module_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("modules.id"))
    number: Mapped[int | None] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(Text)
    state: Mapped[VersionState] = mapped_column(Choice(VersionState), index=True)
    message: Mapped[str | None] = mapped_column(Text)
    problems: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    manifest: Mapped[dict[str, Any] | None] = mapped_column(Json)
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"), unique=True)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Function(Base):
    """One callable of a version; `spec` is its manifests.Function as JSON."""

    __tablename__ = "functions"
    __table_args__ = (UniqueConstraint("version_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    version_id: Mapped[bytes] = mapped_column(Id, ForeignKey("module_versions.id"))
    module_id: Mapped[bytes] = mapped_column(Id, ForeignKey("modules.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(Json)


async def install(
    session: Transaction, viewer: Viewer, source: str, *, project_id: bytes | None = None
) -> bytes:
    """Record that a module is to be fetched from `source`; returns the new version's id."""
    if not source.strip():
        raise errors.Invalid("say the folder that holds rungraph.yaml", path=("source",))
    if message := manifests.text_refusal(source):
        raise errors.Invalid(message, path=("source",))
    project = await projects.choose(session, viewer, project_id)
    version_id = ids.new()
    head = await feeds.create(session, feeds.Kind.MODULE_VERSION, version_id, project)
    at = columns.now()
    values = {
        "id": version_id,
        "project_id": project,
        "source": source,
        "state": VersionState.FETCHING,
        "problems": [],
        "feed_id": head.id,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(insert(ModuleVersion).values(values))
    head.emit(feeds.Subject.MODULE_VERSION, version_id, at, state=VersionState.FETCHING)
    session.wake()
    return version_id


async def fetched(
    session: Transaction, version_id: bytes, digest: str, manifest: manifests.Manifest
) -> ModuleVersion | None:
    """Record what was fetched: the version joins its module, gets its number, brings its functions.

    None when the version no longer waits for it (recorded before, or given up).
    """
    version = await _lock(session, version_id)
    if version is None or version.state is not VersionState.FETCHING:
        return None
    module_id, number = await _next_number(session, version.project_id, manifest.name)
    changed = (
        update(ModuleVersion)
        .where(ModuleVersion.id == version_id, ModuleVersion.state == VersionState.FETCHING)
        .values(
            module_id=module_id,
            number=number,
            digest=digest,
            state=VersionState.READY,
            manifest=manifests.encode(manifest),
        )
        .returning(ModuleVersion)
    )
    recorded = await session.find(ModuleVersion, changed)
    await _insert_functions(session, module_id, version_id, manifest)
    head = await feeds.lock(session, version.feed_id)
    head.emit(feeds.Subject.MODULE_VERSION, version_id, columns.now(), state=VersionState.READY)
    return recorded


async def failed(
    session: Transaction, version_id: bytes, message: str, problems: Sequence[dict[str, Any]] = ()
) -> None:
    """Record that a version cannot be had, and why; a repeat changes nothing."""
    version = await _lock(session, version_id)
    if version is None or version.state is not VersionState.FETCHING:
        return
    values = {"state": VersionState.FAILED, "message": message, "problems": list(problems)}
    await session.execute(update(ModuleVersion).where(ModuleVersion.id == version_id).values(values))
    head = await feeds.lock(session, version.feed_id)
    head.emit(
        feeds.Subject.MODULE_VERSION, version_id, columns.now(), state=VersionState.FAILED, message=message
    )
    head.end()


async def activate(session: Transaction, version_id: bytes) -> None:
    """Make a prepared version the one that new runs use, unless a later one is already."""
    version = await session.find(ModuleVersion, select(ModuleVersion).where(ModuleVersion.id == version_id))
    assert version is not None and version.number is not None
    earlier = (
        select(ModuleVersion.id)
        .where(ModuleVersion.module_id == version.module_id, ModuleVersion.number < version.number)
        .scalar_subquery()
    )
    await session.execute(
        update(Module)
        .where(
            Module.id == version.module_id,
            Module.active_version_id.is_(None) | Module.active_version_id.in_(earlier),
        )
        .values(active_version_id=version_id)
    )


async def fetching(session: Session) -> list[ModuleVersion]:
    """Versions that wait to be fetched, oldest first."""
    statement = select(ModuleVersion).where(ModuleVersion.state == VersionState.FETCHING)
    return await session.all(ModuleVersion, statement.order_by(ModuleVersion.id))


async def list_modules(session: Session, viewer: Viewer, page: Page) -> Slice[Module]:
    """Installed modules, newest first."""
    statement = select(Module).where(viewers.visible(viewer, Module.project_id))
    return await paging.fetch(session, Module, statement, Module.id, page)


async def find_module(
    session: Session, viewer: Viewer, *, module_id: bytes | None = None, name: str | None = None
) -> Module | None:
    """The module of this id, or of this name in the default project."""
    wanted = (Module.id == module_id) if module_id is not None else (Module.name == name)
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
    statement = select(ModuleVersion).where(ModuleVersion.module_id == module_id)
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
    statement = select(Function).join(Module, active).where(viewers.visible(viewer, Module.project_id))
    if module_id is not None:
        statement = statement.where(Module.id == module_id)
    return await paging.fetch(session, Function, statement, Function.id, page)


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
        Module.name.in_(bindparam("names", expanding=True)),
    )
)


async def addressed(session: Session, project_id: bytes, names: Collection[str]) -> dict[str, Any]:
    """The functions of the named modules' active versions, by address `module/function`."""
    rows = (await session.execute(_ADDRESSED, {"project": project_id, "names": list(names)})).all()
    return {f"{row.module}/{row.name}": row for row in rows}


async def _lock(session: Transaction, version_id: bytes) -> ModuleVersion | None:
    found: int | None = await session.scalar(
        select(ModuleVersion.feed_id).where(ModuleVersion.id == version_id)
    )
    if found is None:
        return None
    await feeds.lock(session, found)
    return await session.find(ModuleVersion, select(ModuleVersion).where(ModuleVersion.id == version_id))


async def _next_number(session: Transaction, project_id: bytes, name: str) -> tuple[bytes, int]:
    """The module of this name, made if need be, and the number of its next version; the row stays locked."""
    counted = (
        update(Module)
        .where(Module.project_id == project_id, Module.name == name)
        .values(versions=Module.versions + 1)
        .returning(Module.id, Module.versions)
    )
    row = (await session.execute(counted)).first()
    if row is None:
        await session.execute(
            columns.insert_once(session.postgresql, Module, ("project_id", "name")),
            {
                "id": ids.new(),
                "project_id": project_id,
                "name": name,
                "versions": 0,
                "created_at": columns.now(),
            },
        )
        row = (await session.execute(counted)).one()
    return row.id, row.versions


async def _insert_functions(
    session: Transaction, module_id: bytes, version_id: bytes, manifest: manifests.Manifest
) -> None:
    encoded = manifests.encode(manifest)["functions"]
    rows = [
        {
            "id": ids.new(),
            "version_id": version_id,
            "module_id": module_id,
            "name": spec["name"],
            "spec": spec,
        }
        for spec in encoded
    ]
    await session.execute(insert(Function), rows)
