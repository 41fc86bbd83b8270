"""Modules: versions are numbered as they are fetched, and only a prepared one comes into use."""

import asyncio

import pytest

from db import feeds, installations, manifests, modules, preparations
from db.database import Database
from db.installations import Content
from db.modules import Module, ModuleVersion
from db.paging import Page
from db.preparations import Preparation
from db.states import PreparationState, VersionState
from tests.db.world import HOST, World, function, names


async def _module(world: World) -> Module:
    async with world.database.read() as session:
        found = await modules.find_module(session, world.viewer, name="ml")
    assert found is not None
    return found


async def _version(world: World, version_id: bytes) -> ModuleVersion:
    async with world.database.read() as session:
        (found,) = await modules.find_versions(session, world.viewer, [version_id])
    return found


async def _told(world: World, version_id: bytes) -> tuple[list[str], bool]:
    """What a version's feed says, and whether it has ended."""
    version = await _version(world, version_id)
    async with world.database.read() as session:
        head = await feeds.head(session, version.feed_id)
        told = await feeds.events(session, version.feed_id, 0)
    assert head is not None
    return [f"{event.subject.value} {event.data['state']}" for event in told], head.ended


async def _functions(world: World) -> list[str]:
    async with world.database.read() as session:
        return names((await modules.list_functions(session, world.viewer, Page(50))).rows)


async def test_an_installation_goes_from_fetching_to_the_active_version(database: Database) -> None:
    world = await World.make(database)
    version_id = await world.request()
    waiting = await _version(world, version_id)
    assert (waiting.state, waiting.module_id, waiting.number) == (VersionState.FETCHING, None, None)
    async with database.read() as session:
        assert [row.id for row in await installations.fetching(session)] == [version_id]
    await world.fetch(version_id, function("train"), function("test"))
    assert (await _module(world)).active_version_id != version_id
    await world.prepare(version_id)
    assert (await _module(world)).active_version_id == version_id
    assert await _functions(world) == ["test", "train"]
    assert await _told(world, version_id) == (
        [
            "MODULE_VERSION FETCHING",
            "MODULE_VERSION READY",
            "PREPARATION PENDING",
            "PREPARATION BUILDING",
            "PREPARATION READY",
        ],
        True,
    )


async def test_installing_again_makes_a_new_version(database: Database) -> None:
    world = await World.make(database)
    first = (await _module(world)).active_version_id
    second = await world.install(function("other"))
    module = await _module(world)
    assert (module.active_version_id, module.versions) == (second, 2)
    async with database.read() as session:
        versions = (await modules.list_versions(session, module.id, Page(9))).rows
    assert [(version.id, version.number) for version in versions] == [(second, 2), (first, 1)]
    assert await _functions(world) == ["other"]


async def test_a_failed_build_leaves_the_previous_version_active(database: Database) -> None:
    world = await World.make(database)
    before = (await _module(world)).active_version_id
    version_id = await world.request()
    await world.fetch(version_id, function("new"))
    await world.prepare(version_id, failure="no such package")
    assert (await _module(world)).active_version_id == before
    async with database.read() as session:
        (failed,) = await preparations.of_versions(session, [version_id])
    assert (failed.state, failed.message) == (PreparationState.FAILED, "no such package")
    assert await _functions(world) == ["step"]
    assert (await _told(world, version_id))[1]


async def test_what_cannot_be_fetched_says_why_and_joins_no_module(database: Database) -> None:
    world = await World.make(database)
    version_id = await world.request()
    problems = [{"path": ["functions", 0], "message": "is no function"}]
    for message in ("rungraph.yaml has mistakes", "something else"):
        async with database.begin() as session:
            await installations.failed(session, version_id, message, problems)
    version = await _version(world, version_id)
    assert (version.state, version.message) == (VersionState.FAILED, "rungraph.yaml has mistakes")
    assert (version.problems, version.module_id) == (problems, None)
    assert (await _module(world)).versions == 1
    assert await _told(world, version_id) == (["MODULE_VERSION FETCHING", "MODULE_VERSION FAILED"], True)


async def test_what_was_fetched_is_recorded_once(database: Database) -> None:
    world = await World.make(database)
    version_id = await world.request()
    await world.fetch(version_id, function("one"))
    async with database.begin() as session:
        manifest = manifests.Manifest("ml", functions=(function("two"),))
        assert await installations.fetched(session, version_id, Content("other", manifest)) is None
        await installations.failed(session, version_id, "too late")
    assert (await _version(world, version_id)).state is VersionState.READY
    assert (await _module(world)).versions == 2


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_the_later_of_two_installations_ends_active_in_whatever_order_they_finish(
    database: Database, order: list[int]
) -> None:
    world = await World.make(database)
    versions = [await world.request(), await world.request()]
    for version_id in versions:
        await world.fetch(version_id, function())
    for index in order:
        await world.prepare(versions[index])
    assert (await _module(world)).active_version_id == versions[1]


async def test_two_first_versions_of_a_module_fetched_at_once_are_numbered_apart(database: Database) -> None:
    world = await World.make(database)
    versions = [await world.request() for _ in range(4)]
    await asyncio.gather(*(world.fetch(version_id, function(), name="new") for version_id in versions))
    numbers = {(await _version(world, version_id)).number for version_id in versions}
    assert numbers == {1, 2, 3, 4}


async def test_a_preparation_is_asked_for_once_however_often(database: Database) -> None:
    world = await World.make(database)
    version_id = await world.request()
    await world.fetch(version_id, function())
    version = await _version(world, version_id)

    async def ask() -> None:
        async with database.begin() as session:
            await preparations.request(session, version, world.backend.id, HOST)

    await asyncio.gather(ask(), ask())
    async with database.read() as session:
        wanted = await preparations.unfinished(session, world.backend.id, HOST)
    assert [row.version_id for row in wanted] == [version_id]


async def test_a_versions_feed_goes_on_until_its_last_preparation_has_ended(database: Database) -> None:
    world = await World.make(database)
    version_id = await world.request()
    await world.fetch(version_id, function())
    version = await _version(world, version_id)
    async with database.begin() as session:
        await preparations.request(session, version, world.backend.id, "there")
    async with database.read() as session:
        wanted = await preparations.of_versions(session, [version_id])
    assert [await _finished(world, row, version_id) for row in wanted] == [False, True]


async def _finished(world: World, wanted: Preparation, version_id: bytes) -> bool:
    async with world.database.begin() as session:
        await preparations.finish(session, wanted, "/environments/ml")
    return (await _told(world, version_id))[1]


async def test_a_preparation_that_has_ended_does_not_begin_again(database: Database) -> None:
    world = await World.make(database)
    version_id = (await _module(world)).active_version_id
    assert version_id is not None
    await world.prepare(version_id, failure="too late")
    async with database.read() as session:
        (row,) = await preparations.of_versions(session, [version_id])
    assert (row.state, row.message) == (PreparationState.READY, None)
