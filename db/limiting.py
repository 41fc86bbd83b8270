"""Limits as a claim sees them: the rooms that jobs need beside the one on their backend.

A limit of one backend is guarded by the lock on the backend's row. One of several has its own row locked,
after the backend's and in the order of ids, before what is held is counted: whoever claims for another
backend counts when we have committed. Launching is the only thing that takes; whatever ends only gives back.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, or_, select, update

from db import columns, occupancy, queues
from db.admission import Place, Room
from db.backends import Backend
from db.database import Session, Transaction
from db.jobs import Job
from db.leases import Supervisor
from db.limits import BOUNDS, Limit
from db.runs import RunTag
from db.states import JobState
from db.viewers import Viewer


@dataclass(frozen=True, slots=True)
class Limited:
    """The rooms of each kind of job, in the order of their limits, and what holds places from other backends."""

    limits: dict[bytes, Limit] = field(default_factory=dict)
    rooms: dict[int, list[Room]] = field(default_factory=dict)
    elsewhere: Sequence[tuple[Any, list[Room]]] = ()


# Statements of hot paths are built once: building one costs as much as running it.
_APPLYING = (
    select(Limit)
    .where(
        or_(Limit.backend_id.is_(None), Limit.backend_id == bindparam("backend")),
        or_(Limit.project_id.is_(None), columns.Among(Limit.project_id, "projects")),
    )
    .order_by(Limit.id)
)
_LOCKING = _APPLYING.with_for_update(key_share=True)
_TAGS = select(RunTag.run_id, RunTag.name, RunTag.value).where(
    columns.Among(RunTag.run_id, "runs"), columns.Among(RunTag.name, "names")
)
_HELD_BY_TAG = (
    select(
        Job.backend_id,
        Job.project_id,
        RunTag.name.label("tag_name"),
        RunTag.value.label("tag_value"),
        *occupancy.SUMS,
    )
    # An outer join begins with the launched jobs; of an inner one SQLite begins with all runs that have such a tag.
    .outerjoin(RunTag, (RunTag.run_id == Job.run_id) & columns.Among(RunTag.name, "names"))
    .where(occupancy.LAUNCHED)
    .group_by(Job.backend_id, Job.project_id, RunTag.name, RunTag.value)
)
_NOW = bindparam("now", type_=columns.Timestamp())
_PLACED = (
    select(*queues.COLUMNS)
    .join(Backend, Backend.id == Job.backend_id)
    .join(Supervisor, Supervisor.id == Backend.supervisor_id)
    .where(
        columns.Among(Job.id, "jobs"),
        Job.backend_id != bindparam("backend"),
        Job.state == JobState.QUEUED,
        ~Job.suspended,
        Job.not_before.is_(None) | (Job.not_before <= _NOW),
        Backend.unavailable_since.is_(None),
        Supervisor.expires_at > columns.clock(),
    )
)


async def claiming(session: Transaction, backend_id: bytes, rows: Collection[Any]) -> Limited:
    """What limits have for these jobs, under the backend's lock; those of several backends are locked, too."""
    applying = await _limits(session, _LOCKING if session.postgresql else _APPLYING, backend_id, rows)
    if not applying:
        return Limited()
    placed = [one.place_job_id for one in applying if one.place_job_id is not None]
    given = {"jobs": placed, "backend": backend_id, "now": columns.now()}
    elsewhere = (await session.execute(_PLACED, given)).all() if placed else []
    return await _limited(session, applying, rows, elsewhere)


async def seen(session: Session, backend_id: bytes, rows: Collection[Any]) -> Limited:
    """The same without a lock, for telling people."""
    return await _limited(session, await _limits(session, _APPLYING, backend_id, rows), rows, ())


async def _limits(session: Session, statement: Any, backend_id: bytes, rows: Collection[Any]) -> list[Limit]:
    projects = list({row.project_id for row in rows})
    return await session.all(Limit, statement, {"backend": backend_id, "projects": projects})


