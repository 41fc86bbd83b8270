"""Installing: the intent to fetch a module, and what came of it.

An installation is work: `install` records a version in FETCHING, the supervisor fetches and checks it
(`fetched`, `failed`) and prepares it (preparations.py). Content that was installed before stays the version
it is: the new one says which (`same_as`), and brings that one into use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, text, update

from db import columns, errors, feeds, ids, manifests, module_sources, module_versions, projects, viewers
from db.database import Session, Transaction
from db.files import File, FileState
from db.module_sources import Source, SourceKind
from db.modules import Function, Module, ModuleVersion
from db.preparations import Preparation
from db.states import PreparationState, VersionState
from db.viewers import Viewer

_UNPREPARABLE = select(Preparation.version_id).where(Preparation.state == PreparationState.FAILED)


async def install(
    session: Transaction, viewer: Viewer, source: Source, *, project_id: bytes | None = None
) -> bytes:
    """Record that a module is to be fetched from `source`; returns the new version's id."""
    project = await projects.choose(session, viewer, project_id)
    await require_archive(session, viewer, source)
    version_id = ids.new()
    head = await feeds.create(session, feeds.Kind.MODULE_VERSION, version_id, project)
    at = columns.now()
    values: dict[str, Any] = {
        "id": version_id,
        "project_id": project,
        "source": source.location,
        "ref": source.ref,
        "subfolder": source.folder,
        "submodules": source.submodules,
        "wanted_name": source.name,
        "state": VersionState.FETCHING,
        "problems": [],
        "notes": [],
        "feed_id": head.id,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(insert(ModuleVersion).values(values))
    head.emit(feeds.Subject.MODULE_VERSION, version_id, at, state=VersionState.FETCHING)
    session.wake()
    return version_id


async def require_archive(session: Session, viewer: Viewer, source: Source) -> File | None:
    """The uploaded file that a source is; raises NotFound or Conflict where it cannot be read."""
    if source.kind is not SourceKind.FILE:
        return None
    seen = viewers.visible(viewer, File.project_id, File.run_id)
    file = await session.find(File, select(File).where(File.id == source.file_id, seen))
    if file is None:
        raise errors.NotFound(f"there is no file {source.location}", path=("source",))
    if file.state is not FileState.READY:
        raise errors.Conflict(f"{file.name}: its upload is not complete", path=("source",))
    return file


def source_of(version: ModuleVersion) -> Source:
    """What was asked for."""
    return module_sources.parse(
        version.source,
        ref=version.ref,
        folder=version.subfolder,
        submodules=version.submodules,
        name=version.wanted_name,
    )


@dataclass(frozen=True, slots=True)
class Content:
    """What was fetched: content by its digest, the commit it is of, and what of it is worth a word."""

    digest: str
    manifest: manifests.Manifest
    revision: str | None = None
    notes: Sequence[dict[str, Any]] = ()


async def fetched(session: Transaction, version_id: bytes, content: Content) -> ModuleVersion | None:
    """Record what was fetched: the version joins its module, gets its number, brings its functions.

    Returns the version to be prepared: another one where equal content was installed before, unless that
    could not be prepared. None when the version does not wait for this any more.
    """
    version = await _lock(session, version_id)
    if version is None or version.state is not VersionState.FETCHING:
        return None
    module_id = await _lock_module(session, version.project_id, content.manifest.name)
    values: dict[str, Any] = {
        "module_id": module_id,
        "digest": content.digest,
        "revision": content.revision,
        "state": VersionState.READY,
        "manifest": manifests.encode(content.manifest),
        "notes": list(content.notes),
    }
    equal = await _find_equal(session, module_id, content.digest)
    if equal is not None:
        values["same_as"] = equal.id
        await module_versions.use(session, equal)
    else:
        values["number"] = await _next_number(session, module_id)
    changed = update(ModuleVersion).where(ModuleVersion.id == version_id).values(values)
    recorded = await session.find(ModuleVersion, changed.returning(ModuleVersion))
    head = await feeds.lock(session, version.feed_id)
    head.emit(feeds.Subject.MODULE_VERSION, version_id, columns.now(), state=VersionState.READY)
    if equal is not None:
        head.end()
        return equal
    await _insert_functions(session, module_id, version_id, content.manifest)
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


async def fetching(session: Session) -> list[ModuleVersion]:
    """Versions that wait to be fetched, oldest first."""
    statement = select(ModuleVersion).where(ModuleVersion.state == VersionState.FETCHING)
    return await session.all(ModuleVersion, statement.order_by(ModuleVersion.id))


async def of_content(session: Session, digest: str) -> ModuleVersion | None:
    """A version of this content, the latest that was fetched."""
    fetched = (ModuleVersion.digest == digest) & (ModuleVersion.state == VersionState.READY)
    latest = select(ModuleVersion).where(fetched).order_by(ModuleVersion.id.desc()).limit(1)
    return await session.find(ModuleVersion, latest)


async def _lock(session: Transaction, version_id: bytes) -> ModuleVersion | None:
    found: int | None = await session.scalar(
        select(ModuleVersion.feed_id).where(ModuleVersion.id == version_id)
    )
    if found is None:
        return None
    await feeds.lock(session, found)
    return await session.find(ModuleVersion, select(ModuleVersion).where(ModuleVersion.id == version_id))


async def _lock_module(session: Transaction, project_id: bytes, name: str) -> bytes:
    """The module of this name, made if need be; the row stays locked."""
    named = (Module.project_id == project_id) & (Module.name == name) & Module.removed_at.is_(None)
    locked = select(Module.id).where(named).with_for_update(key_share=True)
    found: bytes | None = await session.scalar(locked)
    if found is None:
        values = {
            "id": ids.new(),
            "project_id": project_id,
            "name": name,
            "versions": 0,
            "created_at": columns.now(),
        }
        unique = ("project_id", "name")
        once = columns.insert_once(session.postgresql, Module, unique, text("removed_at IS NULL"))
        await session.execute(once, values)
        found = await session.scalar(locked)
    assert found is not None
    return found


async def _next_number(session: Transaction, module_id: bytes) -> int:
    counted = update(Module).where(Module.id == module_id).values(versions=Module.versions + 1)
    number: int = await session.scalar(counted.returning(Module.versions))
    return number


async def _find_equal(session: Transaction, module_id: bytes, digest: str) -> ModuleVersion | None:
    """The latest version of this content; one that could not be prepared is tried anew as another."""
    equal = select(ModuleVersion).where(
        ModuleVersion.module_id == module_id,
        ModuleVersion.digest == digest,
        ModuleVersion.number.is_not(None),
        ModuleVersion.id.not_in(_UNPREPARABLE),
    )
    return await session.find(ModuleVersion, equal.order_by(ModuleVersion.number.desc()).limit(1))


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
