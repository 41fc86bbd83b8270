"""Limits: how much a project or a tag may have at once, whoever claims and for which backend."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from db import admission, backends, claims, edits, errors, leases, limits, preparations
from db.database import Database
from db.edits import Edit
from db.limits import LimitSpec
from db.modules import ModuleVersion
from db.paging import Page
from db.resources import StepResources
from db.states import JobState
from db.viewers import Kind, Viewer
from tests.db.interleaving import until_somebody_waits
from tests.db.world import GIB, HOST, World


async def put(world: World, viewer: Viewer | None = None, **values: Any) -> bytes:
    """Set a limit, of the default project unless it says another."""
    spec = LimitSpec(**{"project_id": world.project_id, **values})
    async with world.database.begin() as session:
        return await limits.put(session, viewer or world.viewer, spec)


async def lift(world: World, limit_id: bytes) -> None:
    async with world.database.begin() as session:
        await limits.remove(session, world.viewer, limit_id)


async def second_backend(world: World) -> World:
    """The same world as seen from another backend, `other`, with all that is installed ready on it."""
    row = {name: getattr(world.backend, name) for name in ("kind", "scope", "config", *admission.AMOUNTS)}
    async with world.database.begin() as session:
        lease = await leases.take(session, "other", HOST)
        assert lease is not None
        backend = await backends.configure(session, lease, {"name": "other", **row})
        for version in await session.all(ModuleVersion, select(ModuleVersion)):
            await preparations.request(session, version, backend.id, HOST)
        for wanted in await preparations.unfinished(session, backend.id, HOST):
            await preparations.finish(session, wanted, "/environments/ml")
    return replace(world, supervisor=lease, backend=backend)


def wide(count: int, name: str = "s") -> dict[str, tuple[str, ...]]:
    return {f"{name}{number}": () for number in range(count)}


@pytest.mark.parametrize(
    ("bound", "asked", "fit"),
    [
        ({"jobs": 2}, {"workers": 3}, 2),
        ({"slots": 5}, {"workers": 2}, 2),
        ({"cpus": 4.0}, {"cpus": 1.5}, 2),
        ({"memory_bytes": 5 * GIB}, {"memory_bytes": 2 * GIB, "workers": 2}, 1),
        ({"gpus": 3}, {"gpus": 1}, 3),
        ({"jobs": 3, "gpus": 2}, {"gpus": 1}, 2),
        ({"jobs": 0}, {}, 0),
        ({"gpus": 0}, {}, 4),
    ],
)
async def test_a_project_has_no_more_than_its_quota(
    database: Database, bound: dict[str, Any], asked: dict[str, Any], fit: int
) -> None:
    world = await World.make(database, gpus=8)
    limit_id = await put(world, **bound)
    steps = wide(4)
    await world.start(steps, resources=[StepResources(step, **asked) for step in steps])
    claimed = await world.claim()
    assert len(claimed) == fit
    assert await world.claim() == {}
    if claimed and fit < 4:
        await world.end(next(iter(claimed.values())))
        assert len(await world.claim()) == 1
    await lift(world, limit_id)
    await world.claim()
    assert await world.claim() == {}


async def test_a_quota_is_one_projects_alone(database: Database) -> None:
    world = await World.make(database)
    other = await world.add_project("other")
    await put(world, jobs=1)
    mine = await world.start(wide(2))
    theirs = await world.start(await world.draw(wide(2), project_id=other))
    assert Counter(run for run, _ in await world.claim_all()) == {mine: 1, theirs: 2}


async def test_a_limit_of_a_tag_counts_only_what_has_it(database: Database) -> None:
    world = await World.make(database)
    await put(world, tag_name="model", tag_value="large", jobs=1)
    runs = {
        tags: await world.start(wide(2), tags=list(tags))
        for tags in ((("model", "large"),), (("model", "small"),), (), (("model", "large"), ("n", "2")))
    }
    claimed = Counter(run for run, _ in await world.claim_all())
    large, small, plain, another = runs.values()
    assert claimed == {large: 1, small: 2, plain: 2}
    assert another not in claimed


async def test_without_a_value_each_value_counts_by_itself(database: Database) -> None:
    world = await World.make(database)
    await put(world, tag_name="user", jobs=2)
    anna, bert = [await world.start(wide(3), tags=[("user", name)]) for name in ("anna", "bert")]
    nobody = await world.start(wide(3))
    assert Counter(run for run, _ in await world.claim_all()) == {anna: 2, bert: 2, nobody: 3}


async def test_a_limit_of_all_projects_counts_them_together(database: Database) -> None:
    world = await World.make(database)
    other = await world.add_project("other")
    await put(world, project_id=None, tag_name="licence", tag_value="x", jobs=3)
    tags = [("licence", "x")]
    await world.start(wide(3), tags=tags)
    await world.start(await world.draw(wide(3), project_id=other), tags=tags)
    assert len(await world.claim_all()) == 3


async def test_a_limit_holds_from_when_it_is_set_also_for_what_waits(database: Database) -> None:
    world = await World.make(database)
    first = await world.start(wide(3), tags=[("model", "large")])
    other = await world.start(wide(2), tags=[("model", "small")])
    limit_id = await put(world, tag_name="model", tag_value="large", jobs=0)
    assert Counter(run for run, _ in await world.claim_all()) == {other: 2}
    assert await put(world, tag_name="model", tag_value="large", jobs=2) == limit_id
    assert Counter(run for run, _ in await world.claim_all()) == {first: 2}


async def test_tags_that_are_edited_count_from_then_on(database: Database) -> None:
    world = await World.make(database)
    await put(world, tag_name="model", tag_value="large", jobs=0)
    held = await world.start(wide(1), tags=[("model", "large")])
    free = await world.start(wide(1))
    async with database.begin() as session:
        await edits.edit(session, world.viewer, held, Edit(tags_removed=["model"]))
        await edits.edit(session, world.viewer, free, Edit(tags_set=[("model", "large")]))
    assert [run for run, _ in await world.claim_all()] == [held]


async def test_a_limit_of_one_backend_leaves_the_others_alone(database: Database) -> None:
    world = await World.make(database)
    other = await second_backend(world)
    await put(world, backend_id=world.backend.id, jobs=1)
    await world.start(wide(3))
    await world.start(wide(3), backend="other")
    assert (len(await world.claim()), len(await other.claim())) == (1, 3)


async def test_a_limit_of_all_backends_is_theirs_together(database: Database) -> None:
    world = await World.make(database)
    other = await second_backend(world)
    await put(world, jobs=4)
    await world.start(wide(3))
    await world.start(wide(3), backend="other")
    assert (len(await world.claim()), len(await other.claim())) == (3, 1)


@pytest.mark.parametrize("bound", [{"jobs": 1}, {"tag_name": "user", "jobs": 1}])
async def test_claimers_of_two_backends_do_not_exceed_a_limit_together(
    postgresql: Database, bound: dict[str, Any]
) -> None:
    world = await World.make(postgresql)
    other = await second_backend(world)
    await put(world, **bound)
    tags = [("user", "anna")]
    await world.start(wide(2), tags=tags)
    await world.start(wide(2), tags=tags, backend="other")
    async with postgresql.begin() as session:
        claimed = await claims.claim(session, world.supervisor, world.backend.id, HOST)
        second = asyncio.create_task(other.claim())
        await until_somebody_waits(postgresql)
    assert (len(claimed), await second) == (1, {})


async def test_many_claimers_of_two_backends_never_exceed_a_limit(database: Database) -> None:
    world = await World.make(database)
    other = await second_backend(world)
    await put(world, jobs=3)
    await world.start(wide(6))
    await world.start(wide(6), backend="other")
    ended = 0
    while ended < 12:
        claimers = (world, other) * 3
        found = await asyncio.gather(*(one.claim(most=2) for one in claimers))
        launched = [
            (one, launch) for one, part in zip(claimers, found, strict=True) for launch in part.values()
        ]
        assert 1 <= len(launched) <= 3
        await asyncio.gather(*(one.end(launch) for one, launch in launched))
        ended += len(launched)


async def test_the_large_one_of_a_quota_starts_though_small_ones_come_on_another_backend(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_PASSES", 3)
    world = await World.make(database, gpus=64)
    other = await second_backend(world)
    await put(world, gpus=2)

    async def start(gpus: int, backend: str) -> bytes:
        return await world.start(
            {"a": ()}, resources=[StepResources("a", gpus=gpus)], backend=backend, priority=0
        )

    await start(1, "other")
    running = list((await other.claim()).values())
    large = await start(2, "local")
    passed = 0
    while passed < 20:
        await start(1, "other")
        assert set(await world.claim()) <= {"a"}
        if (await world.states(large))["a"] is JobState.STARTING:
            break
        came = list((await other.claim()).values())
        passed += len(came)
        for launch in running:
            await other.end(launch)
        running = came
    assert 3 <= passed < 10


async def test_what_a_limit_never_allows_keeps_nothing_free(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_PASSES", 0)
    world = await World.make(database, gpus=8)
    await put(world, gpus=2)
    await world.start(wide(1, "large"), resources=[StepResources("large0", gpus=3)])
    for _ in range(3):
        await world.start(wide(1), resources=[StepResources("s0", gpus=1)])
        (launch,) = (await world.claim()).values()
        await world.end(launch)


async def test_quotas_and_limits_of_all_projects_are_an_administrators(database: Database) -> None:
    world = await World.make(database)
    user = Viewer(Kind.USER, projects=frozenset({world.project_id}))
    for values in (
        {"jobs": 1},
        {"project_id": None, "tag_name": "a", "jobs": 1},
        {"project_id": None, "jobs": 1},
    ):
        with pytest.raises(errors.Forbidden):
            await put(world, user, **values)
        limit_id = await put(world, **values)
        async with database.begin() as session:
            with pytest.raises(errors.Forbidden):
                await limits.remove(session, user, limit_id)
    own = await put(world, user, tag_name="mine", jobs=1)
    stranger = Viewer(Kind.USER, projects=frozenset())
    with pytest.raises(errors.Forbidden):
        await put(world, stranger, tag_name="mine", jobs=1)
    async with database.begin() as session:
        with pytest.raises(errors.NotFound):
            await limits.remove(session, stranger, own)
        assert len((await limits.list_limits(session, stranger, Page(10))).rows) == 2  # those of all projects
        await limits.remove(session, user, own)


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, ()),
        ({"jobs": -1}, ("jobs",)),
        ({"memory_bytes": 1 << 60}, ("memoryBytes",)),
        ({"tag_name": "", "jobs": 1}, ("tag",)),
        ({"tag_name": "a", "tag_value": "x" * 501, "jobs": 1}, ("tag",)),
    ],
)
async def test_a_limit_that_cannot_be_meant_is_refused(
    database: Database, values: dict[str, Any], path: tuple[str, ...]
) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        await put(world, **values)
    assert [problem.path for problem in refused.value.problems] == [path]


async def test_a_limit_of_what_there_is_not_is_refused(database: Database) -> None:
    world = await World.make(database)
    missing: list[dict[str, Any]] = [{"project_id": b"x" * 16}, {"backend_id": b"x" * 16}]
    for values in missing:
        with pytest.raises(errors.NotFound):
            await put(world, jobs=1, **values)


async def test_there_are_only_so_many_limits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 1)
    world = await World.make(database)
    await put(world, jobs=1)
    await put(world, jobs=2)
    with pytest.raises(errors.LimitExceeded):
        await put(world, tag_name="a", jobs=1)
