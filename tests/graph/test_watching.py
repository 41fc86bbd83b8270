"""Following a run: every number once and in order, however often the connection is lost, and filtered."""

import asyncio
import contextlib
import itertools
import secrets
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import columns, feeds, ids, lines, logs, runs
from db.lines import Block
from db.viewers import SUPERVISOR
from graph import live
from rungraph.errors import ApiError
from tests.backends.grounds import eventually
from tests.graph.serving import FOLLOW_RUN, PATIENCE_SECONDS, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
few = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
numbers = itertools.count(1)


class Feed:
    """The feed of a run whose job sleeps, and what is written to it."""

    def __init__(self, server: Server, run: dict[str, Any], feed_id: int) -> None:
        self.server = server
        self.run_id, self.job_id, self.feed_id = str(run["id"]), str(run["jobs"][0]["id"]), feed_id

    async def head(self) -> int:
        return int(
            (await self.server.ask("query ($id: ID!) { run(id: $id) { seq } }", id=self.run_id))["seq"]
        )

    async def write(self, what: str, text: str = "line") -> None:
        if what == "points":
            point = {"name": text, "value": 1.0}
            payload = await self.server.change(
                "logMetrics", "seq", job=self.job_id, producer="p", number=next(numbers), points=[point]
            )
            assert payload["errors"] == []
            return
        job_id = ids.decode("job", self.job_id)
        async with self.server.around.database.begin() as session:
            head = await feeds.lock(session, self.feed_id)
            if what == "lines":
                chunks = lines.pack([Block(1, 1, text.encode())])
                await logs.append(session, head, chunks, logs.Printer(job_id, 1, 0, 0, 0))
            else:
                head.emit(feeds.Subject.JOB, job_id, columns.now(), state="RUNNING", step="step")

    async def through_hub(self, after: int, most: int) -> list[int]:
        """The next numbers, as the hub tells them."""
        seen: list[int] = []
        async with contextlib.aclosing(self.server.around.hub.follow(self.feed_id, after)) as items:
            async for item in items:
                if not isinstance(item, live.Message):
                    break
                seen.append(item.seq)
                if len(seen) == most:
                    break
        return seen

    async def through_socket(self, after: int, most: int) -> list[int]:
        """The next numbers, over a WebSocket that is closed after them."""
        most = min(most, await self.head() - after)
        return [event["seq"] for event in await self.take(FOLLOW_RUN, most, id=self.run_id, after=after)]

    async def take(self, query: str, count: int, **variables: Any) -> list[Any]:
        """The first events of a subscription."""
        if not count:
            return []
        found: list[Any] = []
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            contextlib.aclosing(self.server.client.subscribe(query, variables)) as answers,
        ):
            async for data in answers:
                found += data.values()
                if len(found) == count:
                    break
        return found


@pytest_asyncio.fixture(loop_scope="module")
async def feed(server: Server) -> AsyncIterator[Feed]:
    run = await server.start(await server.pipeline({"step": SLEEP}))
    await server.until(run["id"], "LinesAdded")
    await server.until(run["id"], "JobChanged", jobState="RUNNING")
    query = "query ($id: ID!) { run(id: $id) { id jobs { id } } }"
    async with server.around.database.read() as session:
        row = await runs.get(session, SUPERVISOR, ids.decode("run", run["id"]))
    yield Feed(server, await server.ask(query, id=run["id"]), row.feed_id)
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
    await server.finish(run["id"])


Watch = Callable[[Feed, int, int], Awaitable[list[int]]]
acts = st.lists(
    st.tuples(st.sampled_from(["events", "points", "lines", "watch"]), st.integers(1, 4)), max_size=12
)


@pytest.mark.parametrize("watch", [Feed.through_hub, Feed.through_socket], ids=["hub", "socket"])
async def test_a_watcher_that_comes_and_goes_sees_every_number_once_and_in_order(
    feed: Feed, watch: Watch
) -> None:
    @few
    @given(acts)
    async def property(acts: list[tuple[str, int]]) -> None:
        seen: list[int] = []
        for what, count in acts:
            if what == "watch":
                seen += await watch(feed, len(seen), count)
            for _ in range(0 if what == "watch" else count):
                await feed.write(what)
        head = await feed.head()
        while len(seen) < head:
            seen += await watch(feed, len(seen), 1000)
        assert seen == list(range(1, head + 1))

    await asyncio.to_thread(_run_in, asyncio.get_running_loop(), property)


def _run_in(loop: asyncio.AbstractEventLoop, property: Any) -> None:
    """Hypothesis calls a plain function: each example runs in the loop that has the server."""
    inner = property.hypothesis.inner_test

    def example(*args: Any, **values: Any) -> None:
        asyncio.run_coroutine_threadsafe(inner(*args, **values), loop).result()

    property.hypothesis.inner_test = example
    property()


async def test_watchers_who_write_and_read_at_once_miss_nothing(feed: Feed) -> None:
    async def watch() -> list[int]:
        return [event["seq"] for event in await feed.take(FOLLOW_RUN, start + 40, id=feed.run_id, after=0)]

    start = await feed.head()
    watchers = [asyncio.create_task(watch()) for _ in range(5)]
    for number in range(40):
        await feed.write(["events", "points", "lines"][number % 3])
    for watcher in watchers:
        assert await watcher == list(range(1, start + 41))


