"""Editing runs: what changes is told, what does not change is not, and nobody overwrites another unawares."""

from typing import Any

import pytest

from db import edits, errors, feeds, runs
from db.database import Database
from db.edits import Edit
from db.states import RunState
from db.viewers import Kind, Viewer
from tests.db.world import World


async def edit(world: World, run_id: bytes, viewer: Viewer | None = None, **values: Any) -> bool:
    async with world.database.begin() as session:
        return await edits.edit(session, viewer or world.viewer, run_id, Edit(**values))


async def tags(world: World, run_id: bytes) -> dict[str, str]:
    async with world.database.read() as session:
        return {tag.name: tag.value for tag in await runs.tags_of(session, [run_id])}


async def test_an_edit_changes_what_it_names_and_tells_whoever_follows(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()}, tags=[("keep", "1")])
    assert await edit(world, run_id, name="new", notes="why", archived=True, tags_set=[("b", "2")])
    run = await world.run(run_id)
    assert (run.name, run.notes, run.archived, run.edition) == ("new", "why", True, 1)
    assert await tags(world, run_id) == {"keep": "1", "b": "2"}
    last = (await world.events(run_id))[-1]
    told = {"state": "QUEUED", "edited": ["name", "notes", "archived", "tags"]}
    assert (last.subject, last.data) == (feeds.Subject.RUN, told)


async def test_an_edit_that_changes_nothing_is_no_event(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()}, tags=[("a", "1")], name="n")
    before = await world.run(run_id)
    assert not await edit(world, run_id, name="n", notes="", tags_set=[("a", "1")], tags_removed=["b"])
    assert await world.run(run_id) == before


async def test_tags_are_set_removed_or_replaced(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()}, tags=[("a", "1"), ("b", "2"), ("c", "3")])
    await edit(world, run_id, tags_set=[("a", "9"), ("d", "4")], tags_removed=["b", "nothing"])
    assert await tags(world, run_id) == {"a": "9", "c": "3", "d": "4"}
    await edit(world, run_id, tags_replaced=[("c", "3"), ("x", "")], tags_set=[("y", "1")])
    assert await tags(world, run_id) == {"c": "3", "x": "", "y": "1"}
    await edit(world, run_id, tags_replaced=[])
    assert await tags(world, run_id) == {}


async def test_an_edit_made_from_an_older_edition_is_refused(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    assert await edit(world, run_id, notes="mine", edition=0)
    with pytest.raises(errors.Conflict, match="edited meanwhile") as refused:
        await edit(world, run_id, notes="yours", edition=0)
    assert refused.value.problems[0].path == ("edition",)
    assert (await world.run(run_id)).notes == "mine"
    assert await edit(world, run_id, notes="both", edition=1)


async def test_an_edit_after_the_end_leaves_the_feed_ended(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.cancel(run_id)
    assert await edit(world, run_id, name="after")
    run = await world.run(run_id)
    async with database.read() as session:
        head = await feeds.head(session, run.feed_id)
    assert head is not None and head.ended and head.seq == run.seq
    assert run.state is RunState.CANCELLED


async def test_every_mistake_of_an_edit_is_told(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    with pytest.raises(errors.Invalid) as refused:
        await edit(
            world,
            run_id,
            name="",
            notes="\0",
            tags_replaced=[("", "")],
            tags_set=[("a", "1"), ("a", "2")],
            tags_removed=["a"],
        )
    paths = {".".join(problem.path) for problem in refused.value.problems}
    assert paths == {"name", "notes", "tags.replace.0", "tags.set", "tags.remove"}
    with pytest.raises(errors.Invalid, match="at most 100"):
        many = [(f"{n}", "") for n in range(60)]
        await edit(world, run_id, tags_replaced=many, tags_set=[(f"x{n}", "") for n in range(60)])


async def test_a_jobs_token_edits_nothing(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    job = (await world.jobs(run_id))["a"]
    with pytest.raises(errors.Forbidden):
        await edit(world, run_id, Viewer(Kind.JOB, run_id=run_id, job_id=job.id, attempt=1), name="mine")
