"""Which runs have changed lately, for who watches a list of them.

`Recent` hears the hints of a process and remembers, in bounded memory, which feeds moved and in what order:
a watcher is a cursor into that. `judge` then reads what those feeds' runs are now.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select, true

from db import runs
from db.bus import Bus, Wake
from db.database import Session
from db.feeds import Feed, Kind
from db.filters import Belongs, Condition, Every, Flag, Not, Some
from db.listing import prepare
from db.matching import RUN, holds
from db.runs import Run
from db.viewers import Viewer, visible

REMEMBERED = 50_000
"""Feeds that moved lately. Who is further behind is told so, and asks for the list again."""


class Recent:
    """The feeds that moved lately, each once, in the order of their last move."""

    def __init__(self, bus: Bus) -> None:
        self._moved: OrderedDict[int, int] = OrderedDict()
        self._tick = asyncio.Event()
        self.place = 0
        self.floor = 0
        """What moved at or before here may be forgotten."""
        self.waiting = 0
        """How many wait for the next move."""
        self._silence = bus.listen(self._hear, missed=self._miss)

    def close(self) -> None:
        """Hear no more."""
        self._silence()

    def since(self, place: int) -> list[int]:
        """The feeds that moved past a place that is not before the floor."""
        found = []
        for feed_id, at in reversed(self._moved.items()):
            if at <= place:
                break
            found.append(feed_id)
        return found[::-1]

    async def wait(self, place: int) -> None:
        """Until something has moved past this place."""
        self.waiting += 1
        try:
            while self.place <= place:
                await self._tick.wait()
        finally:
            self.waiting -= 1

    def _hear(self, reached: Mapping[int, int], _wake: Wake) -> None:
        for feed_id in reached:
            self.place += 1
            self._moved[feed_id] = self.place
            self._moved.move_to_end(feed_id)
        while len(self._moved) > REMEMBERED:
            _, self.floor = self._moved.popitem(last=False)
        if reached:
            self._told()

    def _miss(self) -> None:
        self._moved.clear()
        self.place += 1
        self.floor = self.place
        self._told()

    def _told(self) -> None:
        self._tick.set()
        self._tick = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Change:
    """A run that changed: `run` as it is now, if it satisfies the filter; `gone` if it may have until now."""

    run_id: bytes
    run: Run | None
    gone: bool


async def judge(
    session: Session, viewer: Viewer, feed_ids: Sequence[int], where: Sequence[Condition]
) -> list[Change]:
    """What the runs of these feeds are now, of those that may be seen, in the order of their ids."""
    await prepare(session)
    postgresql = session.postgresql
    matched = and_(true(), *(holds(one, postgresql) for one in where))
    lasting = [one for one in map(_lasting, where) if one is not None]
    possible = and_(true(), *(holds(one, postgresql) for one in lasting))
    statement = (
        select(Feed.owner, RUN.c.id, matched.label("matched"), possible.label("possible"), RUN.c.deleted_at)
        .outerjoin(RUN, RUN.c.feed_id == Feed.id)
        .where(Feed.id.in_(feed_ids), Feed.kind == Kind.RUN, visible(viewer, Feed.project_id, Feed.owner))
        .order_by(Feed.owner)
    )
    rows = (await session.execute(statement)).all()
    there = [row.owner for row in rows if row.id is not None and row.deleted_at is None and row.matched]
    now = {run.id: run for run in await runs.find_runs(session, viewer, there)} if there else {}
    return [
        Change(
            row.owner,
            now.get(row.owner),
            gone=row.owner not in now and (row.id is None or bool(row.possible)),
        )
        for row in rows
    ]


def _lasting(condition: Condition) -> Any:
    """What of a condition a run keeps for its life, None where it may come and go."""
    match condition:
        case Every(parts):
            return Every(tuple(one for one in map(_lasting, parts) if one is not None))
        case Some(parts):
            kept = tuple(map(_lasting, parts))
            return None if any(one is None for one in kept) else Some(kept)
        case Not(part):
            return condition if _lasting(part) == part else None
        case Belongs() | Flag("external"):
            return condition
        case _:
            return None
