"""Removing modules: what is in use stays, history stays, and only what nobody needs is freed."""

import asyncio
from typing import Any

import pytest

from db import errors, ids, installations, module_versions, modules, pipelines, preparations, removals, starts
from db.database import Database
from db.installations import Content
from db.manifests import Manifest
from db.modules import Module, ModuleVersion
from db.paging import Page
from db.plans import StartSpec
from db.preparations import Preparation
from db.states import PreparationState, RunState
from db.steps import StepSpec
from db.viewers import Kind, Viewer
from tests.db.world import HOST, SOURCE, World, function


async def _module(world: World, name: str = "ml") -> Module | None:
    async with world.database.read() as session:
        return await modules.find_module(session, world.viewer, name=name)


async def _id(world: World, name: str = "ml") -> bytes:
    module = await _module(world, name)
    assert module is not None
    return module.id


async def _remove(world: World, module_id: bytes, **values: Any) -> None:
    async with world.database.begin() as session:
        await removals.remove(session, world.viewer, module_id, **values)


async def _left(world: World) -> list[Preparation]:
    async with world.database.read() as session:
        return await removals.to_free(session, world.backend.id, HOST)


async def _version(world: World, version_id: bytes) -> ModuleVersion:
    async with world.database.read() as session:
        (found,) = await modules.find_versions(session, world.viewer, [version_id])
    return found


async def _install(world: World, digest: str, name: str = "ml", prepared: str | None = "/env") -> bytes:
    """A version of this content; prepared, or being prepared where None."""
    async with world.database.begin() as session:
        version_id = await installations.install(session, world.viewer, SOURCE)
        manifest = Manifest(name, functions=(function(),))
        version = await installations.fetched(session, version_id, Content(digest, manifest))
        assert version is not None
        if version.id == version_id:
            await preparations.request(session, version, world.backend.id, HOST)
    if prepared is not None and version.id == version_id:
        async with world.database.read() as session:
            (wanted,) = await preparations.of_versions(session, [version_id])
        async with world.database.begin() as session:
            await preparations.finish(session, wanted, prepared)
    return version_id