async def test_watchers_of_one_feed_share_one_reader(server: Server, feed: Feed) -> None:
    streams = [server.client.subscribe(FOLLOW_RUN, {"id": feed.run_id, "after": 0}) for _ in range(4)]
    for stream in streams:
        await anext(stream)
    assert server.around.hub.readers == 1
    for stream in streams:
        await stream.aclose()

    async def nobody() -> bool:
        return server.around.hub.readers == 0

    await eventually(nobody)


async def test_a_watcher_that_never_reads_costs_no_memory_and_misses_nothing(
    server: Server, feed: Feed
) -> None:
    after = await feed.head()
    stalled = server.around.hub.follow(feed.feed_id, after)
    first = asyncio.ensure_future(anext(stalled))
    await feed.write("lines")
    await first
    tracemalloc.start()
    for _ in range(100):
        await feed.write("lines", secrets.token_urlsafe(150_000))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 12_000_000, "of 20,000,000 that were written"
    head = await feed.head()
    async with asyncio.timeout(20):
        seen = [item.seq async for item in _until_reached(stalled, head)]
    assert seen[-1] == head
    await stalled.aclose()


async def _until_reached(items: AsyncIterator[Any], seq: int) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        if isinstance(item, live.Reached) and item.seq >= seq:
            return


KINDS = """subscription ($id: ID!, $after: Int64, $include: [RunEventKind!]) {
  run(id: $id, after: $after, include: $include) { __typename ... on FeedEvent { seq } } }"""
METRICS = """subscription ($id: ID!, $after: Int64, $names: [String!]) {
  metrics(run: $id, after: $after, names: $names) {
    __typename ... on FeedEvent { seq } ... on PointsAdded { step series { name values } } } }"""
LOGS = """subscription ($id: ID!, $after: Int64) { logs(job: $id, after: $after) {
    __typename ... on FeedEvent { seq } ... on LinesAdded { step lines { text rank attempt stream } } } }"""


@pytest.mark.parametrize(
    ("kind", "name"), [("POINTS", "PointsAdded"), ("LINES", "LinesAdded"), ("STATES", "JobChanged")]
)
async def test_a_stream_has_the_kinds_that_were_asked_for(feed: Feed, kind: str, name: str) -> None:
    after = await feed.head()
    for what in ("events", "points", "lines") * 2:
        await feed.write(what)
    found = await feed.take(KINDS, 2, id=feed.run_id, after=after, include=[kind])
    offset = {"STATES": 1, "POINTS": 2, "LINES": 3}[kind]
    assert [(event["__typename"], event["seq"]) for event in found] == [
        (name, after + offset),
        (name, after + offset + 3),
    ]


async def test_metrics_have_the_names_that_were_asked_for(feed: Feed) -> None:
    after = await feed.head()
    for name in ("loss", "accuracy", "loss"):
        await feed.write("points", name)
    found = await feed.take(METRICS, 2, id=feed.run_id, after=after, names=["loss"])
    series = [{"name": "loss", "values": [1.0]}]
    assert [(event["seq"], event["step"], event["series"]) for event in found] == [
        (after + 1, "step", series),
        (after + 3, "step", series),
    ]


async def test_logs_have_the_lines_of_one_job(feed: Feed) -> None:
    after = await feed.head()
    await feed.write("points")
    await feed.write("lines", "told")
    (found,) = await feed.take(LOGS, 1, id=feed.job_id, after=after)
    line = {"text": "told", "rank": 0, "attempt": 1, "stream": "STDOUT"}
    assert found == {"__typename": "LinesAdded", "seq": after + 2, "step": "step", "lines": [line]}


async def test_a_filtered_stream_tells_how_far_it_has_read(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.events.CURSOR_SECONDS", 0.05)
    after = await feed.head()
    taking = asyncio.create_task(feed.take(KINDS, 1, id=feed.run_id, after=after, include=["POINTS"]))
    await feed.write("lines")
    (found,) = await taking
    assert found == {"__typename": "Cursor", "seq": after + 1}


@pytest.mark.parametrize("query", [FOLLOW_RUN, METRICS, LOGS, KINDS])
@pytest.mark.parametrize("id", ["", "run_x", f"run_{'0' * 26}", f"job_{'0' * 26}"])
async def test_what_is_not_there_is_not_found_and_then_nothing(server: Server, query: str, id: str) -> None:
    stream = server.client.subscribe(query, {"id": id, "after": 0})
    with pytest.raises(ApiError) as refused:
        await anext(stream)
    assert refused.value.code == "NOT_FOUND"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_run_that_has_ended_says_so_from_wherever_it_is_followed(server: Server) -> None:
    run = await server.play("pass")
    feed = Feed(server, run, 0)
    for after in (0, run["seq"] - 1, run["seq"]):
        found = await feed.take(FOLLOW_RUN, run["seq"] - after + 1, id=run["id"], after=after)
        assert [event["seq"] for event in found] == [*range(after + 1, run["seq"] + 1), run["seq"]]
        assert [event["__typename"] == "FeedEnded" for event in found] == [False] * (run["seq"] - after) + [
            True
        ]
    (found,) = await feed.take(FOLLOW_RUN, 1, id=run["id"])
    assert found["__typename"] == "FeedEnded"


async def test_a_wrong_document_is_answered_with_an_error(server: Server) -> None:
    for query in (
        "subscription {",
        "subscription { nothing }",
        "subscription ($id: ID!) { run(id: $id) { seq } }",
    ):
        with pytest.raises(ApiError) as refused:
            await anext(server.client.subscribe(query, {"id": "x"}))
        assert refused.value.code == "INVALID"
