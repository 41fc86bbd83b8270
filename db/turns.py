"""Turns: what would start on a backend now, as a claim finds it and as a start that must not wait asks for it.

Under the lock of the backend's row. admission.py decides; here it is told what waits, what is held and what
limits allow.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db import admission, backends, limiting, occupancy, queues
from db.admission import Line, Place, Room
from db.backends import Backend
from db.database import Transaction
from db.limiting import Limited


@dataclass(frozen=True, slots=True)
class Turns:
    """The line of a backend, and what of it can never start there."""

    backend: Backend
    line: Line
    limited: Limited
    oversized: list[Any]
    given: dict[str, Any]

    async def choose(self, session: Transaction, most: int) -> list[Any]:
        """What starts now, in the order it is to be launched; more of a kind is read as its first ones do."""
        chosen: list[Any] = []
        read: Counter[int] = Counter()
        while len(chosen) < most and (row := self.line.next()) is not None:
            chosen.append(row)
            if self.line.is_exhausted(row.kind) and len(chosen) < most:
                before = read[row.kind] or 1
                more = await queues.followers(session, self.given, row.kind, before, min(most, 3 * before))
                read[row.kind] = before + len(more)
                self.line.offer(more)
        return chosen

    async def keep_places(self, session: Transaction) -> None:
        """Remember who has been passed."""
        places = self.line.places()
        if (place := places.pop(None)) != _place(self.backend):
            await backends.keep_place(session, self.backend.id, place)
        await limiting.keep_places(session, self.limited, places)


async def of_backend(session: Transaction, backend: Backend, host: str | None, now: datetime) -> Turns | None:
    """The line of a backend that is locked; None where nothing can start. Without a host any will do."""
    if backend.unavailable_since is not None:
        return None
    busy = await occupancy.held_on(session, backend.id)
    room = Room(backends.capacity(backend), occupancy.free(backend, occupancy.total(busy)), _place(backend))
    if room.free["slots"] <= 0:
        return None  # before anything is read that many kinds make long
    given = {"backend": backend.id, "host": host, "now": now}
    heads = _each_once((await session.execute(queues.HEADS, given)).all())
    if not heads:
        return None
    bounds = backends.bounds(backend)
    oversized = [row for row in heads if admission.excess(backend.name, bounds, row)]
    fitting = [row for row in heads if row not in oversized] if oversized else heads
    limited = await limiting.claiming(session, backend.id, fitting)
    held = {row.project_id: occupancy.total([row]) for row in busy}
    line = Line(room, held, now, limited.rooms, limited.elsewhere)
    line.offer(fitting)
    return Turns(backend, line, limited, oversized, given)


def _each_once(rows: Sequence[Any]) -> list[Any]:
    """A version that is ready on several hosts makes a row of each."""
    return list({row.id: row for row in rows}.values())


def _place(backend: Backend) -> Place | None:
    if backend.place_job_id is None or backend.place_since is None:
        return None
    return Place(backend.place_job_id, backend.place_passes, backend.place_since)
