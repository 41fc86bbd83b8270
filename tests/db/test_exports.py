"""Handing on all points: everything once and in order, also when chunks are compacted meanwhile."""

import numpy as np
import pytest

from db import exports
from db.curves import Wanted
from db.database import Database
from db.points import Points
from tests.db.test_curves import Life, begun, small

__all__ = ["small"]  # a fixture, which this file uses too


async def _parts(life: Life, database: Database, *, compacts: bool = False) -> list[Points]:
    wanted = Wanted([life.launch.run_id], [], latest=False)
    found = await exports.found(database, life.world.viewer, wanted, every=True)
    parts: list[Points] = []
    async for some in exports.parts(database, found):
        parts += some
        if compacts:
            await life.compact()
            compacts = False
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
    parts = await _parts(life, database, compacts=compacts)
    assert np.concatenate([part.steps for part in parts]).tolist() == list(range(50))
    assert np.concatenate([part.values for part in parts]).tolist() == [float(step) for step in range(50)]
    assert {(part.name, part.step, part.attempt, part.rank) for part in parts} == {("loss", "a", 1, 0)}


async def test_a_run_without_points_has_no_parts(database: Database) -> None:
    life = await begun(database)
    assert await _parts(life, database) == []
