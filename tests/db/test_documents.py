"""Pipelines as documents: what is written is read again, whole and exactly; copies and deletions."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backends import drawings
from db import documents, errors, ids, pipelines
from db.database import Database
from db.documents import Document
from db.errors import Problem
from db.manifests import Option, OptionType
from db.states import RunState
from db.steps import in_order
from tests.db.test_conditions import trees
from tests.db.world import World, few, function, written

NAMES = ["a", "b", "c", "d"]
TRAIN = function(
    "train", options=(Option("rate", OptionType.FLOAT, default=1.0), Option("word", OptionType.STR))
)

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(
    [
        "",
        "1",
        "1e-4",
        "0o7",
        "null",
        "~",
        "yes",
        "true",
        ".inf",
        "2020-01-01",
        "a: b",
        "# no",
        "two\nlines\n",
        " x ",
    ]
)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | finite | texts
keys = texts.filter(lambda word: word not in ("", "<<"))
values = st.recursive(
    scalars | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
words = st.sampled_from(["rate", "word", "1"])
matrices = st.dictionaries(
    words, st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), min_size=1, max_size=2
)


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """A pipeline as somebody writes it, its graph right, its functions unheard of."""
    steps: list[dict[str, Any]] = []
    for index, name in enumerate(NAMES[: draw(st.integers(1, 4))]):
        above = NAMES[:index]
        step: dict[str, Any] = {"name": name, "function": "ml/train"}
        optional: dict[str, Any] = {
            "arguments": st.dictionaries(keys, values, min_size=1, max_size=2),
            "cache": st.just(True),
            "matrix": matrices,
        }
        if above:
            named = st.sampled_from(above)
            optional["needs"] = st.lists(named, unique=True).map(sorted)
            optional["inputs"] = st.lists(
                st.fixed_dictionaries(
                    {"step": named}, optional={"files": texts.filter(bool), "prefix": st.just(True)}
                ),
                min_size=1,
                max_size=2,
            )
            optional["when"] = trees.map(lambda tree, above=tuple(above): _within(tree, above))  # type: ignore[misc]
        steps.append(step | draw(st.fixed_dictionaries({}, optional=optional)))
    return {
        "name": "p",
        **draw(st.fixed_dictionaries({}, optional={"description": texts.filter(bool)})),
        "steps": steps,
    }


def _within(tree: Any, above: tuple[str, ...]) -> Any:
    """The condition, asking about steps there are."""
    if isinstance(tree, list):
        return [_within(part, above) for part in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: above[0] if key == "step" else _within(value, above) for key, value in tree.items()}


@settings(max_examples=40, deadline=None)
@given(drawn())
def test_what_is_written_by_hand_is_read_ordered_and_written_again(document: dict[str, Any]) -> None:
    read, problems = documents.read(document)
    assert not problems
    ordered, mistakes = in_order(read.steps)
    assert not mistakes and [step.name for step, _ in ordered] == [step["name"] for step in document["steps"]]
    again, problems = documents.read(documents.write(read))
    assert not problems and documents.write(again) == documents.write(read)
    # But for needs that are so by default, which are left out.
    unsaid = [replace(step, needs=None) for step in again.steps]
    assert unsaid == [replace(step, needs=None) for step in read.steps]
    assert [needs for _, needs in in_order(again.steps)[0]] == [needs for _, needs in ordered]


@settings(max_examples=40, deadline=None)
@given(drawn())
@example(
    {
        "name": "p",
        "steps": [{"name": "a", "function": "ml/train", "arguments": {"\x85": "a\u2028\rb\n\x85c"}}],
    }
)
def test_a_document_survives_its_text(document: dict[str, Any]) -> None:
    read, _ = documents.read(document)
    exact = documents.write(read)
    text = drawings.write(exact)
    assert drawings.read(text).document == exact
    assert drawings.write(drawings.read(text).document) == text


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (None, [""]),
        ({"steps": 3}, ["name", "steps"]),
        ({"name": "p", "steps": [], "step": []}, ["step"]),
        ({"name": 3, "description": ["x"], "steps": [1]}, ["name", "description", "steps.0"]),
        (
            {"name": "p", "steps": [{"name": "a", "arguments": [], "needs": "b", "cache": 1, "matrix": {}}]},
            ["steps.0.arguments", "steps.0.matrix", "steps.0.cache", "steps.0.function", "steps.0.needs"],
        ),
    ],
)
def test_every_mistake_in_writing_is_told_where_it_is(value: Any, paths: list[str]) -> None:
    _, problems = documents.read(value)
    assert [".".join(problem.path) for problem in problems] == paths


def test_a_text_that_costs_more_than_it_is_worth_is_refused_before_it_is_read() -> None:
    with pytest.raises(errors.LimitExceeded, match="at most 256 KiB, this one has 257"):
        drawings.read("x" * (257 << 10))
    doubling = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij"))
    for text, rule in (
        ("[" * 200_000, "nested deeper than 32 levels"),
        ("a: &a [*a]", "nested deeper than 32 levels"),
        ("a: &a [1]\n" + doubling, "more than 100000 values, aliases counted"),
    ):
        with pytest.raises(errors.Invalid, match=rule):
            drawings.read(text)


def test_a_mistake_is_told_with_the_line_it_stands_in() -> None:
    drawing = drawings.read("name: p\nsteps:\n  - name: a\n    function: m/f\n    needs: [x]\n")
    assert drawing.located(Problem(("steps", "0", "needs"), "no")).message == "line 5: steps.0.needs: no"
    assert (
        drawing.located(Problem(("steps", "0", "matrix", "a"), "no")).message
        == "line 3: steps.0.matrix.a: no"
    )
    assert drawing.located(Problem(("project",), "no")).message == "line 1: project: no"
    for text, line in (
        ("a: [", 1),
        ("a: 1\nb: 2\na: 3", 3),
        ("a: &x 1\nb: *y", 2),
        ("", 1),
        ("a: !!python/x 1", 1),
    ):
        with pytest.raises(errors.Invalid) as refused:
            drawings.read(text)
        assert f"line {line}: " in str(refused.value)


async def _exported(world: World, pipeline_id: bytes) -> Document:
    async with world.database.read() as session:
        (revision,) = await pipelines.latest_revisions(session, [pipeline_id])
        return await pipelines.export(session, world.viewer, revision.id)


async def _import(world: World, document: Document, **values: Any) -> bytes:
    async with world.database.begin() as session:
        return await pipelines.import_(session, world.viewer, document, **values)


FULL = (
    {"name": "a", "function": "ml/train", "matrix": {"rate": [0.1, 1]}, "arguments": {"word": "1e-4"}},
    {"name": "b", "function": "ml/train", "inputs": [{"step": "a", "matrix": {"rate": 1}}], "cache": True},
    {"name": "c", "function": "ml/train", "needs": ["a"], "when": {"step": "b", "state": "FAILED"}},
)


async def test_an_exported_pipeline_is_imported_as_it_is(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw(written(*FULL), name="first")
    document = await _exported(world, pipeline_id)
    copied = Document("second", document.description, document.steps)
    assert await _exported(world, await _import(world, copied)) == copied
    with pytest.raises(errors.Conflict) as refused:
        await _import(world, copied)
    assert refused.value.problems[0].path == ("name",)
    shorter = Document("second", "shorter", document.steps[:1])
    replaced = await _import(world, shorter, replace=True)
    assert await _exported(world, replaced) == shorter
    async with database.read() as session:
        (found,) = await pipelines.find_pipelines(session, world.viewer, [replaced])
    assert found.revision == 2


async def test_a_refused_import_tells_mistakes_of_reading_and_of_meaning_together(database: Database) -> None:
    world = await World.make(database, TRAIN)
    read, problems = documents.read(
        {"name": "p", "steps": [{**FULL[0], "when": 1}, {**FULL[1], "function": "x"}]}
    )
    with pytest.raises(errors.Invalid) as refused:
        await _import(world, read, problems=problems)
    assert [problem.path for problem in refused.value.problems] == [
        ("steps", "0", "when"),
        ("steps", "1", "function"),
    ]


async def test_a_deleted_pipeline_frees_its_name_and_keeps_its_history(database: Database) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw(written(*FULL), name="p")
    run_id = await world.start(pipeline_id)
    with pytest.raises(errors.Conflict, match="has not ended"):
        await _delete(world, pipeline_id)
    await world.cancel(run_id)
    await _delete(world, pipeline_id)
    async with database.read() as session:
        assert await pipelines.find_pipeline(session, world.viewer, name="p") is None
        kept = await pipelines.find_pipeline(session, world.viewer, pipeline_id=pipeline_id)
    assert kept is not None and kept.name == "p" and kept.deleted_at is not None
    assert (await world.run(run_id)).state is RunState.CANCELLED
    document = await _exported(world, pipeline_id)
    with pytest.raises(errors.NotFound, match="was deleted"):
        await world.start(pipeline_id)
    for again in (_delete(world, pipeline_id), _rename(world, pipeline_id)):
        with pytest.raises(errors.NotFound):
            await again
    async with database.begin() as session:
        copied = await pipelines.clone(session, world.viewer, pipeline_id, "p")
    assert await _exported(world, copied) == document
    await world.cancel(await world.start(copied))


async def test_a_pipeline_is_not_deleted_under_a_run_that_is_just_starting(postgresql: Database) -> None:
    world = await World.make(postgresql)
    pipeline_id = await world.draw({"a": ()})
    async with postgresql.begin() as starting:
        await pipelines.hold(starting, world.viewer, pipeline_id)
        deleting = asyncio.create_task(_delete(world, pipeline_id))
        async with postgresql.begin() as other:  # another start does not wait
            await pipelines.hold(other, world.viewer, pipeline_id)
        assert not deleting.done()
    await deleting


async def _delete(world: World, pipeline_id: bytes) -> None:
    async with world.database.begin() as session:
        await pipelines.delete(session, world.viewer, pipeline_id)


async def _rename(world: World, pipeline_id: bytes) -> None:
    async with world.database.begin() as session:
        await pipelines.revise(session, world.viewer, pipeline_id, name="q")


names_left = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("steps"), names_left), st.tuples(st.just("rename"), st.none()),
        st.tuples(st.just("matrix"), st.integers(1, 3)), st.tuples(st.just("module"), st.integers(1, 9)),
        st.tuples(st.just("delete"), st.none()), st.tuples(st.just("clone"), st.none()),
        st.tuples(st.just("import"), names_left),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


async def _seen(world: World, run_id: bytes) -> Any:
    """All that a run is made of."""
    run = await world.run(run_id)
    rows = (await world.jobs(run_id)).values()
    async with world.database.read() as session:
        revision = await pipelines.find_revisions(session, world.viewer, [run.revision_id or b""])
        steps = (await pipelines.export(session, world.viewer, revision[0].id)).steps
    frozen = "id step arguments needs awaits inputs condition matrix cache version_id function_id state"
    jobs = [[getattr(row, name) for name in frozen.split()] for row in rows]
    return run.pipeline_id, run.name, (revision[0].id, revision[0].number), steps, jobs


@few
@given(edits)
async def test_no_edit_changes_what_an_old_run_is_made_of(database: Database, edits: list[Any]) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw(written(*FULL), name=f"edited{ids.new().hex()}")
    name = (await _exported(world, pipeline_id)).name
    run_id = await world.start(pipeline_id)
    await world.cancel(run_id)
    before = await _seen(world, run_id)
    for kind, value in edits:
        await _edit(world, pipeline_id, name, kind, value)
        assert await _seen(world, run_id) == before


async def _edit(world: World, pipeline_id: bytes, name: str, kind: str, value: Any) -> None:
    if kind == "module":
        default = Option("rate", OptionType.FLOAT, default=float(value))
        await world.install(function("train", options=(default, Option("word", OptionType.STR))))
        return
    if kind == "import":  # over it, or beside it where its name is free by now
        steps = written(*({"name": each, "function": "ml/train"} for each in value))
        await _import(world, Document(name, "imported", tuple(steps.values())), replace=True)
        return
    async with world.database.begin() as session:
        try:
            if kind == "clone":
                await pipelines.clone(session, world.viewer, pipeline_id, f"n{ids.new().hex()}")
            elif kind == "delete":
                await pipelines.delete(session, world.viewer, pipeline_id)
            elif kind == "rename":
                await pipelines.revise(session, world.viewer, pipeline_id, name=f"n{ids.new().hex()}")
            else:
                matrix = {"matrix": {"rate": [*range(value)]}} if kind == "matrix" else {}
                named = ["a"] if kind == "matrix" else value
                steps = written(*({"name": each, "function": "ml/train", **matrix} for each in named))
                await pipelines.revise(session, world.viewer, pipeline_id, steps=list(steps.values()))
        except errors.NotFound:
            pass  # it was deleted before
