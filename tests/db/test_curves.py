"""Reading series: extremes are never lost, and the answer is the same however the points lie."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from backends.compactor import Compactor
from db import (
    batches,
    compaction,
    curves,
    downsampling,
    errors,
    feeds,
    merging,
    stretches,
    summaries,
)
from db.claims import Launch
from db.curves import Curve, Wanted, X
from db.database import Database
from db.downsampling import Placed
from db.feeds import Feed
from db.merging import Aggregate
from db.points import Column, Points
from db.states import EndReason
from tests.db.world import ROOMY, World, few, function, origin_of

numbers = st.floats(-5, 5) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Picks, blocks and windows that a few points fill."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (downsampling, stretches, curves):
            patch.setattr(module, "CELLS", (2, 4, 8))
        patch.setattr(summaries, "CELLS", (2, 4, 8))
        patch.setattr(summaries, "BLOCK", 8)
        patch.setattr(summaries, "LEAST_POINTS", 8)
        patch.setattr(summaries, "_PIECE", 16)
        patch.setattr(compaction, "MOST_POINTS", 20)
        yield


class Life:
    """A run whose workers report `loss`, and who reads it."""

    def __init__(self, world: World, launch: Launch) -> None:
        self.world = world
        self.launch = launch

    async def report(self, values: Sequence[float], steps: Sequence[int], rank: int = 0, at: int = 0) -> None:
        """A batch, whose times are the steps times ten, and `at`."""
        origin = await origin_of(self.world, self.launch, rank)
        given = np.array(steps, np.int64)
        column = Column("loss", given * 10 + at, np.array(values, np.float64), given)
        async with self.world.database.begin() as session:
            head = await feeds.lock(session, self.launch.feed_id)
            await batches.append(session, head, origin, [column])

    async def end(self) -> None:
        """As far as compaction is concerned."""
        async with self.world.database.begin() as session:
            await session.execute(update(Feed).where(Feed.id == self.launch.feed_id).values(ended=True))

    async def compact(self) -> None:
        """As it is done beside live load."""
        await Compactor(self.world.database).step()

    async def read(self, **wanted: Any) -> list[Curve]:
        """The series of this run."""
        asked = Wanted([self.launch.run_id], ["loss"], **wanted)
        async with self.world.database.read() as session:
            return await curves.read(session, self.world.viewer, asked)


async def begun(database: Database, workers: int = 1, **values: Any) -> Life:
    world = await World.make(database, function(workers=workers, **values), **ROOMY)
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    return Life(world, launch)


def definition(values: Sequence[float], steps: Sequence[int], wanted: dict[str, Any]) -> tuple[Placed, int]:
    """What is to be read, from all points at once; and how many they stand for."""
    at = np.array(steps, np.int64)
    whole = Placed(np.arange(len(values)), at, at * 10, np.array(values, np.float64))
    over = whole.times if wanted.get("x") is X.TIME else whole.steps
    first, last = wanted.get("first"), wanted.get("last")
    inside = np.ones(len(over), bool)
    inside &= over >= (first if first is not None else -(2**60))
    inside &= over <= (last if last is not None else 2**60)
    kept = whole.at(inside)
    most = wanted.get("most")
    if most is None or len(kept.positions) <= most:
        return kept, len(kept.positions)
    spans = downsampling.spans(kept)
    for parts in (3, 4):
        picked = kept.picked(downsampling.fitting(spans, max(most // parts, 1)))
        if len(picked.positions) <= most:
            break
    return picked, len(kept.positions)


def shown(curve: Curve) -> tuple[list[int], list[int], bytes]:
    points = curve.points
    return points.steps.tolist(), points.times.tolist(), points.values.tobytes()


asked: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "most": st.integers(4, 60),
        "x": st.sampled_from([X.STEP, X.TIME]),
        "first": st.integers(-5, 120),
        "last": st.integers(60, 900),
    },
)


@few
@given(data=st.data(), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8))
async def test_what_is_read_depends_on_the_points_alone(
    database: Database, data: st.DataObject, sizes: list[int]
) -> None:
    life = await begun(database)
    total = sum(sizes)
    values = data.draw(st.lists(numbers, min_size=total, max_size=total))
    in_order = data.draw(st.booleans())
    steps = (
        list(range(total))
        if in_order
        else data.draw(st.lists(st.integers(0, 99), min_size=total, max_size=total))
    )
    begin = 0
    for size in sizes:
        await life.report(values[begin : begin + size], steps[begin : begin + size])
        begin += size
        if data.draw(st.booleans()):
            await life.compact()
    for ends in (False, True):
        if ends:
            await life.end()
            await life.compact()
        wanted = data.draw(asked)
        if wanted.get("first", 0) > wanted.get("last", 900):
            del wanted["last"]
        expected, count = definition(values, steps, wanted)
        (curve,) = await life.read(**wanted)
        assert shown(curve) == (
            expected.steps.tolist(), expected.times.tolist(), expected.values.tobytes()
        )  # fmt: skip
        assert curve.total == count and (curve.bucket == 1) is (len(expected.positions) == count)
        assert len(curve.points.values) <= wanted.get("most", count)
    await life.world.end(life.launch)


async def test_holes_that_make_buckets_larger_are_drawn_from_picks_that_serve_these(
    database: Database,
) -> None:
    """Buckets of 8 would do but for the holes: those of 12 cannot be put together from picks of 8."""
    life = await begun(database)
    values = [3.0, -7.0, 6.0, 1.0, 2.0, math.inf, 0.0, 4.0] * 13 + [1.0, 2.0]
    await life.report(values, range(106))
    await life.end()
    await life.compact()
    expected, _ = definition(values, range(106), {"most": 47})
    (curve,) = await life.read(most=47)
    assert curve.bucket == 12 and shown(curve)[0] == expected.steps.tolist()


@few
@given(values=st.lists(numbers, min_size=1, max_size=200), most=st.integers(4, 50))
async def test_extremes_the_last_and_holes_are_kept(
    database: Database, values: list[float], most: int
) -> None:
    life = await begun(database)
    await life.report(values, range(len(values)))
    (curve,) = await life.read(most=most)
    found = curve.points.values
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        kept = found[np.isfinite(found)]
        assert (kept.min(), kept.max()) == (min(finite), max(finite))
    assert found[-1:].tobytes() == np.array(values[-1:]).tobytes()
    for start in range(0, len(values), curve.bucket):
        bucket = values[start : start + curve.bucket]
        of = (curve.points.steps >= start) & (curve.points.steps < start + curve.bucket)
        assert np.isfinite(bucket).all() == np.isfinite(found[of]).all(), "a hole stays visible"
    await life.world.end(life.launch)


async def test_relative_times_count_from_the_attempts_start(database: Database) -> None:
    life = await begun(database)
    await life.report([1.0], [0])
    (curve,) = await life.read()
    await life.report([2.0, 3.0, 4.0], [1, 2, 3], at=curve.origin)
    (curve,) = await life.read(x=X.RELATIVE_TIME, first=10, last=20)
    assert curve.points.values.tolist() == [2.0, 3.0]


async def test_ranks_and_attempts_are_chosen(database: Database) -> None:
    life = await begun(database, workers=3, retries=1)
    for rank in range(3):
        await life.report([float(rank)], [0], rank)
    assert [curve.ranks for curve in await life.read()] == [(0,), (1,), (2,)]
    assert [curve.ranks for curve in await life.read(ranks=frozenset({2, 7}))] == [(2,)]
    await life.world.end(life.launch, EndReason.EXIT_CODE)
    await life.world.wait_out(life.launch.run_id)
    again = Life(life.world, (await life.world.claim())["a"])
    await again.report([9.0], [0])
    assert [curve.points.attempt for curve in await life.read()] == [2]
    found = await life.read(attempts=frozenset({1, 2}), ranks=frozenset({0}))
    assert [(curve.points.attempt, curve.points.values.tolist()) for curve in found] == [
        (1, [0.0]),
        (2, [9.0]),
    ]


@pytest.mark.parametrize(
    ("by", "values"),
    [
        (Aggregate.MEAN, [2.0, 2.0, 7.0, math.nan]),
        (Aggregate.MIN, [1.0, 2.0, 7.0, math.nan]),
        (Aggregate.MAX, [3.0, 2.0, 7.0, math.nan]),
        (Aggregate.SUM, [4.0, 2.0, 7.0, math.nan]),
    ],
)
async def test_workers_are_put_together_step_by_step(
    database: Database, by: Aggregate, values: list[float]
) -> None:
    life = await begun(database, workers=2)
    await life.report([1.0, 5.0, 2.0, math.nan], [0, 1, 1, 5])
    await life.report([3.0, 7.0], [0, 3], rank=1, at=1)
    await life.compact()
    (curve,) = await life.read(aggregate=by)
    assert (curve.points.steps.tolist(), curve.ranks) == ([0, 1, 3, 5], (0, 1))
    assert np.array_equal(curve.points.values, values, equal_nan=True)
    assert curve.points.times.tolist() == [1, 10, 31, 50]


async def test_what_is_put_together_is_downsampled_then(database: Database) -> None:
    life = await begun(database, workers=2)
    for rank in range(2):
        await life.report([float(rank * n) for n in range(100)], range(100), rank)
    (curve,) = await life.read(aggregate=Aggregate.SUM, most=12)
    assert len(curve.points.values) <= 12 and curve.total == 100 and curve.bucket > 1
    assert (curve.points.values.min(), curve.points.values.max()) == (0.0, 99.0)


@pytest.mark.parametrize(("wanted", "path"), [({"most": 3}, "maxPoints"), ({"first": 2, "last": 1}, "range")])
async def test_what_cannot_be_read_is_refused(database: Database, wanted: dict[str, Any], path: str) -> None:
    life = await begun(database)
    with pytest.raises(errors.Invalid) as refused:
        await life.read(**wanted)
    assert refused.value.problems[0].path == (path,)


async def test_more_points_than_an_answer_may_have_are_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 10)
    life = await begun(database)
    await life.report([1.0] * 11, range(11))
    for wanted in ({}, {"first": 0}, {"aggregate": Aggregate.MEAN, "most": 4}):
        with pytest.raises(errors.LimitExceeded):
            await life.read(**wanted)
    assert len((await life.read(most=6))[0].points.values) <= 6
    assert len((await life.read(first=1))[0].points.values) == 10


def test_merging_nothing_gives_nothing() -> None:
    none = np.empty(0, np.int64)
    points = Points(b"", b"", "", 1, 0, "", 0, none, none, np.empty(0))
    for given_points in ([], [points], [points, replace(points, rank=1)]):
        assert len(merging.merge(given_points, Aggregate.MEAN).positions) == 0
