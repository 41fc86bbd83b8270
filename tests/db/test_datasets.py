"""Datasets: versions are their content, runs keep what they were given, and nothing in use goes away."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import claims, dataset_uses, dataset_versions, datasets, errors, ids, runs
from db.database import Database
from db.dataset_versions import PartSpec
from db.datasets import DatasetVersion, DatasetVersionState
from db.paging import Page
from db.profiles import Column, Profile
from db.requests import DatasetUse
from db.states import EndReason, JobState
from db.viewers import Kind, Viewer
from tests.db.world import World, names

Parts = Mapping[str, list[bytes]]
TRIPLES = st.lists(st.tuples(*[st.text(max_size=3)] * 3), unique=True, max_size=6)
STRANGER = Viewer(Kind.USER, user_id=ids.new(), projects=frozenset())


async def make(world: World, parts: Parts, name: str = "cats") -> tuple[bytes, bytes]:
    """A dataset with a version of these parts; both ids."""
    async with world.database.begin() as session:
        dataset_id = await datasets.create(session, world.viewer, name)
    return dataset_id, await add(world, dataset_id, parts)


async def add(world: World, dataset_id: bytes, parts: Parts) -> bytes:
    specs = [PartSpec(name, files) for name, files in parts.items()]
    async with world.database.begin() as session:
        return await dataset_versions.add(session, world.viewer, dataset_id, specs)


async def version(world: World, version_id: bytes) -> DatasetVersion:
    async with world.database.read() as session:
        (found,) = await dataset_versions.find_versions(session, world.viewer, [version_id])
    return found


async def inputs(world: World, run_id: bytes) -> list[str]:
    async with world.database.read() as session:
        return names(await runs.files_of(session, [run_id]))


@given(TRIPLES, st.randoms())
def test_a_digest_does_not_know_the_order(entries: list[tuple[str, str, str]], random: Any) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert dataset_versions.digest(shuffled) == dataset_versions.digest(entries)


@given(TRIPLES, TRIPLES)
def test_another_content_has_another_digest(
    one: list[tuple[str, str, str]], other: list[tuple[str, str, str]]
) -> None:
    equal = dataset_versions.digest(one) == dataset_versions.digest(other)
    assert equal is (sorted(one) == sorted(other))


async def test_equal_content_is_the_same_version_in_whatever_order_and_upload(database: Database) -> None:
    world = await World.make(database)
    a, b, c = [await world.upload(name) for name in ("a.csv", "b.csv", "c.csv")]
    dataset_id, first = await make(world, {"train": [a, b], "test": [c]})
    again = await world.upload("a.csv")
    assert await add(world, dataset_id, {"test": [c], "train": [b, again]}) == first
    second = await add(world, dataset_id, {"train": [a], "test": [c, b]})
    found = [await version(world, each) for each in (first, second)]
    assert [one.number for one in found] == [1, 2]
    assert [part["name"] for part in found[1].parts] == ["train", "test"]
    assert (found[0].files, found[0].size_bytes) == (3, 3 * len("content"))


async def test_equal_versions_added_at_once_are_one(postgresql: Database) -> None:
    world = await World.make(postgresql)
    file = await world.upload("a.csv")
    dataset_id, _ = await make(world, {"train": [file]})
    other = await world.upload("b.csv")
    added = await asyncio.gather(*(add(world, dataset_id, {"train": [other]}) for _ in range(4)))
    assert len(set(added)) == 1
    assert (await version(world, added[0])).number == 2


async def test_every_mistake_of_a_version_is_told_at_once(database: Database) -> None:
    world = await World.make(database)
    good, twin = await world.upload("a.csv"), await world.upload("a.csv")
    dataset_id, _ = await make(world, {"train": [good]})
    with pytest.raises(errors.Invalid) as refused:
        await add(world, dataset_id, {"Train": [good], "test": [good, twin], "other": [ids.new()], "x": []})
    assert [problem.path[1:] for problem in refused.value.problems] == [
        ("0", "name"),
        ("3", "files"),
        ("1", "files", "0"),
        ("1", "files", "1"),
        ("2", "files", "0"),
    ]
    with pytest.raises(errors.Invalid):
        await add(world, dataset_id, {})


async def test_a_name_is_taken_until_its_dataset_is_deleted(database: Database) -> None:
    world = await World.make(database)
    dataset_id, first = await make(world, {"train": [await world.upload("a.csv")]})
    with pytest.raises(errors.Conflict):
        await make(world, {})
    async with database.begin() as session:
        await dataset_uses.delete(session, world.viewer, dataset_id)
    other, _ = await make(world, {"train": [await world.upload("a.csv")]})
    async with database.read() as session:
        found = await datasets.find_dataset(session, world.viewer, name="cats")
        listed = await datasets.list_datasets(session, world.viewer, Page(9))
        old = await datasets.find_dataset(session, world.viewer, dataset_id=dataset_id)
    assert found is not None and found.id == other
    assert [row.id for row in listed.rows] == [other]
    assert old is not None and old.deleted_at is not None
    assert (await version(world, first)).number == 1
    with pytest.raises(errors.NotFound):
        await add(world, dataset_id, {"train": [await world.upload("b.csv")]})


async def test_a_dataset_is_its_projects(database: Database) -> None:
    world = await World.make(database)
    dataset_id, version_id = await make(world, {"train": [await world.upload("a.csv")]})
    async with database.read() as session:
        assert await datasets.find_dataset(session, STRANGER, name="cats") is None
        assert await dataset_versions.find_versions(session, STRANGER, [version_id]) == []
        assert (await dataset_uses.runs_of(session, STRANGER, version_id, Page(9))).rows == []
    for command in (dataset_uses.delete, datasets.update_dataset):
        with pytest.raises(errors.NotFound):
            async with database.begin() as session:
                await command(session, STRANGER, dataset_id)


async def test_what_is_found_in_the_files_is_recorded_once(database: Database) -> None:
    world = await World.make(database)
    a, b = await world.upload("a.csv"), await world.upload("b.csv")
    dataset_id, version_id = await make(world, {"train": [a], "test": [b], "validation": [b]})
    async with database.read() as session:
        assert await dataset_versions.profiling(session) == [version_id]
        members = await dataset_versions.members(session, version_id)
    assert names(members) == ["a.csv", "b.csv", "b.csv"]
    column = Column("x", "int", 0, 1.0, 2.0)
    found = {0: Profile(7, (column,)), 1: Profile(2, (Column("x", "float", 1, 0.0, 9.0),))}
    for _ in range(2):
        async with database.begin() as session:
            await dataset_versions.described(session, version_id, found)
            await dataset_versions.failed(session, version_id, "too late")
    row = await version(world, version_id)
    assert (row.state, row.rows, row.message) == (DatasetVersionState.READY, 9, None)
    assert row.columns == [{"name": "x", "type": "float", "nulls": 1, "min": 0.0, "max": 9.0}]
    assert [(part["name"], part["rows"]) for part in row.parts] == [
        ("train", 7),
        ("validation", 2),
        ("test", None),
    ]
    async with database.read() as session:
        files = await dataset_versions.list_files(session, version_id, Page(9), part="train")
    assert [(row.part, row.rows) for row in files.rows] == [("train", 7)]
    assert await add(world, dataset_id, {"train": [a], "test": [b], "validation": [b]}) == version_id
    assert (await version(world, version_id)).state is DatasetVersionState.READY


async def test_a_version_that_could_not_be_described_is_tried_again_when_added_again(
    database: Database,
) -> None:
    world = await World.make(database)
    file = await world.upload("a.csv")
    dataset_id, version_id = await make(world, {"train": [file]})
    async with database.begin() as session:
        await dataset_versions.failed(session, version_id, "no content")
    assert (await version(world, version_id)).state is DatasetVersionState.FAILED
    assert await add(world, dataset_id, {"train": [file]}) == version_id
    assert (await version(world, version_id)).state is DatasetVersionState.PROFILING


async def test_a_run_keeps_the_version_that_was_the_latest_when_it_was_started(database: Database) -> None:
    world = await World.make(database)
    a, b = await world.upload("a.csv"), await world.upload("b.csv")
    dataset_id, first = await make(world, {"train": [a], "test": [b]})
    run_id = await world.start(
        {"one": (), "two": None}, datasets=[DatasetUse(dataset_id=dataset_id, parts=("train",))]
    )
    await add(world, dataset_id, {"train": [b]})
    assert await inputs(world, run_id) == ["a.csv"]
    async with database.read() as session:
        (used,) = await dataset_uses.of_runs(session, [run_id])
        listed = await dataset_uses.runs_of(session, world.viewer, first, Page(9))
    assert (used.version_id, used.parts) == (first, ["train"])
    assert [row.run_id for row in listed.rows] == [run_id]
    launch = (await world.claim())["one"]
    assert launch.datasets == (claims.Placed("cats", 1, "train", "a.csv"),)
    await world.begin(launch)
    await world.end(launch, EndReason.COMPLETED)
    assert (await world.claim())["two"].datasets == ()


async def test_a_file_in_two_parts_is_an_input_once_and_in_both(database: Database) -> None:
    world = await World.make(database)
    own, file = await world.upload("own.csv"), await world.upload("a.csv")
    _, version_id = await make(world, {"train": [file], "test": [file, own]})
    run_id = await world.start({"one": ()}, files=[own], datasets=[DatasetUse(version_id=version_id)])
    assert await inputs(world, run_id) == ["own.csv", "a.csv"]
    assert [(one.part, one.file) for one in (await world.claim())["one"].datasets] == [
        ("train", "a.csv"),
        ("test", "a.csv"),
        ("test", "own.csv"),
    ]


async def test_two_inputs_of_one_name_end_the_job_before_its_launch(database: Database) -> None:
    world = await World.make(database)
    _, version_id = await make(world, {"train": [await world.upload("a.csv", "of the dataset")]})
    run_id = await world.start(
        {"one": ()}, files=[await world.upload("a.csv")], datasets=[DatasetUse(version_id=version_id)]
    )
    job = (await world.jobs(run_id))["one"]
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.BAD_INPUT)


async def test_every_mistake_in_the_choice_of_datasets_is_told(database: Database) -> None:
    world = await World.make(database)
    dataset_id, version_id = await make(world, {"train": [await world.upload("a.csv")]})
    empty, _ = await make(world, {"train": [await world.upload("b.csv")]}, "gone")
    async with database.begin() as session:
        await dataset_uses.delete(session, world.viewer, empty)
    wanted = [
        DatasetUse(),
        DatasetUse(dataset_id=dataset_id, version_id=version_id),
        DatasetUse(dataset_id=empty),
        DatasetUse(version_id=ids.new()),
        DatasetUse(dataset_id=dataset_id, parts=("tarin",)),
        DatasetUse(version_id=version_id),
    ]
    with pytest.raises(errors.Invalid) as refused:
        await world.start({"one": ()}, datasets=wanted)
    assert [problem.path for problem in refused.value.problems] == [
        ("datasets", "0"),
        ("datasets", "1"),
        ("datasets", "2", "dataset"),
        ("datasets", "3", "version"),
        ("datasets", "4", "parts", "0"),
        ("datasets", "5"),
    ]
    assert "did you mean 'train'?" in refused.value.problems[4].message


async def test_a_key_tells_one_choice_of_datasets_from_another(database: Database) -> None:
    world = await World.make(database)
    dataset_id, _ = await make(world, {"train": [await world.upload("a.csv")]})
    pipeline = await world.draw({"one": ()})
    use = DatasetUse(dataset_id=dataset_id)
    first = await world.start(pipeline, datasets=[use], idempotency_key="k")
    assert await world.start(pipeline, datasets=[use], idempotency_key="k") == first
    with pytest.raises(errors.Conflict):
        await world.start(pipeline, idempotency_key="k")


async def test_a_dataset_is_not_deleted_under_a_run(database: Database) -> None:
    world = await World.make(database)
    dataset_id, _ = await make(world, {"train": [await world.upload("a.csv")]})
    run_id = await world.start({"one": ()}, datasets=[DatasetUse(dataset_id=dataset_id)])
    with pytest.raises(errors.Conflict, match=ids.encode("run", run_id)):
        async with database.begin() as session:
            await dataset_uses.delete(session, world.viewer, dataset_id)
    await world.drive()
    async with database.begin() as session:
        await dataset_uses.delete(session, world.viewer, dataset_id)
        again = await dataset_uses.of_runs(session, [run_id])
    assert [row.parts for row in again] == [["train"]]


async def test_a_run_that_repeats_another_gets_the_very_same_versions(database: Database) -> None:
    world = await World.make(database)
    dataset_id, first = await make(world, {"train": [await world.upload("a.csv")]})
    run_id = await world.start({"one": ()}, datasets=[DatasetUse(dataset_id=dataset_id)])
    other = await world.start({"one": ()})
    async with database.begin() as session:
        await dataset_uses.copy(session, run_id, other)
    async with database.read() as session:
        used = await dataset_uses.of_runs(session, [other])
    assert [(row.version_id, row.parts) for row in used] == [(first, ["train"])]


@pytest.mark.parametrize(
    "values",
    [{"name": ""}, {"name": " x"}, {"description": "\0"}, {"tags": {"a": [1]}}, {"tags": {"\ud800": 1}}],
)
async def test_what_cannot_be_a_dataset_is_refused(database: Database, values: dict[str, Any]) -> None:
    world = await World.make(database)
    with pytest.raises(errors.Invalid) as refused:
        async with database.begin() as session:
            await datasets.create(session, world.viewer, **{"name": "x", **values})
    assert refused.value.problems[0].path[0] == next(iter(values))


async def test_a_dataset_is_renamed_described_and_tagged(database: Database) -> None:
    world = await World.make(database)
    dataset_id, _ = await make(world, {"train": [await world.upload("a.csv")]})
    await make(world, {"train": [await world.upload("a.csv")]}, "dogs")
    async with database.begin() as session:
        await datasets.update_dataset(session, world.viewer, dataset_id, tags={"k": 1}, description="words")
    with pytest.raises(errors.Conflict):
        async with database.begin() as session:
            await datasets.update_dataset(session, world.viewer, dataset_id, name="dogs")
    async with database.read() as session:
        (row,) = await datasets.find_datasets(session, world.viewer, [dataset_id])
    assert (row.name, row.tags, row.description) == ("cats", {"k": 1}, "words")
