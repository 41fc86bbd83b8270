"""Fetching modules where there are several replicas: one of them does it, and another one when that is gone."""

import subprocess
from pathlib import Path

import pytest

from backends import alone, installing
from backends.blobs import Blobs
from backends.installing import Fetcher
from db import installations, leases, logs, module_sources, modules
from db.database import Database
from db.modules import ModuleVersion
from db.states import VersionState
from tests.backends.grounds import eventually
from tests.db.world import HOST, World

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


@pytest.fixture
def source(tmp_path: Path) -> module_sources.Source:
    """A repository, whose fetching tells some lines."""
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "rungraph.yaml").write_text("name: there\nfunctions: {step: {command: [a]}}\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True)
    return module_sources.parse(f"git+file://{folder}")


async def _install(world: World, source: module_sources.Source) -> bytes:
    async with world.database.begin() as session:
        return await installations.install(session, world.viewer, source)


async def _fetched(world: World, version_id: bytes) -> ModuleVersion:
    async def ready() -> ModuleVersion | None:
        async with world.database.read() as session:
            (version,) = await modules.find_versions(session, world.viewer, [version_id])
        assert version.state is not VersionState.FAILED, version.message
        return version if version.state is VersionState.READY else None

    found = await eventually(ready)
    assert found is not None
    return found


def _fetcher(world: World, folder: Path, name: str) -> Fetcher:
    made = Fetcher(world.database, folder / name, Blobs(folder / "files"), name)
    made.open(world.backend.id, HOST)
    return made


async def test_of_several_replicas_one_fetches_a_module(
    database: Database, tmp_path: Path, source: module_sources.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "STAND_BY_SECONDS", 0.02)
    await database.bus.open()
    world = await World.make(database)
    fetchers = [_fetcher(world, tmp_path, name) for name in "abc"]
    version = await _fetched(world, await _install(world, source))
    for each in fetchers:
        await each.close()
    async with database.read() as session:
        batches = await logs.since(session, version.feed_id, 0)
    lines = [line.line.text for batch in batches for line in batch.lines]
    assert len(lines) == len(set(lines)) >= 2
    assert len(list(tmp_path.glob(f"[abc]/{version.digest}"))) == 1


async def test_what_a_replica_that_died_was_fetching_is_fetched_by_another(
    database: Database, tmp_path: Path, source: module_sources.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "STAND_BY_SECONDS", 0.02)
    await database.bus.open()
    world = await World.make(database)
    async with database.begin() as session:
        dead = await leases.take(session, installing.LEASE, "dead")
    assert dead is not None
    version_id = await _install(world, source)
    alive = _fetcher(world, tmp_path, "alive")
    async with database.begin() as session:
        await leases.release(session, dead)  # as time does
    await _fetched(world, version_id)
    await alive.close()
