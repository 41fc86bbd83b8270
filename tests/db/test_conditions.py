"""Conditions: read with every mistake, decided once and in three values, told in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import conditions, documents, errors, verdicts
from db.conditions import Headline
from db.database import Database
from db.states import EndReason, JobState
from db.verdicts import Facts
from tests.db.world import World, function, made, report, written

GOOD = {"step": "train", "metric": "accuracy", "op": "GTE", "value": 0.9}


def _wrong(value: Any) -> dict[str, str]:
    _, problems = conditions.read(value, ("when",))
    return {".".join(problem.path): problem.message for problem in problems}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("yes", "when"),
        ({}, "when"),
        ({"step": "a", "metric": "m", "tag": "t", "op": "EQ", "value": 1}, "when"),
        ({"metric": "m", "op": "EQ", "value": 1}, "when.step"),
        ({"step": "a", "metric": "m", "value": 1}, "when.op"),
        ({"step": "a", "metric": "m", "op": "<", "value": 1}, "when.op"),
        ({"step": "a", "metric": "m", "op": "LT"}, "when.value"),
        ({"step": "a", "metric": "m", "op": "LT", "value": float("nan")}, "when.value"),
        ({"step": "a", "metric": "m", "op": "LT", "value": True}, "when.value"),
        ({"step": "a", "metric": "m", "op": "LT", "value": 2**64}, "when.value"),
        ({"step": "a", "metric": "m", "op": "LT", "value": 10**400}, "when.value"),
        ({"step": "a", "metric": "m", "of": "MEAN", "op": "LT", "value": 1}, "when.of"),
        ({"step": "a", "tag": "t", "op": "LT", "value": "x"}, "when.op"),
        ({"step": "a", "tag": "t", "op": "EQ", "value": [1]}, "when.value"),
        ({"step": "a", "state": "RUNNING"}, "when.state"),
        ({"step": "a", "state": "FAILED", "op": "GT"}, "when.op"),
        ({"step": "a", "state": "FAILED", "value": 1}, "when.value"),
        ({"step": "a", "state": "FAILED", "jobs": "SOME"}, "when.jobs"),
        ({"all": []}, "when.all"),
        ({"any": [GOOD, {"step": "a", "state": "x"}]}, "when.any.1.state"),
        ({"not": {"all": [1]}}, "when.not.all.0"),
        ({"not": GOOD, "op": "EQ"}, "when.op"),
        ({"step": "a", "matrix": {"x": [1]}, "state": "FAILED"}, "when.matrix.x"),
    ],
)
def test_a_mistake_is_told_where_it_is(value: Any, path: str) -> None:
    assert list(_wrong(value)) == [path]


def test_conditions_are_neither_deep_nor_long() -> None:
    deep: Any = GOOD
    for _ in range(conditions.DEEPEST + 1):
        deep = {"not": deep}
    assert "deep" in "".join(_wrong(deep).values())
    many = {"all": [{"any": [GOOD] * 60}] * 2}
    assert _wrong(many) == {"when": f"has more than {conditions.MOST_PARTS} comparisons"}


names = st.sampled_from(["a", "b"])
numbers = st.sampled_from([0, 1, 1.5])
leaf = st.one_of(
    st.builds(
        lambda step, metric, of, op, value, jobs: {
            "step": step, "metric": metric, "of": of, "op": op, "value": value, "jobs": jobs
        },
        names, names, st.sampled_from(["LAST", "MIN", "MAX"]), st.sampled_from(["LT", "LTE", "GT", "GTE", "EQ", "NE"]),
        numbers, st.sampled_from(["EVERY", "ANY"]),
    ),
    st.builds(
        lambda step, tag, value: {"step": step, "tag": tag, "op": "NE", "value": value},
        names, names, names | numbers,
    ),
    st.builds(lambda step, op: {"step": step, "state": "FAILED", "op": op}, names, st.sampled_from(["EQ", "NE"])),
)  # fmt: skip
trees = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


@given(trees)
def test_what_is_written_is_read_again(tree: dict[str, Any]) -> None:
    condition, problems = conditions.read(tree, ())
    assert not problems and condition is not None
    assert conditions.decode(conditions.encode(condition)) == condition
    assert conditions.read(conditions.encode(condition), ()) == (condition, [])
    bound = conditions.bind(condition, lambda source: [3, 4])
    assert conditions.decode(conditions.encode(bound)) == bound


known = st.fixed_dictionaries({}, optional={"a": numbers, "b": numbers})
facts = st.builds(
    lambda state, metrics, tags: Facts(
        "x", state, {name: dict.fromkeys(Headline, value) for name, value in metrics.items()}, tags
    ),
    st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]),
    known,
    st.lists(known, max_size=2),
)


@given(trees, facts, facts)
def test_not_turns_a_verdict_around_and_leaves_the_unknown_unknown(
    tree: dict[str, Any], one: Facts, other: Facts
) -> None:
    seen = {0: one, 1: other}
    found = _decided(tree, seen)
    turned = _decided({"not": tree}, seen)
    assert turned is (None if found is None else not found)
    assert _decided({"all": [tree, tree]}, seen) is found
    assert _decided({"any": [tree]}, seen) is found


def _decided(tree: dict[str, Any], seen: dict[int, Facts]) -> bool | None:
    condition, problems = conditions.read(tree, ())
    assert condition is not None and not [p for p in problems if "deep" not in p.message]
    return verdicts.decide(conditions.bind(condition, lambda _: [0, 1]), seen).holds


async def _outcome(world: World, when: Any, **values: Any) -> tuple[JobState, str | None]:
    """What becomes of a step under a condition, after `train` reported these."""
    run_id = await world.start(written({"name": "train"}, {"name": "deploy", "when": when}))
    launch = (await world.claim_all())[run_id, "train"]
    await world.begin(launch)
    tags = values.pop("tags", None)
    await report(world, launch, **values)
    await world.end(launch, EndReason.COMPLETED, *([made("model", tags=tags)] if tags else []))
    job = (await world.jobs(run_id))["deploy"]
    await world.drive()
    return job.state, job.message


async def test_a_metric_decides_by_its_last_least_or_greatest_value(database: Database) -> None:
    world = await World.make(database)
    for of, value in (("LAST", 0.5), ("MIN", 0.25), ("MAX", 0.75)):
        same = {"step": "train", "metric": "loss", "of": of, "op": "EQ", "value": value}
        assert (await _outcome(world, same, loss=[0.25, 0.75, float("nan"), 0.5]))[0] is JobState.QUEUED
        state, message = await _outcome(world, {"not": same}, loss=[0.25, 0.75, 0.5])
        assert state is JobState.SKIPPED and message is not None
        assert f"the {of.lower()} loss of train is {value}" in message


async def test_a_metric_that_was_not_reported_runs_nothing_either_way(database: Database) -> None:
    world = await World.make(database)
    for when in (GOOD, {"not": GOOD}):
        state, message = await _outcome(world, when, loss=1.0)
        assert state is JobState.SKIPPED and "train reported no accuracy" in (message or "")
    state, _ = await _outcome(world, {"any": [GOOD, {"step": "train", "state": "SUCCEEDED"}]}, loss=1.0)
    assert state is JobState.QUEUED


async def test_a_tag_decides_if_any_file_has_a_value_that_fits(database: Database) -> None:
    world = await World.make(database)
    wanted = {"step": "train", "tag": "grade", "op": "GTE", "value": 2}
    assert (await _outcome(world, wanted, tags={"grade": 3}))[0] is JobState.QUEUED
    state, message = await _outcome(world, wanted, tags={"grade": 1})
    assert state is JobState.SKIPPED and "the tag grade of train is 1, wanted ≥ 2" in (message or "")
    state, message = await _outcome(world, wanted, tags={"grade": "3"})
    assert state is JobState.SKIPPED and "no file of train has a tag grade" in (message or "")


async def test_the_metric_of_the_latest_attempt_of_that_very_job_decides(database: Database) -> None:
    world = await World.make(database, function(retries=1))
    at_least = {"metric": "accuracy", "op": "GTE", "value": 0.9}
    steps = written(
        {"name": "one"},
        {"name": "two", "needs": []},
        {"name": "after-one", "needs": ["two"], "when": {"step": "one", **at_least}},
        {"name": "after-two", "needs": ["one"], "when": {"step": "two", **at_least}},
    )
    run_id = await world.start(steps)
    first = await world.claim()
    await report(world, first["one"], accuracy=0.1)
    await world.end(first["one"], EndReason.EXIT_CODE)
    await world.wait_out(run_id)
    again = (await world.claim())["one"]
    await report(world, again, accuracy=[0.5, 0.95])
    await world.end(again)
    await report(world, first["two"], accuracy=0.2)  # the last to report: the run's headline value is its
    await world.end(first["two"])
    states = await world.states(run_id)
    assert states["after-one"] is JobState.QUEUED
    assert states["after-two"] is JobState.SKIPPED


async def test_a_step_whose_state_is_asked_for_need_not_succeed(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "train"},
        {"name": "clean", "when": {"step": "train", "state": "FAILED"}},
        {"name": "publish", "needs": ["train"]},
        {"name": "tell", "when": {"any": [{"step": "publish", "state": "SKIPPED"}, GOOD]}},
        {"name": "last", "needs": ["tell", "clean"]},
    )
    run_id = await world.start(steps)
    assert await world.drive({"train": EndReason.EXIT_CODE}) == ["train", "clean"]
    jobs = await world.jobs(run_id)
    assert jobs["clean"].state is JobState.SUCCEEDED
    assert jobs["publish"].message == "it needs train, which is FAILED"
    assert jobs["tell"].state is JobState.SKIPPED  # `train` is asked for its metric, so it must succeed
    assert jobs["last"].message == "it needs tell, which is SKIPPED"
    other = await world.start(steps)
    await world.drive()
    jobs = await world.jobs(other)
    assert jobs["clean"].message == "its condition does not hold: train is SUCCEEDED, wanted = FAILED"
    assert (await world.run(other)).state.value == "SUCCEEDED"


async def test_a_condition_names_steps_there_are(database: Database) -> None:
    world = await World.make(database)
    steps = written({"name": "a"}, {"name": "b", "when": {"not": {"step": "c", "state": "FAILED"}}})
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(steps)
    assert [problem.path for problem in refused.value.problems] == [("steps", "1", "when", "not", "step")]
    found, problems = documents.read_steps([{"name": "a", "function": "m/f", "when": 1, "wen": 2}])
    assert [problem.path for problem in problems] == [("steps", "0", "wen"), ("steps", "0", "when")]
    assert found[0].when is None


async def test_a_step_that_is_skipped_in_that_moment_is_seen_as_skipped(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "train"},
        {"name": "publish"},
        {"name": "tell", "needs": [], "when": {"step": "publish", "state": "SKIPPED"}},
    )
    await world.start(steps)
    assert await world.drive({"train": EndReason.EXIT_CODE}) == ["train", "tell"]
