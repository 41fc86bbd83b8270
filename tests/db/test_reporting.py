"""What code reports of itself: once, of a job that runs, under that job's own token."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from db import errors, room
from db.claims import Launch
from db.database import Database
from db.ingest import Ingest
from db.metrics import Series
from db.points import Column
from db.reporting import Batch
from db.viewers import Kind, Viewer
from tests.db import world as world_of
from tests.db.world import World, points_of


async def _launched(database: Database) -> tuple[World, Launch]:
    world = await World.make(database)
    await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.begin(launch)
    return world, launch


def _token(launch: Launch, **values: Any) -> Viewer:
    """The viewer that a job's own token makes."""
    own = {"run_id": launch.run_id, "job_id": launch.job_id, "attempt": launch.number}
    return Viewer(Kind.JOB, **{**own, **values})


async def _log(
    world: World, launch: Launch, values: Sequence[float], number: int = 1, **given: Any
) -> tuple[int, bool]:
    viewer, producer = given.get("viewer", _token(launch)), given.get("producer", "p")
    column = Column("loss", np.zeros(len(values), np.int64), np.array(values, np.float64))
    batch = Batch(viewer, launch.job_id, given.get("rank", 0), producer, number, [column])
    return await Ingest(world.database).add(batch)


async def _kept(world: World, launch: Launch) -> list[float]:
    async with world.database.read() as session:
        found = await points_of(session, world.viewer, [launch.run_id], ["loss"])
    return [value for points in found for value in points.values.tolist()]


async def test_a_batch_is_kept_once_however_often_it_is_sent(database: Database) -> None:
    world, launch = await _launched(database)
    first, _ = await _log(world, launch, [1.0, 2.0])
    assert await _log(world, launch, [1.0, 2.0]) == (first, True)
    assert await _log(world, launch, [3.0], number=2) == (first + 1, False)
    assert await _log(world, launch, [4.0], producer="q", viewer=world.viewer) == (first + 2, False)
    assert await _kept(world, launch) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"producer": ""}, errors.Invalid),
        ({"producer": "a\0"}, errors.Invalid),
        ({"producer": "\ud800"}, errors.Invalid),
        ({"rank": 7}, errors.Conflict),
        ({"viewer": Viewer(Kind.USER)}, errors.NotFound),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    database: Database, given: dict[str, Any], refusal: type[errors.DomainError]
) -> None:
    world, launch = await _launched(database)
    with pytest.raises(refusal):
        await _log(world, launch, [1.0], **given)
    with pytest.raises(errors.Invalid):
        await _log(world, launch, [])
    assert await _kept(world, launch) == []


@pytest.mark.parametrize("other", [{"job_id": b"?" * 16}, {"attempt": 2}])
async def test_a_token_of_another_job_or_attempt_reports_nothing(
    database: Database, other: dict[str, Any]
) -> None:
    world, launch = await _launched(database)
    with pytest.raises(errors.Forbidden):
        await _log(world, launch, [1.0], viewer=_token(launch, **other))
    assert await _kept(world, launch) == []


@pytest.mark.parametrize("hidden", [Viewer(Kind.USER), Viewer(Kind.JOB, run_id=b"?" * 16, job_id=b"?" * 16)])
async def test_a_hidden_job_is_told_from_a_missing_one_by_nobody(database: Database, hidden: Viewer) -> None:
    world, launch = await _launched(database)
    for rank in (0, 7):
        with pytest.raises(errors.NotFound, match="there is no job job_") as told:
            await _log(world, launch, [1.0], viewer=hidden, rank=rank)
        assert told.value.problems[0].path == ("job",)
    assert await _kept(world, launch) == []


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for few, and they are counted at once."""
    monkeypatch.setattr(room, "MOST", 3)
    monkeypatch.setattr(room, "UNCOUNTED", 1)


def _columns(*names: str) -> list[Column]:
    return [Column(name, np.zeros(1, np.int64), np.ones(1)) for name in names]


async def _names(world: World, launch: Launch) -> set[str]:
    async with world.database.read() as session:
        found = await session.execute(select(Series.name).where(Series.run_id == launch.run_id))
        return set(found.scalars())


@pytest.mark.usefixtures("narrow")
async def test_a_worker_has_so_many_metrics_and_those_go_on(database: Database) -> None:
    world, launch = await _launched(database)
    ingest, viewer = Ingest(database), _token(launch)

    async def report(number: int, *names: str) -> None:
        await ingest.add(Batch(viewer, launch.job_id, 0, "p", number, _columns(*names)))

    for number, name in enumerate("abc", 1):
        await report(number, name)
    answers = await asyncio.gather(
        report(4, "a", "d"), ingest.add(Batch(world.viewer, launch.job_id, 0, "q", 1, _columns("b"))),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(answers[0], errors.LimitExceeded) and "'d'" in str(answers[0])
    assert answers[0].problems[0].path == ("series", "1", "name") and answers[1] is not None
    await report(4, "a", "b")  # the number is still free
    assert await _names(world, launch) == {"a", "b", "c"}


@pytest.mark.usefixtures("narrow")
async def test_of_what_a_job_prints_metrics_beyond_that_are_left_out(database: Database) -> None:
    world, launch = await _launched(database)
    for names in ("a", "bc", "cd"):
        await world_of.report(world, launch, **dict.fromkeys(names, 1.0))
    assert await _names(world, launch) == {"a", "b", "c"}


@pytest.mark.usefixtures("narrow")
async def test_an_attempt_has_so_many_producers(database: Database) -> None:
    world, launch = await _launched(database)
    for number in range(3):
        await _log(world, launch, [1.0], producer=f"p{number}")
    with pytest.raises(errors.LimitExceeded, match="at most 3 producers") as told:
        await _log(world, launch, [1.0], producer="p3")
    assert told.value.problems[0].path == ("producer",)
    await _log(world, launch, [1.0], number=2, producer="p2")


async def test_a_job_that_has_ended_takes_no_more(database: Database) -> None:
    world, launch = await _launched(database)
    await world.end(launch)
    with pytest.raises(errors.Conflict):
        await _log(world, launch, [1.0])
