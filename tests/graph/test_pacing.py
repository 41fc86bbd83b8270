"""Points at a watcher's pace: fewer messages, never fewer points than it asked for, and nothing else held back."""

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest

from graph import pacing
from rungraph.errors import ApiError
from tests.graph.serving import Server
from tests.graph.test_sharing import endpoint
from tests.graph.test_watching import Feed, feed, numbers

__all__ = ["feed"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

METRICS = """subscription ($id: ID!, $after: Int64, $names: [String!], $hz: Float, $most: Int) {
  metrics(run: $id, after: $after, names: $names, maxHz: $hz, maxPoints: $most) { __typename ... on FeedEvent { seq }
    ... on PointsAdded { step series { step name count steps values nonFinite { index } } } } }"""
RUN = """subscription ($id: ID!, $after: Int64, $hz: Float) { run(id: $id, after: $after, maxHz: $hz) {
    __typename ... on FeedEvent { seq } ... on PointsAdded { series { steps } } } }"""


async def log(feed: Feed, values: list[Any], name: str = "loss", **more: Any) -> int:
    """A batch whose steps are those that no other has; its number."""
    first = next(numbers) * 100_000
    series = [{"name": name, "values": values, "steps": [first + n for n in range(len(values))], **more}]
    payload = await feed.server.change(
        "logMetrics", "seq", job=feed.job_id, producer="paced", number=next(numbers), series=series
    )
    assert payload["errors"] == []
    return int(payload["seq"])


async def take_until(feed: Feed, query: str, seq: int, **variables: Any) -> list[Any]:
    """The events of a subscription up to a number."""
    found: list[Any] = []
    async with (
        asyncio.timeout(20),
        aclosing(feed.server.client.subscribe(query, {"id": feed.run_id, **variables})) as answers,
    ):
        async for data in answers:
            found += data.values()
            if found[-1]["seq"] >= seq:
                break
    return found


def values_of(events: list[Any]) -> list[Any]:
    return [value for event in events for one in event.get("series", ()) for value in one["values"]]


async def test_points_of_a_while_are_told_together(feed: Feed) -> None:
    after = await feed.head()
    watching = asyncio.create_task(take_until(feed, METRICS, after + 40, after=after, hz=2.0))
    for number in range(40):
        await log(feed, [float(number)])
    began = asyncio.get_running_loop().time()
    told = await watching
    assert values_of(told) == [float(number) for number in range(40)]
    assert len([event for event in told if event["__typename"] == "PointsAdded"]) <= 12
    assert asyncio.get_running_loop().time() - began < 2
    assert [series["step"] for event in told for series in event.get("series", ())] == ["step"] * sum(
        len(event.get("series", ())) for event in told
    )


async def test_states_and_lines_are_never_held_back_nor_overtake_points(feed: Feed) -> None:
    after = await feed.head()
    watching = asyncio.create_task(take_until(feed, RUN, after + 12, after=after, hz=0.1))
    began = asyncio.get_running_loop().time()
    for what in ("points", "points", "events", "points", "lines", "points") * 2:
        await feed.write(what)
    await feed.write("events")
    told = await watching
    assert asyncio.get_running_loop().time() - began < 5  # though points may wait for ten seconds
    seqs = [event["seq"] for event in told]
    assert seqs == sorted(set(seqs))
    others = [event["seq"] - after for event in told if event["__typename"] != "PointsAdded"]
    assert others[:4] == [3, 5, 9, 11]
    assert sum(len(s["steps"]) for event in told for s in event.get("series", ())) == 8


async def test_who_resumes_amid_points_that_others_get_together_gets_only_the_rest(
    server: Server, feed: Feed
) -> None:
    after = await feed.head()
    whole = [
        asyncio.create_task(take_until(feed, METRICS, after + 30, after=after, hz=1.0)) for _ in range(3)
    ]
    chance = random.Random(3)
    late = []
    for number in range(30):
        if number and number % 5 == 0:
            cursor = after + chance.randrange(number)
            resumed = take_until(feed, METRICS, after + 30, after=cursor, hz=1.0)
            late.append((cursor - after, asyncio.create_task(resumed)))
            await asyncio.sleep(0.1)
            assert endpoint(server).topics.count == 1  # nobody can be done before the last point
        await log(feed, [float(number)])
    for watching in whole:
        assert values_of(await watching) == [float(number) for number in range(30)]
    for seen, resuming in late:
        assert values_of(await resuming) == [float(number) for number in range(seen, 30)]


async def test_most_points_keep_the_least_the_greatest_and_the_last(feed: Feed) -> None:
    chance = random.Random(5)
    values = [chance.uniform(-1, 1) for _ in range(5000)]
    values[1234], values[4321] = 9.0, -9.0
    after = await feed.head()
    seq = await log(feed, values)
    (event,) = await take_until(feed, METRICS, seq, after=after, most=40)
    (series,) = event["series"]
    assert series["count"] == 5000
    assert len(series["values"]) <= 40
    assert {9.0, -9.0} <= set(series["values"])
    assert series["values"][-1] == values[-1]
    kept = [values[step % 100_000] for step in series["steps"]]
    assert kept == series["values"]


async def test_few_points_are_told_as_they_are(feed: Feed) -> None:
    after = await feed.head()
    seq = await log(feed, [1.0, None, 3.0], nonFinite=[{"index": 1, "kind": "NAN"}])
    (event,) = await take_until(feed, METRICS, seq, after=after, most=4, hz=60.0)
    (series,) = event["series"]
    assert (series["count"], series["values"], series["nonFinite"]) == (3, [1.0, None, 3.0], [{"index": 1}])


async def test_what_is_held_is_bounded(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "HELD_BYTES", 24 * 1000)
    after = await feed.head()
    for most in (None, 8):
        watching = asyncio.create_task(take_until(feed, METRICS, after + 20, after=after, hz=0.1, most=most))
        seqs = [await log(feed, [1.0] * 500) for _ in range(20)] if most is None else []
        assert not seqs or seqs[-1] == after + 20
        told = await watching
        counts = [series["count"] for event in told for series in event["series"]]
        assert sum(counts) == 10_000
        assert max(counts) <= 1500 if most is None else len(told) <= 2


@pytest.mark.parametrize(
    ("argument", "value"), [("hz", 0.0), ("hz", 61.0), ("hz", -1.0), ("most", 3), ("most", 100_001)]
)
async def test_a_pace_that_cannot_be_kept_is_refused(feed: Feed, argument: str, value: float) -> None:
    with pytest.raises(ApiError) as refused:
        await take_until(feed, METRICS, 1, after=0, **{argument: value})
    assert refused.value.code == "INVALID"
    assert "from" in str(refused.value)
