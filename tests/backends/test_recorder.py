"""The recorder: what waits together is committed together, each below its feed in the order it came."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from backends.recorder import Recorder
from backends.tenure import Tenure
from db.database import Database, Transaction
from db.leases import Supervisor
from tests.backends.conftest import hinting
from tests.db.world import World

Written = list[tuple[str, tuple[str, ...]]]


class Pen:
    """Two kinds of reports, and what was written at once."""

    def __init__(self) -> None:
        self.written: Written = []
        self.spoilt = ""

    async def begun(self, _session: Transaction, _lease: Supervisor, given: Sequence[str]) -> list[str]:
        return self._write("begun", given)

    async def ended(self, _session: Transaction, _lease: Supervisor, given: Sequence[str]) -> list[str]:
        return self._write("ended", given)

    def _write(self, kind: str, given: Sequence[str]) -> list[str]:
        if self.spoilt in given:
            raise ValueError(self.spoilt)
        self.written.append((kind, tuple(given)))
        return [word.upper() for word in given]


class Noted(Database):
    """A database that notes of each transaction whether its commit leaves the loop to others."""

    asides: ClassVar[list[bool]] = []

    @asynccontextmanager
    async def begin(self, *, aside: bool = False) -> AsyncIterator[Transaction]:
        self.asides.append(aside)
        async with super().begin(aside=aside) as session:
            yield session


async def _feeds(world: World, count: int) -> list[int]:
    ids = [await world.start({"a": ()}) for _ in range(count)]
    return [(await world.run(run_id)).feed_id for run_id in ids]


async def test_reports_of_a_kind_are_written_together_and_none_before_another_of_its_feed(
    database: Database,
) -> None:
    world, pen = await World.make(database), Pen()
    recorder = Recorder(database, Tenure(world.supervisor, Tenure.asking()))
    a, b, c = await _feeds(world, 3)
    begun, ended = pen.begun, pen.ended
    reports = [
        recorder.report(a, begun, "a begins"),
        recorder.report(a, ended, "a ends"),
        recorder.report(b, begun, "b begins"),
        recorder.report(c, ended, "c ends"),
        recorder.report(b, ended, "b ends"),
        recorder.report(a, begun, "a begins again"),
    ]
    working = asyncio.create_task(recorder.run())
    answers = await asyncio.gather(*reports)
    working.cancel()
    assert answers == ["A BEGINS", "A ENDS", "B BEGINS", "C ENDS", "B ENDS", "A BEGINS AGAIN"]
    assert pen.written == [
        ("begun", ("a begins", "b begins")),
        ("ended", ("a ends", "c ends", "b ends")),
        ("begun", ("a begins again",)),
    ]


async def test_a_report_that_cannot_be_written_fails_no_other(database: Database) -> None:
    world, pen = await World.make(database), Pen()
    pen.spoilt = "spoilt"
    recorder = Recorder(database, Tenure(world.supervisor, Tenure.asking()))
    a, b = await _feeds(world, 2)
    reports = [recorder.report(feed, pen.begun, word) for feed, word in ((a, "one"), (b, "spoilt"))]
    working = asyncio.create_task(recorder.run())
    one, other = await asyncio.gather(*reports, return_exceptions=True)
    working.cancel()
    assert one == "ONE" and isinstance(other, ValueError)


async def test_the_commit_of_reports_leaves_the_loop_to_who_is_answered(database_url: str) -> None:
    async with hinting(Noted, database_url) as database:
        world, pen = await World.make(database), Pen()
        (feed,) = await _feeds(world, 1)
        recorder = Recorder(database, Tenure(world.supervisor, Tenure.asking()))
        Noted.asides.clear()
        working = asyncio.create_task(recorder.run())
        assert await recorder.report(feed, pen.begun, "one") == "ONE"
        working.cancel()
    assert Noted.asides == [True]
