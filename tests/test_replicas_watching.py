"""Two servers on one PostgreSQL and one Redis: what is written on one is watched on the other, whatever dies.

The watchers are bare subscriptions: what they note is what was sent, not what a client makes of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from rungraph.api import Client
from rungraph.errors import ClientError
from tests.brokers import Redis
from tests.processes import Server, serving, until
from tests.test_replicas import copy_keys

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = 10
POLL_SECONDS = 2
CREATE = """mutation ($input: CreateRunInput!) { createRun(input: $input) {
  run { id seq jobs { id } } errors { message } } }"""
LOG = """mutation ($input: LogMetricsInput!) { logMetrics(input: $input) { seq duplicate errors { message } } }"""
FINISH = """mutation ($input: FinishRunInput!) { finishRun(input: $input) { errors { message } } }"""
RUN = """subscription ($id: ID!, $after: Int64) { run(id: $id, after: $after) {
  __typename ... on FeedEvent { seq } ... on PointsAdded { series { steps } } } }"""
METRICS = """subscription ($id: ID!, $after: Int64) { metrics(run: $id, after: $after, names: ["loss"]) {
  __typename ... on FeedEvent { seq } ... on PointsAdded { series { steps } } } }"""


class Writer:
    """Writes a point under the next number, wherever it is told to."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.written: dict[int, float] = {}

    async def write(self, client: Client, count: int, *, a_second: float = 50) -> None:
        for _ in range(count):
            step = len(self.written)
            point = {"name": "loss", "value": 0.5, "step": step}
            batch = {"job": self.job, "producer": "p", "number": step + 1, "points": [point]}
            told = (await client.execute(LOG, {"input": batch}))["logMetrics"]
            assert told["errors"] == []
            self.written[step] = time.monotonic()
            await asyncio.sleep(1 / a_second)


class Watcher:
    """A subscription that is opened again after the last number that came, somewhere else if need be."""

    def __init__(self, query: str, run: str) -> None:
        self.query = query
        self.run = run
        self.seqs: list[int] = []
        self.steps: dict[int, float] = {}
        self.ended = False
        self.client: Client | None = None

    async def watch(self) -> None:
        while not self.ended:
            assert self.client is not None
            after = self.seqs[-1] if self.seqs else 0
            try:
                async with aclosing(
                    self.client.subscribe(self.query, {"id": self.run, "after": after})
                ) as answers:
                    async for data in answers:
                        self._note(*data.values())
            except ClientError:
                await asyncio.sleep(0.05)

    def _note(self, event: dict[str, Any]) -> None:
        if event["__typename"] == "FeedEnded":
            self.ended = True
            return
        if event["__typename"] == "Cursor":
            return
        self.seqs.append(event["seq"])
        for series in event.get("series", ()):
            for step in series["steps"]:
                assert step not in self.steps, f"step {step} came twice"
                self.steps[step] = time.monotonic()

    def has(self, writer: Writer) -> bool:
        return self.steps.keys() >= writer.written.keys()

    def delay(self, writer: Writer, first: int) -> float:
        """The longest that a point took, from the first of these on."""
        return max(at - writer.written[step] for step, at in self.steps.items() if step >= first)


@pytest.fixture
async def pair(
    tmp_path: Path, postgresql_url: str, redis_server: Redis
) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers of one database, with hints by Redis."""
    shared = {
        "RUNGRAPH_FILES_URL": str(tmp_path / "contents"),
        "RUNGRAPH_BROADCAST_URL": redis_server.url,
    }
    async with serving(tmp_path / "a", postgresql_url, **shared) as a:
        copy_keys(a.home, tmp_path / "b")
        async with serving(tmp_path / "b", postgresql_url, **shared) as b:
            yield a, b


async def test_what_is_written_on_one_is_watched_on_the_other_through_every_loss(
    pair: tuple[Server, Server], redis_server: Redis
) -> None:
    a, b = pair
    async with a.client() as on_a, b.client() as on_b:
        run = (await on_b.execute(CREATE, {"input": {"name": "elsewhere"}}))["createRun"]["run"]
        writer = Writer(run["jobs"][0]["id"])
        watchers = [Watcher(query, run["id"]) for query in (RUN, RUN, METRICS)]
        for watcher in watchers:
            watcher.client = on_a
        watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]

        await writer.write(on_b, 1)
        await _all(watchers, writer)
        await writer.write(on_b, 50)
        await _all(watchers, writer)
        assert max(watcher.delay(writer, 1) for watcher in watchers) < POLL_SECONDS, "hints do not arrive"

        redis_server.kill()
        began = len(writer.written)
        outage = time.monotonic() + OUTAGE_SECONDS
        await writer.write(on_b, 5 * (OUTAGE_SECONDS - 3), a_second=5)
        await _all(watchers, writer)  # Redis is still gone: the poll bridges its loss
        assert max(watcher.delay(writer, began) for watcher in watchers) < 2 * POLL_SECONDS + 1
        await asyncio.sleep(max(0.0, outage - time.monotonic()))
        redis_server.start()
        await until(
            lambda: "bus connected again" in a.told() and "bus connected again" in b.told(), "the bus"
        )
        began = len(writer.written)
        await writer.write(on_b, 50)
        await _all(watchers, writer)
        assert max(watcher.delay(writer, began) for watcher in watchers) < POLL_SECONDS, "hints are not back"

        writing = asyncio.create_task(writer.write(on_b, 50))
        await asyncio.sleep(0.3)
        for watcher in watchers:
            watcher.client = on_b
        a.kill()
        await writing
        await _all(watchers, writer)
        ended = await on_b.execute(FINISH, {"input": {"job": writer.job, "state": "SUCCEEDED"}})
        assert ended["finishRun"]["errors"] == []
        async with asyncio.timeout(30):
            await asyncio.gather(*watching)
    for watcher in watchers[:2]:
        assert watcher.seqs == list(range(1, watcher.seqs[-1] + 1))
    for watcher in watchers:
        assert watcher.seqs == sorted(set(watcher.seqs))
        assert list(watcher.steps) == sorted(writer.written)


async def _all(watchers: list[Watcher], writer: Writer) -> None:
    await until(
        lambda: all(watcher.has(writer) for watcher in watchers), "the watchers have all that was written"
    )
