"""Runs end as a small model of them says, whatever fails, is cancelled, retried or reused, in whatever order."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import errors
from db.database import Database
from tests.db import model
from tests.db.model import ENDS, File, Key, Try
from tests.db.playing import FUNCTIONS, Play, audit
from tests.db.world import World, written

FILES = ("input.txt", "same.txt")
COMBINATIONS = ({"a": [1, 2]}, {"a": [1], "b": [1, 2]}, {"b": [2, 3]})
METRICS = st.dictionaries(
    st.sampled_from("mn"),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), min_size=1, max_size=3),
    max_size=2,
)
TAGS = st.dictionaries(st.just("t"), st.sampled_from([1, 2, "x", True]))
MOST_RUNS = 3
LONGEST = 150


def _many(count: int) -> settings:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=quiet)


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Steps as their author writes them, each naming earlier ones."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 5))):
        step: dict[str, Any] = {"name": f"s{index}", "function": draw(st.sampled_from(sorted(model.RETRIES)))}
        step["needs"] = (
            draw(st.lists(st.sampled_from(range(index)), max_size=2, unique=True)) if index else []
        )
        step["needs"] = [f"s{need}" for need in sorted(step["needs"])]
        if draw(st.integers(0, 2)) == 0:
            step["matrix"] = draw(st.sampled_from(COMBINATIONS))
        elif draw(st.integers(0, 3)) == 0:
            step["arguments"] = {"a": draw(st.integers(0, 1))}
        if draw(st.booleans()):
            step["cache"] = True
        if draw(st.integers(0, 2)) == 0:
            step["inputs"] = draw(st.lists(_selections(steps), min_size=1, max_size=2))
        if steps and draw(st.integers(0, 1)) == 0:
            step["when"] = draw(_conditions(steps))
        steps.append(step)
    return steps


def _sources(steps: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A step, or those of its jobs that have a value; now and then one that none has."""
    value = st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, 1, 2, 2, 3]), min_size=1, max_size=2)
    either = [{"step": step["name"]} for step in steps]
    varied = [one for one, step in zip(either, steps, strict=True) if "matrix" in step]
    narrowed = st.builds(lambda one, of: {**one, "matrix": of}, st.sampled_from(varied or either), value)
    return st.sampled_from(either) | narrowed if varied else st.sampled_from(either)


