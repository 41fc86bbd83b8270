"""Lineage: what a walk meets is what an independent search over the same rows meets, bounded and in its project."""

from collections.abc import Mapping

import pytest
from sqlalchemy import insert, update

from db import columns, data_sources, errors, ids, lineage
from db.data_fetches import DataFetch, DataFetchState
from db.database import Database
from db.lineage import Course, Key, Lineage, Relation
from db.paging import Page
from db.requests import DatasetUse
from db.runs import Run
from db.states import EndReason
from db.viewers import Kind, Viewer
from tests.db.test_datasets import make
from tests.db.world import World, made

STRANGER = Viewer(Kind.USER, user_id=ids.new(), projects=frozenset())


async def walk(world: World, root: Key, course: Course = Course.BOTH, depth: int = 9) -> Lineage:
    async with world.database.read() as session:
        found = await lineage.walk(session, world.viewer, root, course, depth)
    assert found is not None
    return found


async def story(world: World) -> Mapping[str, Key]:
    """A source fetched into a file, that in a dataset, that in a run of two steps, the second changing a file."""
    file = await world.upload("train.csv")
    now = columns.now()
    async with world.database.begin() as session:
        source = await data_sources.create(session, world.viewer, "web", "https://example.org/train.csv")
        fetch = {"id": ids.new(), "project_id": world.project_id, "source_id": source, "name": "train.csv"}
        state = {"url": "https://", "limit_bytes": 9, "state": DataFetchState.READY, "done_bytes": 9}
        await session.execute(insert(DataFetch).values(**fetch, **state, file_id=file, created_at=now))
    _, version = await make(world, {"train": [file]})
    run = await world.start({"one": (), "two": None}, datasets=[DatasetUse(version_id=version)])
    one = (await world.claim())["one"]
    await world.begin(one)
    await world.end(one, EndReason.COMPLETED, made("model.bin"))
    two = (await world.claim())["two"]
    (model,) = two.inputs
    await world.begin(two)
    await world.end(two, EndReason.COMPLETED, made("better.bin", input_id=model.file_id))
    members = await world.jobs(run)
    async with world.database.read() as session:
        (better,) = (await lineage.derived_of(session, world.viewer, model.file_id, Page(9))).rows
    return {
        "source": ("data_source", source),
        "file": ("file", file),
        "version": ("dataset_version", version),
        "run": ("run", run),
        "one": ("job", members["one"].id),
        "two": ("job", members["two"].id),
        "model": ("file", model.file_id),
        "better": ("file", better.id),
    }


async def test_from_the_source_to_the_last_file_and_back(database: Database) -> None:
    world = await World.make(database)
    things = await story(world)
    named = {key: name for name, key in things.items()}
    found = await walk(world, things["source"], Course.DOWNSTREAM)
    assert [named[key] for key in found.nodes][:2] == ["source", "file"]
    assert {named[key] for key in found.nodes} == set(things)
    told = {(named[edge.source], edge.relation.value, named[edge.target]) for edge in found.edges}
    assert told == {
        ("source", "FETCHED", "file"),
        ("file", "MEMBER", "version"),
        ("file", "GIVEN", "run"),
        ("file", "READ", "one"),
        ("version", "GIVEN", "run"),
        ("run", "STEP", "one"),
        ("run", "STEP", "two"),
        ("one", "MADE", "model"),
        ("model", "READ", "two"),
        ("model", "DERIVED", "better"),
        ("two", "MADE", "better"),
    }
    back = await walk(world, things["better"], Course.UPSTREAM)
    assert {named[key] for key in back.nodes} == set(things)
    assert set(back.edges) == set(found.edges)


@pytest.mark.repeats
async def test_every_depth_and_direction_is_what_a_search_of_the_whole_gives(database: Database) -> None:
    world = await World.make(database)
    things = await story(world)
    whole = (await walk(world, things["source"], Course.DOWNSTREAM)).edges
    for root in things.values():
        for course in (Course.UPSTREAM, Course.DOWNSTREAM):
            reached, frontier = {root}, {root}
            for depth in range(1, 8):
                down = course is Course.DOWNSTREAM
                pairs = [(e.source, e.target) if down else (e.target, e.source) for e in whole]
                frontier = {there for here, there in pairs if here in frontier} - reached
                reached |= frontier
                assert set((await walk(world, root, course, depth)).nodes) == reached


async def test_who_reads_a_file_is_told(database: Database) -> None:
    world = await World.make(database)
    things = await story(world)
    async with database.read() as session:
        readers = await lineage.readers_of(session, world.viewer, things["model"][1], Page(9))
        none = await lineage.readers_of(session, STRANGER, things["model"][1], Page(9))
    assert [row.job_id for row in readers.rows] == [things["two"][1]]
    assert none.rows == []


async def test_a_stranger_and_a_wrong_root_get_nothing(database: Database) -> None:
    world = await World.make(database)
    things = await story(world)
    async with database.read() as session:
        for root in things.values():
            assert await lineage.walk(session, STRANGER, root, Course.BOTH, 3) is None
        assert await lineage.walk(session, world.viewer, ("file", ids.new()), Course.BOTH, 3) is None
        for root, depth in ((("module", ids.new()), 3), (things["run"], 0), (things["run"], 21)):
            with pytest.raises(errors.Invalid):
                await lineage.walk(session, world.viewer, root, Course.BOTH, depth)


async def test_a_deleted_run_and_its_jobs_are_left_out(database: Database) -> None:
    world = await World.make(database)
    things = await story(world)
    async with database.begin() as session:
        await session.execute(update(Run).values(deleted_at=columns.now()))
    found = await walk(world, things["source"], Course.DOWNSTREAM)
    assert {kind for kind, _ in found.nodes} == {"data_source", "file", "dataset_version"}
    assert all(edge.source in found.nodes and edge.target in found.nodes for edge in found.edges)


async def test_a_walk_is_bounded_and_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST_NODES", 4)
    world = await World.make(database)
    things = await story(world)
    found = await walk(world, things["source"], Course.DOWNSTREAM)
    assert (len(found.nodes), found.truncated) == (4, True)
    assert not (await walk(world, things["source"], Course.DOWNSTREAM, depth=1)).truncated
    assert Relation.FETCHED in {edge.relation for edge in found.edges}
