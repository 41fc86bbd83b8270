"""Metrics: every point as it was given, headline values as a model has them, batches kept once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import batches, errors, feeds, headlines, metrics, points
from db.claims import Launch
from db.database import Database
from db.headlines import RunMetric
from db.points import Column, Points
from db.states import EndReason
from tests.db.world import World, few, function, origin_of, points_of

Batch = tuple[list[float], list[int] | None]

numbers = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])
steps = st.integers(-5, 20) | st.integers(-(2**53) + 1, 2**53 - 1)


@st.composite
def given_batches(draw: st.DrawFn) -> Batch:
    values = draw(st.lists(numbers, min_size=1, max_size=6))
    size = len(values)
    return values, draw(st.none() | st.lists(steps, min_size=size, max_size=size))


def column(values: Sequence[float], at: Sequence[int] | None = None, name: str = "loss") -> Column:
    times = np.arange(len(values), dtype=np.int64)
    given = None if at is None else np.array(at, np.int64)
    return Column(name, times, np.array(values, np.float64), given)


async def append(world: World, launch: Launch, *given: Column, rank: int = 0) -> int:
    origin = await origin_of(world, launch, rank)
    async with world.database.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        return await batches.append(session, head, origin, given)


async def read(world: World, launch: Launch, *names: str) -> list[Points]:
    async with world.database.read() as session:
        return await points_of(session, world.viewer, [launch.run_id], names or ["loss"])


async def headline(world: World, launch: Launch, name: str = "loss") -> RunMetric:
    async with world.database.read() as session:
        (found,) = [row for row in await headlines.of_runs(session, [launch.run_id]) if row.name == name]
    return found


async def launched(world: World) -> Launch:
    run_id = await world.start({"a": ()})
    launch = (await world.claim_all())[run_id, "a"]
    await world.begin(launch)
    return launch


@few
@given(given=st.lists(given_batches(), min_size=1, max_size=5))
async def test_a_series_is_read_as_it_was_appended(database: Database, given: list[Batch]) -> None:
    world = await World.make(database)
    launch = await launched(world)
    expected: list[int] = []
    for values, at in given:
        await append(world, launch, column(values, at))
        expected += at or range(len(expected), len(expected) + len(values))
    (found,) = await read(world, launch)
    # Bit for bit: NaN and the sign of zero too.
    packed = np.array([value for values, _ in given for value in values], np.float64)
    assert found.values.tobytes() == packed.tobytes()
    assert found.steps.tolist() == expected
    assert found.times.tolist() == [time for values, _ in given for time in range(len(values))]
    assert (found.step, found.attempt, found.rank, found.name) == ("a", 1, 0, "loss")
    await world.end(launch)


async def test_a_batch_of_several_metrics_has_one_number(database: Database) -> None:
    world = await World.make(database)
    launch = await launched(world)
    first = await append(world, launch, column([1.0], name="b"), column([2.0, 3.0], name="a"))
    second = await append(world, launch, column([4.0], name="a"), column([], name="b"))
    assert second == first + 1
    found = {points.name: points for points in await read(world, launch, "a", "b", "c")}
    assert {name: points.values.tolist() for name, points in found.items()} == {"a": [2, 3, 4], "b": [1]}
    assert {name: points.seq for name, points in found.items()} == {"a": second, "b": first}


async def test_a_batch_without_points_takes_no_number(database: Database) -> None:
    world = await World.make(database)
    launch = await launched(world)
    first = await append(world, launch, column([1.0]))
    await append(world, launch, column([]))
    await append(world, launch)
    assert await append(world, launch, column([2.0])) == first + 1


async def test_each_worker_has_series_of_its_own(database: Database) -> None:
    world = await World.make(database, function(workers=2))
    launch = await launched(world)
    await append(world, launch, column([1.0]), rank=1)
    await append(world, launch, column([2.0]), rank=0)
    assert [(p.rank, p.values.tolist()) for p in await read(world, launch)] == [(0, [2.0]), (1, [1.0])]
    assert (await headline(world, launch)).last == 2.0


@few
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8), most=st.integers(1, 5))
async def test_what_is_new_comes_in_whole_batches(database: Database, sizes: list[int], most: int) -> None:
    world = await World.make(database)
    launch = await launched(world)
    for size in sizes:
        await append(world, launch, *(column([1.0], name=f"m{i}") for i in range(size)))
    seen: dict[int, int] = {}
    after = 0
    while True:
        async with database.read() as session:
            part = (await metrics.since(session, launch.feed_id, after, most=most)).parts
        if not part:
            break
        assert not {one.seq for one in part} & seen.keys()
        for one in part:
            seen[one.seq] = seen.get(one.seq, 0) + 1
        after = max(seen)
    assert list(seen.values()) == sizes and list(seen) == sorted(seen)
    await world.end(launch)


@dataclass
class Model:
    """A headline as its definition has it: of finite values, by (step, order of arrival)."""

    points: list[tuple[int, float]] = field(default_factory=list)

    def add(self, values: Sequence[float], at: Sequence[int]) -> None:
        self.points += [(s, v) for s, v in zip(at, values, strict=True) if math.isfinite(v)]

    def told(self) -> dict[str, float | None]:
        if not self.points:
            return dict.fromkeys(("last", "minimum", "maximum"))
        last = max(enumerate(self.points), key=lambda item: (item[1][0], item[0]))[1]
        low, high = min(v for _, v in self.points), max(v for _, v in self.points)
        return {"last": last[1], "last_step": last[0], "minimum": low, "maximum": high}


@few
@given(given=st.lists(given_batches(), min_size=1, max_size=6))
async def test_a_headline_is_what_its_definition_says(database: Database, given: list[Batch]) -> None:
    world = await World.make(database)
    launch = await launched(world)
    model, count = Model(), 0
    for values, at in given:
        await append(world, launch, column(values, at))
        model.add(values, at or range(count, count + len(values)))
        count += len(values)
        row = await headline(world, launch)
        assert {name: getattr(row, name) for name in model.told()} == model.told()
        for value, at_step in ((row.minimum, row.minimum_step), (row.maximum, row.maximum_step)):
            assert value is None or (at_step, value) in model.points
    await world.end(launch)


async def test_a_new_attempt_begins_the_headline_anew_and_a_late_earlier_one_does_not_touch_it(
    database: Database,
) -> None:
    world = await World.make(database, function(retries=1))
    launch = await launched(world)
    await append(world, launch, column([1.0, 9.0, 5.0]))
    await world.end(launch, EndReason.EXIT_CODE)
    await world.wait_out(launch.run_id)
    again = (await world.claim())["a"]
    assert await read(world, launch) == []
    await append(world, again, column([2.0], [0]))
    await append(world, launch, column([100.0], [50]))
    row = await headline(world, launch)
    assert (row.attempt, row.last, row.minimum, row.maximum) == (2, 2.0, 2.0, 2.0)
    (found,) = await read(world, launch)
    assert (found.attempt, found.values.tolist()) == (2, [2.0])


async def test_the_headline_is_of_the_job_that_reported_last(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ()})
    claimed = await world.claim()
    await append(world, claimed["a"], column([1.0, 2.0]))
    await append(world, claimed["b"], column([7.0]))
    row = await headline(world, claimed["a"])
    assert (row.job_id, row.last, row.minimum) == (claimed["b"].job_id, 7.0, 7.0)
    assert [points.step for points in await read(world, claimed["a"])] == ["a", "b"]
    assert row.run_id == run_id


async def test_a_batch_that_comes_again_is_known(database: Database) -> None:
    world = await World.make(database)
    launch = await launched(world)

    async def log(producer: str, number: int) -> int:
        origin = await origin_of(world, launch)
        async with database.begin() as session:
            head = await feeds.lock(session, launch.feed_id)
            committed = await batches.repeated(session, launch.attempt_id, producer, number)
            if committed is not None:
                return committed
            seq = await batches.append(session, head, origin, [column([float(number)])])
            await batches.remember(session, launch.attempt_id, producer, number, seq)
            return seq

    first, second = await log("p", 1), await log("p", 2)
    assert [await log("p", 2), await log("p", 1)] == [second, second]
    assert await log("q", 1) == second + 1 == first + 2
    (found,) = await read(world, launch)
    assert found.values.tolist() == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ([column([1.0], name="")], "0.name"),
        ([column([1.0]), column([2.0])], "1.name"),
        ([column([1.0], name="x" * 251)], "0.name"),
        ([column([1.0], name="a\0")], "0.name"),
        ([column([1.0], name="\ud800")], "0.name"),
        ([column([1.0], [1, 2])], "0.steps"),
        ([column([1.0], [2**53])], "0.steps"),
        ([column([1.0], [-(2**63)])], "0.steps"),
        ([Column("a", np.arange(2), np.zeros(1))], "0.times"),
    ],
)
def test_what_cannot_be_kept_is_refused_where_it_is(given: list[Column], path: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        points.check(given)
    assert ".".join(refused.value.problems[0].path) == path


def test_a_batch_has_its_limits() -> None:
    points.check([column([1.0], [2**53 - 1]), column([], name="b")])
    with pytest.raises(errors.LimitExceeded):
        points.check([column([0.0], name=str(i)) for i in range(points.MOST_SERIES + 1)])
    with pytest.raises(errors.LimitExceeded):
        points.check([Column("a", np.zeros(1, np.int64), np.zeros(points.MOST_POINTS + 1))])
