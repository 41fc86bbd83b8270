"""Secrets: sealed before they are stored, rotated by setting them again, found by name and never by value."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from db import errors, ids, manifests, secrets
from db.database import Database
from db.paging import Page
from db.secrets import Secret
from db.viewers import Kind, Viewer
from tests.db.world import World, function, names

STRANGER = Viewer(Kind.USER, user_id=ids.new(), projects=frozenset())


def seal(context: bytes, value: str) -> bytes:
    """What tells in a test that it was called, with what."""
    return context[:16] + b"|" + context[16:] + b"|" + value[::-1].encode()


async def put(world: World, name: str, value: str = "value", **more: Any) -> bytes:
    async with world.database.begin() as session:
        return await secrets.put(session, world.viewer, name, value, seal, **more)


async def test_a_secret_is_stored_sealed_for_its_project_and_name(database: Database) -> None:
    world = await World.make(database)
    secret_id = await put(world, "TOKEN", "abc")
    async with database.read() as session:
        (row,) = await secrets.find_secrets(session, world.viewer, [secret_id])
    assert row.sealed == world.project_id + b"|TOKEN|cba"
    assert row.updated_by == world.viewer.user_id


async def test_setting_again_rotates(database: Database) -> None:
    world = await World.make(database)
    first = await put(world, "TOKEN", "old")
    assert await put(world, "TOKEN", "new") == first
    async with database.read() as session:
        (row,) = await secrets.find_secrets(session, world.viewer, [first])
    assert row.sealed.endswith(b"wen") and row.updated_at >= row.created_at


async def test_a_secret_set_by_several_at_once_is_one(postgresql: Database) -> None:
    world = await World.make(postgresql)
    assert len(set(await asyncio.gather(*(put(world, "TOKEN", str(n)) for n in range(4))))) == 1


@pytest.mark.parametrize("name", ["", "1A", "a-b", "PATH", "RUNGRAPH_TOKEN", "LD_PRELOAD", "É", "x" * 101])
async def test_a_name_that_no_variable_may_have_is_refused(database: Database, name: str) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await put(world, name, "")
    assert [problem.path for problem in refused.value.problems] == [("name",), ("value",)]


@pytest.mark.parametrize("value", ["", "\0", "\ud800", "x" * (64 << 10) + "x"])
async def test_a_value_that_cannot_be_a_variable_is_refused_without_being_told(
    database: Database, value: str
) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await put(world, "A", value)
    assert not value or value not in str(refused.value)


async def test_only_writers_of_the_project_set_see_and_delete(database: Database) -> None:
    world = await World.make(database)
    secret_id = await put(world, "TOKEN")
    async with database.read() as session:
        assert (await secrets.list_secrets(session, STRANGER, Page(9))).rows == []
        assert await secrets.find_secrets(session, STRANGER, [secret_id]) == []
    with pytest.raises(errors.Forbidden):
        async with database.begin() as session:
            await secrets.put(session, STRANGER, "TOKEN", "x", seal)
    with pytest.raises(errors.Forbidden):
        async with database.begin() as session:
            await secrets.remove(session, STRANGER, "TOKEN")


async def test_a_deleted_secret_is_gone(database: Database) -> None:
    world = await World.make(database)
    await put(world, "TOKEN")
    async with database.begin() as session:
        await secrets.remove(session, world.viewer, "TOKEN")
    with pytest.raises(errors.NotFound):
        async with database.begin() as session:
            await secrets.remove(session, world.viewer, "TOKEN")
    async with database.read() as session:
        assert await session.all(Secret, select(Secret)) == []


async def test_a_launch_gets_what_its_function_names_from_its_own_project(database: Database) -> None:
    world = await World.make(database, function(secrets=("A", "B")), function("other"))
    elsewhere = await world.add_project("elsewhere")
    for name in ("A", "B", "C"):
        await put(world, name, name.lower())
    await put(world, "A", "not this one", project_id=elsewhere)
    await world.start({"a": ()})
    launch = (await world.claim())["a"]
    assert [(one.name, one.value) for one in launch.grant.secrets] == [
        ("A", world.project_id + b"|A|a"),
        ("B", world.project_id + b"|B|b"),
    ]
    assert "|a" not in repr(launch)
    async with database.read() as session:
        used = await secrets.naming(session, [world.project_id])
    assert [(name, address) for _, name, address in used] == [("A", "ml/step"), ("B", "ml/step")]


async def test_a_run_is_not_started_without_the_secrets_it_needs(database: Database) -> None:
    world = await World.make(database, function(secrets=("A", "B")))
    await put(world, "A")
    with pytest.raises(errors.Invalid, match="a: needs the secret B, which is not set"):
        await world.start({"a": ()})


async def test_a_secret_deleted_before_the_launch_is_told_as_missing(database: Database) -> None:
    world = await World.make(database, function(secrets=("A",)))
    await put(world, "A")
    await world.start({"a": ()})
    async with database.begin() as session:
        await secrets.remove(session, world.viewer, "A")
    assert [one.value for one in (await world.claim())["a"].grant.secrets] == [None]


def test_a_function_keeps_the_names_of_its_secrets() -> None:
    manifest = manifests.Manifest("ml", functions=(function(secrets=("A", "B")),))
    assert manifests.decode(manifests.encode(manifest)) == manifest
    assert names(manifest.functions) == ["step"]
