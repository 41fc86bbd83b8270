"""Pipelines: an order in which everything needed comes first, or every reason why there is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, pipelines
from db.database import Database
from db.errors import Problem
from db.manifests import Option, OptionType
from db.paging import Page
from db.steps import MOST_STEPS, StepSpec, in_order, steps_of
from db.viewers import Kind, Viewer
from tests.db.world import Needs, World, few, function, steps

TRAIN = function("train", options=(Option("epochs", OptionType.INT, required=True, minimum=1),))


def _ordered(given: Needs) -> list[tuple[str, list[int]]]:
    ordered, problems = in_order(steps(given))
    assert not problems
    return [(step.name, needs) for step, needs in ordered]


def _problems(given: Needs) -> list[tuple[str, str]]:
    _, problems = in_order(steps(given))
    return [_told(problem) for problem in problems]


def _told(problem: Problem) -> tuple[str, str]:
    return ".".join(problem.path), problem.message


async def _refused(world: World, given: Any, name: str = "p") -> dict[str, str]:
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(given, name=name)
    return dict(map(_told, refused.value.problems))


async def _names(world: World, pipeline_id: bytes) -> list[tuple[int, list[str]]]:
    """Every revision of a pipeline, newest first, with its steps' names."""
    async with world.database.read() as session:
        revisions = (await pipelines.list_revisions(session, pipeline_id, Page(100))).rows
        stored = await steps_of(session, [revision.id for revision in revisions])
    return [(r.number, [step.name for step in stored if step.revision_id == r.id]) for r in revisions]


def test_a_step_needs_the_one_above_unless_it_says_otherwise() -> None:
    assert _ordered({"a": None, "b": None, "c": (), "d": None}) == [
        ("a", []),
        ("b", [0]),
        ("c", []),
        ("d", [2]),
    ]


def test_steps_are_put_in_order_and_otherwise_stay_as_they_were_given() -> None:
    assert _ordered({"last": ("c", "a", "a"), "a": (), "b": (), "c": ("b",)}) == [
        ("a", []),
        ("b", []),
        ("c", [1]),
        ("last", [0, 2]),
    ]


@given(st.permutations(range(6)), st.data())
def test_any_graph_without_a_cycle_is_ordered(order: list[int], data: st.DataObject) -> None:
    needs = {
        f"s{n}": data.draw(st.sets(st.sampled_from(order[:i]))) if i else set() for i, n in enumerate(order)
    }
    shuffled = data.draw(st.permutations(list(needs)))
    given = {name: tuple(f"s{n}" for n in needs[name]) for name in shuffled}
    ordered = _ordered(given)
    assert sorted(name for name, _ in ordered) == sorted(given)
    for position, (name, positions) in enumerate(ordered):
        assert all(need < position for need in positions)
        assert {ordered[need][0] for need in positions} == set(given[name])


@pytest.mark.parametrize(
    ("given", "cycle"),
    [
        ({"a": ("a",)}, "a → a"),
        ({"a": ("b",), "b": ("a",)}, "a → b → a"),
        ({"x": ("b",), "a": ("c",), "b": ("a",), "c": ("b",), "free": ()}, "b → a → c → b"),
        ({"a": ("c",), "b": None, "c": None}, "a → c → b → a"),
    ],
)
def test_a_cycle_is_named(given: Needs, cycle: str) -> None:
    ((path, message),) = _problems(given)
    assert message == f"these steps wait for each other: {cycle}"
    assert path == f"steps.{list(given).index(cycle[0])}.needs"


def test_an_unknown_need_comes_with_a_suggestion() -> None:
    ((path, message),) = _problems({"fetch": (), "train": ("fetsch",)})
    assert path == "steps.1.needs" and "did you mean 'fetch'?" in message