def _selections(steps: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    globs = st.sampled_from(["*", "s*", "same*"])
    own = st.builds(lambda files: {"files": files}, globs)
    if not steps:
        return own
    build = lambda one, files, prefix: {**one, "files": files, "prefix": prefix}  # noqa: E731
    return own | st.builds(build, _sources(steps), globs, st.booleans())


def _conditions(steps: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    jobs, value = st.sampled_from(["EVERY", "ANY"]), st.sampled_from([0.0, 1, 2])
    of, ops = st.sampled_from(["LAST", "MIN", "MAX"]), st.sampled_from(sorted(model.COMPARE))
    metric = st.fixed_dictionaries({"metric": st.sampled_from("mn"), "of": of, "op": ops, "value": value})
    tag = st.fixed_dictionaries({"tag": st.just("t"), "op": ops, "value": st.sampled_from([1, 2])})
    word = {"tag": st.just("t"), "op": st.sampled_from(["EQ", "NE"]), "value": st.sampled_from(["x", True])}
    state = st.fixed_dictionaries(
        {"state": st.sampled_from(sorted(ENDS)), "op": st.sampled_from(["EQ", "NE"])}
    )
    leaf = st.builds(
        lambda said, one, jobs: {**one, **said, "jobs": jobs},
        metric | tag | st.fixed_dictionaries(word) | state | state,
        _sources(steps),
        jobs,
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
            inner.map(lambda part: {"not": part}),
        ),
        max_leaves=3,
    )


def _is_refused(steps: list[dict[str, Any]]) -> bool:
    """Whether anything names jobs of a matrix that it does not make."""
    jobs = model.expand(steps)
    named = [one for step in steps for one in (*step.get("inputs", ()), *model.leaves(step.get("when")))]
    return any("step" in one and not model.meant(jobs, one) for one in named)


def _script(data: st.DataObject, key: Key, at: int) -> Try:
    """How an attempt goes: mostly well."""
    reasons = ["COMPLETED"] * 6 + ["EXIT_CODE"] * 3 + ["LOST", "LOST", "BAD_OUTPUT", "TIMED_OUT"]
    reasons += ["OUT_OF_MEMORY", "PREEMPTED", "IMAGE_UNAVAILABLE"]
    names = data.draw(st.lists(st.sampled_from(["own", "own", "same.txt"]), max_size=2, unique=True))
    files = [
        File(
            (key[0], f"{key[1]}#{at}"),
            number,
            name if name != "own" else f"{key[1].partition('[')[0]}.bin",
            data.draw(st.sampled_from("ab")) * 64,
            tuple(data.draw(TAGS).items()),
        )
        for number, name in enumerate(names)
    ]
    return Try(at, data.draw(st.sampled_from(reasons)), data.draw(METRICS), files)


async def _play(database: Database, steps: list[dict[str, Any]], data: st.DataObject) -> None:
    """Start, claim, begin, end, cancel and retry as it comes; in the end, everything ends."""
    if _is_refused(steps):
        world = await World.make(database, *FUNCTIONS)
        with pytest.raises(errors.Invalid):
            await world.draw(written(*steps))
        return
    play = await Play.anew(database, FILES)
    await _start(play, steps, data)
    for left in reversed(range(LONGEST)):
        can = _possible(play, left)
        if not can:
            break
        what = data.draw(st.sampled_from(can))
        number = data.draw(st.integers(0, len(play.runs) - 1)) if what in ("cancel", "retry") else 0
        if what == "claim":
            await play.claim(data.draw(st.integers(1, 4)), lambda key, at: _script(data, key, at))
        elif what == "begin":
            await play.begin(data.draw(st.sampled_from(play.standing("STARTING"))))
        elif what == "end":
            await play.end(data.draw(st.sampled_from(play.standing("STARTING", "RUNNING", "CANCELLING"))))
        elif what == "cancel":
            await play.cancel(number)
        elif what == "retry":
            await play.retry(number, data.draw(st.booleans()))
        elif what == "start":
            await _start(play, steps, data)
        else:
            break
    for number in range(len(play.runs)):
        await audit(play, number)


def _possible(play: Play, left: int) -> list[str]:
    """What can be done next; what brings the end nearer comes first, and alone once there were many turns."""
    can = ["end"] * 3 if play.standing("STARTING", "RUNNING", "CANCELLING") else []
    can += ["claim"] * 2 if play.standing("QUEUED") else []
    can = can or ["stop"]
    if left < LONGEST // 3:
        return can
    can += ["begin"] * 2 if play.standing("STARTING") else []
    return [*can, *(["retry", "retry", "start"] if len(play.runs) < MOST_RUNS else []), "cancel"]


async def _start(play: Play, steps: list[dict[str, Any]], data: st.DataObject) -> None:
    files = data.draw(st.lists(st.sampled_from(FILES), max_size=2, unique=True))
    fail_fast, cache = data.draw(st.booleans()), data.draw(st.sampled_from([True, True, False]))
    await play.start(steps, files, fail_fast=fail_fast, cache=cache)


@_many(20)
@given(graphs(), st.data())
async def test_runs_stand_as_the_model_says_at_every_moment(
    sqlite: Database, steps: list[dict[str, Any]], data: st.DataObject
) -> None:
    await _play(sqlite, steps, data)


@_many(5)
@given(graphs(), st.data())
async def test_they_do_on_postgresql(
    postgresql: Database, steps: list[dict[str, Any]], data: st.DataObject
) -> None:
    await _play(postgresql, steps, data)


@pytest.mark.slow
@_many(300)
@given(graphs(), st.data())
async def test_many_runs_stand_as_the_model_says(
    database: Database, steps: list[dict[str, Any]], data: st.DataObject
) -> None:
    await _play(database, steps, data)