async def _limited(
    session: Session, applying: Sequence[Limit], rows: Collection[Any], elsewhere: Sequence[Any]
) -> Limited:
    names = sorted({one.tag_name for one in applying if one.tag_name is not None})
    tags: dict[bytes, dict[str, str]] = {}
    if names:
        runs = list({row.run_id for row in (*rows, *elsewhere)})
        for tag in (await session.execute(_TAGS, {"runs": runs, "names": names})).all():
            tags.setdefault(tag.run_id, {})[tag.name] = tag.value
    holding = await Holding.of(session, applying)
    made: dict[tuple[bytes, str | None], Room] = {}

    def rooms_of(row: Any) -> list[Room]:
        mine: list[Room] = []
        for limit in applying:
            if applies(limit, row, tags.get(row.run_id, {})):
                value = None if limit.tag_name is None else tags[row.run_id][limit.tag_name]
                key = (limit.id, value)
                if key not in made:
                    made[key] = _room(limit, holding.by(limit, value))
                mine.append(made[key])
        return mine

    of_kind = {row.kind: row for row in rows}
    rooms = {kind: rooms_of(row) for kind, row in of_kind.items()}
    placed = [(row, rooms_of(row)) for row in elsewhere]
    return Limited({one.id: one for one in applying}, rooms, placed)


def applies(limit: Limit, row: Any, tags: dict[str, str]) -> bool:
    """Whether a job with these of its run's tags counts under a limit."""
    return (
        limit.project_id in (None, row.project_id)
        and limit.backend_id in (None, row.backend_id)
        and (limit.tag_name is None or limit.tag_name in tags)
        and (limit.tag_value is None or tags.get(limit.tag_name or "") == limit.tag_value)
    )


def bounds(limit: Limit) -> dict[str, float]:
    """What a limit bounds, and how far."""
    return {name: value for name in BOUNDS if (value := getattr(limit, name)) is not None}


def _room(limit: Limit, taken: dict[str, float]) -> Room:
    whole = bounds(limit)
    free = {what: amount - taken[what] for what, amount in whole.items()}
    return Room(whole, free, _place(limit), limit.id)


def _place(limit: Limit) -> Place | None:
    if limit.place_job_id is None or limit.place_since is None:
        return None
    return Place(limit.place_job_id, limit.place_passes, limit.place_since)


@dataclass(frozen=True, slots=True)
class Holding:
    """What launched jobs hold, as far as some limits count it."""

    plain: Sequence[Any]
    tagged: Sequence[Any]

    @classmethod
    async def of(cls, session: Session, counted: Sequence[Limit]) -> "Holding":
        """Counted now."""
        names = sorted({one.tag_name for one in counted if one.tag_name is not None})
        plain = await occupancy.held(session) if any(one.tag_name is None for one in counted) else ()
        tagged = (await session.execute(_HELD_BY_TAG, {"names": names})).all() if names else ()
        return cls(plain, tagged)

    def by(self, limit: Limit, value: str | None) -> dict[str, float]:
        """What counts under a limit, of its tag with this value."""
        rows = self.plain if limit.tag_name is None else self.tagged
        return occupancy.total(
            row
            for row in rows
            if limit.project_id in (None, row.project_id)
            and limit.backend_id in (None, row.backend_id)
            and (limit.tag_name is None or (row.tag_name, row.tag_value) == (limit.tag_name, value))
        )

    def values(self, limit: Limit, viewer: Viewer) -> list[str]:
        """The values of a limit's tag that launched jobs have, of projects that may be seen."""
        return sorted(
            {
                row.tag_value
                for row in self.tagged
                if row.tag_name == limit.tag_name
                and limit.project_id in (None, row.project_id)
                and (viewer.sees_all or row.project_id in viewer.projects)
            }
        )


_KEEP_PLACE = (
    update(Limit)
    .where(Limit.id == bindparam("limit"))
    .values(
        place_job_id=bindparam("job"), place_passes=bindparam("passes"), place_since=bindparam("passed_at")
    )
)


async def keep_places(
    session: Transaction, limited: Limited, places: dict[bytes | None, Place | None]
) -> None:
    """Remember who has been passed, under the limits' locks."""
    for limit_id, limit in limited.limits.items():
        if limit_id not in places or (place := places[limit_id]) == _place(limit):
            continue
        values: dict[str, Any] = {"job": None, "passes": 0, "passed_at": None}
        if place is not None:
            values = {"job": place.job_id, "passes": place.passes, "passed_at": place.since}
        await session.execute(_KEEP_PLACE, {"limit": limit_id, **values})
