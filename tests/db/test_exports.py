"""Handing on all points: everything once and in order, also when chunks are compacted meanwhile."""

from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from sqlalchemy import delete, update

from db import errors, exports, feeds
from db.curves import Wanted
from db.database import Database
from db.metrics import Chunk, Series
from db.points import Points
from tests.db.test_curves import Life, begun, small

__all__ = ["small"]  # a fixture, which this file uses too


Meanwhile = Callable[[], Awaitable[None]]


async def _parts(life: Life, database: Database, *, meanwhile: Meanwhile | None = None) -> list[Points]:
    wanted = Wanted([life.launch.run_id], [], latest=False)
    found = await exports.found(database, life.world.viewer, wanted, every=True)
    parts: list[Points] = []
    async for some in exports.parts(database, found):
        parts += some
        if meanwhile is not None:
            await meanwhile()
            meanwhile = None
    return parts


@pytest.mark.parametrize("most", [3, 12, 1 << 20])
@pytest.mark.parametrize("compacts", [False, True])
async def test_every_point_is_handed_on_once_and_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int, compacts: bool
) -> None:
    monkeypatch.setattr(exports, "_PART_POINTS", most)
    life = await begun(database)
    for start in range(0, 50, 5):
        await life.report([float(step) for step in range(start, start + 5)], range(start, start + 5))
    parts = await _parts(life, database, meanwhile=life.compact if compacts else None)
    assert np.concatenate([part.steps for part in parts]).tolist() == list(range(50))
    assert np.concatenate([part.values for part in parts]).tolist() == [float(step) for step in range(50)]
    assert {(part.name, part.step, part.attempt, part.rank) for part in parts} == {("loss", "a", 1, 0)}


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize(("series", "most"), [(1, 12), (3, 25)])
@pytest.mark.parametrize("kind", ["deleted", "thinned"])
async def test_what_goes_while_it_is_handed_on_is_not_taken_for_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, kind: str, series: int, most: int, goes_on: bool
) -> None:
    monkeypatch.setattr(exports, "_PART_POINTS", most)
    life = await begun(database, workers=series)
    for rank in range(series):
        for start in range(0, 20, 5):
            await life.report([0.5] * 5, range(start, start + 5), rank)

    async def meanwhile() -> None:
        async with database.begin() as session:
            await session.execute(delete(Chunk).where(Chunk.feed_id == life.launch.feed_id))
            if kind == "thinned":
                head = await feeds.lock(session, life.launch.feed_id)
                of = Series.run_id == life.launch.run_id
                gone = {"thinned": Series.points, "thinned_seq": head.seq}
                await session.execute(update(Series).where(of).values(gone))
        if goes_on:
            await life.report([0.5], [20], series - 1)

    with pytest.raises(errors.Conflict, match="was deleted or thinned out while it was read"):
        await _parts(life, database, meanwhile=meanwhile)


async def test_a_run_without_points_has_no_parts(database: Database) -> None:
    life = await begun(database)
    assert await _parts(life, database) == []