async def test_a_removed_module_leaves_its_history_and_its_name(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.drive()
    old = await _id(world)
    version_id = (await _module(world)).active_version_id  # type: ignore[union-attr]
    assert version_id is not None
    await _remove(world, old, insist=True)
    await _remove(world, old)
    assert await _module(world) is None
    async with database.read() as session:
        assert (await modules.list_modules(session, world.viewer, Page(9))).rows == []
        assert (await modules.list_functions(session, world.viewer, Page(9))).rows == []
        (kept,) = await modules.find_modules(session, world.viewer, [old])
        assert len(await modules.functions_of(session, [version_id])) == 1
    assert (kept.name, kept.removed_at is None) == ("ml", False)
    assert (await world.run(run_id)).state is RunState.SUCCEEDED
    again = await world.install(function())
    assert (await _id(world), (await _version(world, again)).number) != (old, 1)
    assert (await _version(world, again)).number == 1
    await world.start({"a": ()})


@pytest.mark.parametrize("where", ["waiting", "running"])
async def test_a_run_that_has_not_ended_keeps_its_module(database: Database, where: str) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    if where == "running":
        await world.begin((await world.claim())["a"])
    await world.install(function("other"))
    with pytest.raises(errors.Conflict, match=ids.encode("run", run_id)):
        await _remove(world, await _id(world), insist=True)
    assert await _module(world) is not None


async def test_pipelines_are_a_reason_to_refuse_unless_insisted(database: Database) -> None:
    world = await World.make(database)
    await world.draw({"a": ()}, name="first")
    changed = await world.draw({"a": ()}, name="second")
    await world.install(function(), name="nn")
    async with database.begin() as session:
        steps = [StepSpec("a", "nn/step", {})]
        await pipelines.revise(session, world.viewer, changed, steps=steps)
    with pytest.raises(errors.Conflict, match="pipelines use ml: first; insist"):
        await _remove(world, await _id(world))
    await _remove(world, await _id(world), insist=True)


async def test_only_who_may_write_removes_and_only_what_is_there(database: Database) -> None:
    world = await World.make(database)
    module_id = await _id(world)
    stranger = Viewer(Kind.USER, user_id=ids.new())
    async with database.begin() as session:
        for viewer, key in ((stranger, module_id), (world.viewer, ids.new())):
            with pytest.raises(errors.NotFound):
                await removals.remove(session, viewer, key)


async def test_what_nothing_else_needs_is_freed_once(database: Database) -> None:
    world = await World.make(database)
    for digest, name, prepared in (("1", "a", "/x"), ("2", "a", "/y"), ("2", "b", "/x")):
        await _install(world, digest, name, prepared)
    assert await _left(world) == []
    await _remove(world, await _id(world, "a"))
    needless = []
    for preparation in await _left(world):
        async with database.read() as session:
            needless.append(await removals.needless(session, preparation))
        async with database.begin() as session:
            await removals.freed(session, [preparation.id])
    assert needless == [("1", None), (None, "/y")]
    assert await _left(world) == []
    await _remove(world, await _id(world, "b"))
    (last,) = await _left(world)
    async with database.read() as session:
        assert await removals.needless(session, last) == ("2", "/x")


async def test_what_is_being_prepared_is_abandoned_first(database: Database) -> None:
    world = await World.make(database)
    version_id = await _install(world, "1", "a", prepared=None)
    await _remove(world, await _id(world, "a"))
    async with database.read() as session:
        (abandoned,) = await removals.abandoned(session, world.backend.id, HOST)
        assert await preparations.unfinished(session, world.backend.id, HOST) == []
    assert (abandoned.version_id, await _left(world)) == (version_id, [])
    async with database.begin() as session:
        await preparations.fail(session, abandoned, "the module was removed")
    (left,) = await _left(world)
    assert left.state is PreparationState.FAILED


async def test_equal_content_is_the_version_it_was_unless_that_failed(database: Database) -> None:
    world = await World.make(database)
    first, second = await _install(world, "1", "a"), await _install(world, "2", "a")
    again = await _version(world, await _install(world, "1", "a"))
    module = await _module(world, "a")
    assert module is not None
    assert (again.same_as, again.number, module.active_version_id) == (first, None, first)
    async with database.read() as session:
        listed = (await modules.list_versions(session, module.id, Page(9))).rows
    assert [row.id for row in listed] == [second, first]
    failed = await _install(world, "3", "a", prepared=None)
    await world.prepare(failed, failure="no such package")
    tried_again = await _version(world, await _install(world, "3", "a"))
    assert (tried_again.same_as, tried_again.number) == (None, 4)


async def test_what_was_chosen_stays_until_something_newer_is_ready(database: Database) -> None:
    world = await World.make(database)
    first = await _install(world, "1", "a")
    slow = await _install(world, "2", "a", prepared=None)
    await _install(world, "3", "a")
    async with database.begin() as session:
        await module_versions.activate(session, world.viewer, first)
        with pytest.raises(errors.Conflict, match="ready on no backend"):
            await module_versions.activate(session, world.viewer, slow)
    await world.prepare(slow)
    assert (await _module(world, "a")).active_version_id == first  # type: ignore[union-attr]
    newer = await _install(world, "4", "a")
    assert (await _module(world, "a")).active_version_id == newer  # type: ignore[union-attr]


async def test_a_version_of_a_removed_module_is_not_chosen(database: Database) -> None:
    world = await World.make(database)
    version_id = await _install(world, "1", "a")
    await _remove(world, await _id(world, "a"))
    with pytest.raises(errors.Conflict, match="was removed"):
        async with database.begin() as session:
            await module_versions.activate(session, world.viewer, version_id)


async def test_a_start_and_a_removal_at_once_see_each_other(postgresql: Database) -> None:
    world = await World.make(postgresql)
    pipeline_id = await world.draw({"a": ()})
    module_id = await _id(world)

    async def start() -> str:
        async with postgresql.begin() as session:
            await starts.start(session, world.viewer, StartSpec(pipeline_id=pipeline_id, backend="local"))
        return "started"

    async def remove() -> str:
        await _remove(world, module_id, insist=True)
        return "removed"

    results = await asyncio.gather(start(), remove(), return_exceptions=True)
    done = [result for result in results if isinstance(result, str)]
    refused = [result for result in results if isinstance(result, errors.DomainError)]
    assert (len(done), len(refused)) == (1, 1), results


async def test_a_removed_module_is_held_no_more(database: Database) -> None:
    world = await World.make(database)
    version_id = await _install(world, "1", "a")
    async with database.begin() as session:
        await modules.hold(session, [version_id])
    await _remove(world, await _id(world, "a"))
    with pytest.raises(errors.Conflict, match="has been removed"):
        async with database.begin() as session:
            await modules.hold(session, [version_id])