async def test_every_mistake_of_a_pipeline_is_told_at_once(database: Database) -> None:
    world = await World.make(database, TRAIN)
    given = {
        "a": StepSpec("a", "ml/trian", {}),
        "b": StepSpec("b", "train", {}),
        "c": StepSpec("c", "ml/train", {"epochs": 0, "rate": 1}, ("nowhere",)),
        "d": StepSpec("c", "ml/train", {}),
        "e": StepSpec("-", "ml/train", {"epochs": 1}),
    }
    problems = await _refused(world, given, name="no name")
    assert set(problems) == {
        "name",
        "steps.0.function",
        "steps.1.function",
        "steps.2.needs",
        "steps.2.arguments.epochs",
        "steps.2.arguments.rate",
        "steps.3.name",
        "steps.4.name",
    }
    assert "did you mean 'ml/train'?" in problems["steps.0.function"]
    assert "write module/function" in problems["steps.1.function"]


@pytest.mark.parametrize("count", [0, MOST_STEPS + 1])
async def test_a_pipeline_has_some_steps_and_not_too_many(database: Database, count: int) -> None:
    world = await World.make(database)
    problems = await _refused(world, {f"s{i}": () for i in range(count)})
    assert list(problems) == ["steps"]


async def test_a_name_is_taken_once_in_a_project(database: Database) -> None:
    world = await World.make(database)
    first = await world.draw({"a": ()}, name="mine")
    second = await world.draw({"a": ()}, name="other")
    with pytest.raises(errors.Conflict) as refused:
        await world.draw({"a": ()}, name="mine")
    assert refused.value.problems[0].path == ("name",)
    with pytest.raises(errors.Conflict):
        await _revise(world, second, name="mine")
    await _revise(world, first, name="mine")
    project = await world.add_project("elsewhere")
    await world.draw({"a": ()}, name="mine", project_id=project)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 101])
@pytest.mark.parametrize("given", [None, {"a": ()}])
async def test_a_pipeline_is_not_renamed_to_what_is_no_name(
    database: Database, name: str, given: Needs | None
) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()}, name="mine")
    with pytest.raises(errors.Invalid):
        await _revise(world, pipeline_id, name=name, steps=steps(given) if given else None)
    async with database.read() as session:
        pipeline = await pipelines.find_pipeline(session, world.viewer, name="mine")
    assert pipeline is not None and pipeline.revision == 1


@few
@given(edits=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, unique=True), min_size=1, max_size=4))
async def test_an_edit_makes_a_revision_and_runs_keep_theirs(
    database: Database, edits: list[list[str]]
) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"first": ()})
    drawn, started = [["first"]], [await world.start(pipeline_id)]
    for edit in edits:
        await _revise(world, pipeline_id, steps=steps(dict.fromkeys(edit)))
        drawn.append(edit)
        started.append(await world.start(pipeline_id))
    assert [list(await world.states(run_id)) for run_id in started] == drawn
    assert await _names(world, pipeline_id) == list(enumerate(drawn, 1))[::-1]
    await world.drive()


async def test_a_refused_edit_changes_nothing(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()}, name="mine")
    with pytest.raises(errors.Invalid):
        await _revise(world, pipeline_id, name="new", description="d", steps=steps({"a": ("a",)}))
    async with database.read() as session:
        pipeline = await pipelines.find_pipeline(session, world.viewer, pipeline_id=pipeline_id)
    assert pipeline is not None and (pipeline.name, pipeline.description) == ("mine", "")
    assert await _names(world, pipeline_id) == [(1, ["a"])]


async def test_a_stranger_neither_sees_nor_edits_a_pipeline(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    stranger = Viewer(Kind.USER)
    async with database.read() as session:
        assert await pipelines.find_pipelines(session, stranger, [pipeline_id]) == []
        assert (await pipelines.list_pipelines(session, stranger, Page(9))).rows == []
    with pytest.raises(errors.NotFound):
        async with database.begin() as session:
            await pipelines.revise(session, stranger, pipeline_id, name="theirs")
    with pytest.raises(errors.Forbidden):
        async with database.begin() as session:
            await pipelines.create(session, stranger, "p", steps({"a": ()}))


async def _revise(world: World, pipeline_id: bytes, **values: Any) -> None:
    async with world.database.begin() as session:
        await pipelines.revise(session, world.viewer, pipeline_id, **values)
