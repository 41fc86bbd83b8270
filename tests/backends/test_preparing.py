"""Freeing what removed modules left: whoever is away for it keeps nothing else from being done."""

from pathlib import Path
from typing import cast

from backends import base
from backends.errands import Ongoing
from backends.preparing import Preparer
from backends.restoring import Restorer
from backends.tenure import Tenure
from db import installations, modules, preparations, removals
from db.database import Database
from db.installations import Content
from db.manifests import Manifest
from db.wanted import Place
from tests.db.world import HOST, SOURCE, World, function


class Builder:
    """A backend whose images are made by what may be away."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0
        self.discarded: list[str] = []

    async def discard(self, prepared: str) -> None:
        self.asked += 1
        if self.away:
            raise base.BackendUnavailable("the engine that makes images does not answer")
        self.discarded.append(prepared)


async def test_what_cannot_be_freed_now_is_freed_later(database: Database, tmp_path: Path) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        version_id = await installations.install(session, world.viewer, SOURCE)
        content = Content("d" * 64, Manifest("other", functions=(function(),)))
        version = await installations.fetched(session, version_id, content)
        assert version is not None
        await preparations.request(session, version, world.backend.id, HOST)
    async with database.read() as session:
        (wanted,) = await preparations.of_versions(session, [version_id])
    async with database.begin() as session:
        await preparations.finish(session, wanted, "image")
    async with database.read() as session:
        module = await modules.find_module(session, world.viewer, name="other")
    assert module is not None
    async with database.begin() as session:
        await removals.remove(session, world.viewer, module.id)

    builder = Builder()
    preparer = Preparer(
        database,
        tmp_path,
        cast("Restorer", None),  # nothing is fetched here
        cast("base.Backend", builder),
        Place(world.backend.id, world.backend.name, HOST),
        Ongoing(),
        Tenure(world.supervisor, Tenure.asking()),
    )
    for _ in range(3):
        await preparer.step()
    assert builder.asked == 1, "it is not asked at every step"
    async with database.read() as session:
        assert len(await removals.to_free(session, world.backend.id, HOST)) == 1
    builder.away = False
    for each in preparer._freeing.values():
        each.over()  # as time does
    await preparer.step()
    async with database.read() as session:
        assert await removals.to_free(session, world.backend.id, HOST) == []
    assert builder.discarded == ["image"]
    await preparer.close()
