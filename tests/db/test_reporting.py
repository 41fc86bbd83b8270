"""What code reports of itself: once, of a job that runs, under that job's own token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from db import errors
from db.claims import Launch
from db.database import Database
from db.ingest import Ingest
from db.points import Column
from db.reporting import Batch
from db.viewers import Kind, Viewer
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


async def test_a_job_that_has_ended_takes_no_more(database: Database) -> None:
    world, launch = await _launched(database)
    await world.end(launch)
    with pytest.raises(errors.Conflict):
        await _log(world, launch, [1.0])
