"""Which runs have changed lately, and what they are now for who watches a list."""

import pytest
from sqlalchemy import select, update

from db import changes, columns, ids
from db.bus import Bus, Wake
from db.changes import Recent
from db.database import Database
from db.runs import Run
from tests.db.crowd import parsed
from tests.db.world import World


def test_what_moved_is_told_once_in_the_order_of_its_last_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "REMEMBERED", 3)
    recent = Recent(Bus("memory://"))
    recent._hear({1: 1, 2: 1}, Wake.NOBODY)
    recent._hear({1: 2}, Wake.NOBODY)
    assert (recent.since(0), recent.since(2), recent.since(3)) == ([2, 1], [1], [])
    recent._hear({3: 1, 4: 1}, Wake.NOBODY)
    assert recent.floor == 2 and recent.since(2) == [1, 3, 4]


async def test_a_run_that_stops_matching_is_gone_and_one_that_never_could_is_not_told(
    database: Database,
) -> None:
    world = await World.make(database)
    ours, theirs = await world.draw({"a": ()}), await world.draw({"a": ()})
    queued, moved, other, deleted = [await world.start(p) for p in (ours, ours, theirs, ours)]
    await world.cancel(moved)
    async with database.begin() as session:
        await session.execute(update(Run).where(Run.id == deleted).values(deleted_at=columns.now()))
    feeds = [(await world.run(run_id)).feed_id for run_id in (queued, moved, other)]
    async with database.read() as session:
        feeds.append(await session.scalar(select(Run.feed_id).where(Run.id == deleted)))
        where = parsed({"pipeline": ids.encode("pipeline", ours), "states": ["QUEUED"]})
        found = {change.run_id: change for change in await changes.judge(session, world.viewer, feeds, where)}
    assert {run_id: (change.run is not None, change.gone) for run_id, change in found.items()} == {
        queued: (True, False),
        moved: (False, True),
        other: (False, False),
        deleted: (False, True),
    }
