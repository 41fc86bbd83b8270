"""A module's content on a host that has not fetched it: fetched again, if it still is what it was."""

import subprocess
from pathlib import Path

import pytest

from backends import sources
from backends.blobs import Blobs
from backends.restoring import Restorer
from backends.sources import SourceInvalid
from db import installations, manifests, module_sources
from db.database import Database
from db.installations import Content
from tests.db.world import World, function

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


async def _installed(world: World, source: module_sources.Source, digest: str, revision: str | None) -> None:
    """Have a version of this content been fetched, by somebody else."""
    manifest = manifests.Manifest("there", functions=(function(),))
    async with world.database.begin() as session:
        version_id = await installations.install(session, world.viewer, source)
        await installations.fetched(session, version_id, Content(digest, manifest, revision))


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "rungraph.yaml").write_text("name: there\nfunctions: {step: {command: [true]}}\n")
    return folder


async def test_a_folder_that_is_what_it_was_is_fetched_again(
    database: Database, tmp_path: Path, module: Path
) -> None:
    world = await World.make(database)
    fetched = await sources.fetch(str(module), tmp_path / "elsewhere")
    await _installed(world, module_sources.parse(str(module)), fetched.digest, None)
    restorer = Restorer(database, tmp_path / "store", Blobs(tmp_path / "files"))
    path = await restorer.ensure(fetched.digest)
    assert path == tmp_path / "store" / fetched.digest
    assert (path / "rungraph.yaml").read_text() == (module / "rungraph.yaml").read_text()
    (module / "rungraph.yaml").write_text("name: other")
    assert await restorer.ensure(fetched.digest) == path  # it is here


async def test_of_git_the_very_commit_is_fetched_though_its_branch_has_gone_on(
    database: Database, tmp_path: Path, module: Path
) -> None:
    world = await World.make(database)
    _git(module, "init", "-q")
    _git(module, "add", ".")
    _git(module, "commit", "-qm", "first")
    commit = _git(module, "rev-parse", "HEAD")
    bare = tmp_path / "bare"
    fetched = await sources.fetch(str(module), tmp_path / "elsewhere")
    (module / "rungraph.yaml").write_text("name: later")
    _git(module, "commit", "-qam", "second")
    _git(tmp_path, "clone", "-q", "--bare", str(module), str(bare))
    source = module_sources.parse(f"git+file://{bare}", ref="main")
    await _installed(world, source, fetched.digest, commit)
    restorer = Restorer(database, tmp_path / "store", Blobs(tmp_path / "files"))
    path = await restorer.ensure(fetched.digest)
    assert (path / "rungraph.yaml").read_text().startswith("name: there")


async def test_what_has_changed_or_gone_since_is_told(
    database: Database, tmp_path: Path, module: Path
) -> None:
    world = await World.make(database)
    fetched = await sources.fetch(str(module), tmp_path / "elsewhere")
    await _installed(world, module_sources.parse(str(module)), fetched.digest, None)
    restorer = Restorer(database, tmp_path / "store", Blobs(tmp_path / "files"))
    (module / "rungraph.yaml").write_text("name: other")
    with pytest.raises(SourceInvalid, match="its source is not what it was: install it again"):
        await restorer.ensure(fetched.digest)
    (module / "rungraph.yaml").unlink()
    module.rmdir()
    with pytest.raises(SourceInvalid, match="is not on this host, and cannot be fetched again: "):
        await restorer.ensure(fetched.digest)
    with pytest.raises(SourceInvalid, match="nobody knows where"):
        await restorer.ensure("0" * 64)
