"""Limits: how much the jobs of a project, or with a tag, may have at once, on one backend or on all together.

A limit bounds what has been launched and has not ended: jobs, workers (slots), cores, memory, GPUs. One of a
project is its quota, and an administrator's to set; one of a tag belongs to its project, or to all of them.
A tag without a value counts each of its values by itself. limiting.py has what a claim makes of them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKey,
    Integer,
    Text,
    delete,
    func,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, jobs, labels, paging, viewers
from db.backends import Backend
from db.bus import Wake
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.errors import Problem
from db.jobs import Job
from db.paging import Page, Slice
from db.projects import Project
from db.runs import Run, RunTag
from db.states import TERMINAL_RUN, JobState, RunState
from db.viewers import Kind, Viewer

MOST = 500
BOUNDS = ("jobs", "slots", "cpus", "memory_bytes", "gpus")
_LARGEST = 1 << 53
_AT_ONCE = 500
"""Runs whose jobs are sorted into kinds together."""


class Limit(Base):
    """A limit; null bounds bound nothing. `scope` is what it is of, unique. `place_*` as on a backend."""

    __tablename__ = "limits"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    scope: Mapped[str] = mapped_column(Text, unique=True)
    project_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("projects.id"))
    backend_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("backends.id"))
    tag_name: Mapped[str | None] = mapped_column(Text)
    tag_value: Mapped[str | None] = mapped_column(Text)
    jobs: Mapped[int | None] = mapped_column(BigInteger)
    slots: Mapped[int | None] = mapped_column(BigInteger)
    cpus: Mapped[float | None] = mapped_column(Float)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpus: Mapped[int | None] = mapped_column(BigInteger)
    place_job_id: Mapped[bytes | None] = mapped_column(Id)
    place_passes: Mapped[int] = mapped_column(Integer, default=0)
    place_since: Mapped[datetime | None] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """What a limit is of, and its bounds. Without a project it is of all of them, without a backend of all."""

    project_id: bytes | None
    backend_id: bytes | None = None
    tag_name: str | None = None
    tag_value: str | None = None
    jobs: int | None = None
    slots: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None

    def scope(self) -> str:
        """What it is of, as one text."""
        keys = [key and key.hex() for key in (self.project_id, self.backend_id)]
        return orjson.dumps([*keys, self.tag_name, self.tag_value]).decode()


async def put(session: Transaction, viewer: Viewer, spec: LimitSpec) -> bytes:
    """Set a limit, new or in the place of the one of the same scope; returns its id.

    Raises Forbidden, NotFound, Invalid with every mistake, or LimitExceeded.
    """
    _require_owner(viewer, spec)
    await _require_there(session, viewer, spec)
    if problems := _problems(spec):
        raise errors.Invalid(problems=problems)
    if session.postgresql:
        # Whoever starts a run or claims has read the limits before us, or reads them after our commit.
        await session.execute(text("LOCK TABLE limits IN ACCESS EXCLUSIVE MODE"))
    now = columns.now()
    values = {name: getattr(spec, name) for name in BOUNDS}
    values |= {"updated_at": now, "updated_by": viewer.user_id}
    found: bytes | None = await session.scalar(
        update(Limit).where(Limit.scope == spec.scope()).values(values).returning(Limit.id)
    )
    if found is None:
        if await session.scalar(select(func.count()).select_from(Limit)) >= MOST:
            raise errors.LimitExceeded(f"there are {MOST} limits, which is the most")
        found = ids.new()
        of = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name not in BOUNDS}
        once = columns.insert_once(session.postgresql, Limit, ("scope",))
        new = {"id": found, "scope": spec.scope(), "created_at": now, "place_passes": 0, **of, **values}
        await session.execute(once, new)
        if spec.tag_name is not None:
            await _sort_tagged(session, spec)
    session.wake(Wake.SUPERVISORS)
    return found


async def remove(session: Transaction, viewer: Viewer, limit_id: bytes) -> bytes:
    """Lift a limit; raises NotFound or Forbidden."""
    limit = await find(session, viewer, limit_id)
    if limit is None:
        raise errors.NotFound("there is no such limit", path=("id",))
    _require_owner(viewer, limit)
    await session.execute(delete(Limit).where(Limit.id == limit_id))
    session.wake(Wake.SUPERVISORS)
    return limit_id


def _require_owner(viewer: Viewer, of: Any) -> None:
    """A quota is what a project gets of what all share: it is not for the project to say."""
    if of.project_id is None or of.tag_name is None:
        viewers.require_administrator(viewer)
    else:
        viewers.require_writer(viewer, of.project_id)


async def _require_there(session: Session, viewer: Viewer, spec: LimitSpec) -> None:
    project = select(Project.id).where(Project.id == spec.project_id)
    if spec.project_id is not None and await session.scalar(project) is None:
        raise errors.NotFound("there is no such project", path=("project",))
    backend = select(Backend.id).where(Backend.id == spec.backend_id)
    if spec.backend_id is not None and await session.scalar(backend) is None:
        raise errors.NotFound("there is no such backend", path=("backend",))


def _problems(spec: LimitSpec) -> list[Problem]:
    found: list[Problem] = []
    if spec.tag_name is not None:
        wrong = labels.tag_problems([(spec.tag_name, spec.tag_value or "")])
        found += [Problem(("tag",), problem.message) for problem in wrong]
    if all(getattr(spec, name) is None for name in BOUNDS):
        found.append(Problem((), "a limit bounds at least one of jobs, slots, cpus, memoryBytes, gpus"))
    for name in BOUNDS:
        value = getattr(spec, name)
        if value is not None and not 0 <= value <= _LARGEST:
            path = "memoryBytes" if name == "memory_bytes" else name
            found.append(Problem((path,), "a bound is 0 or more, at most 2^53"))
    return found


def seen(viewer: Viewer) -> Any:
    """The condition that a limit may be seen: those of all projects by everybody but a job."""
    if viewer.kind is Kind.JOB:
        return ~true()
    return Limit.project_id.is_(None) | viewers.visible(viewer, Limit.project_id)


async def find(session: Session, viewer: Viewer, limit_id: bytes) -> Limit | None:
    """The limit of this id, if it may be seen."""
    return await session.find(Limit, select(Limit).where(Limit.id == limit_id, seen(viewer)))


async def find_limits(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Limit]:
    """The limits of these ids that may be seen."""
    return await session.all(Limit, select(Limit).where(Limit.id.in_(keys), seen(viewer)))


async def list_limits(session: Session, viewer: Viewer, page: Page) -> Slice[Limit]:
    """Limits that may be seen, newest first."""
    return await paging.fetch(session, Limit, select(Limit).where(seen(viewer)), Limit.id, page)


# Statements of hot paths are built once: building one costs as much as running it.
_TAGGED = select(Limit.project_id, Limit.tag_name, Limit.tag_value).where(Limit.tag_name.is_not(None))


async def looked_at(
    session: Session, project_id: bytes, tags: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Those of a run's tags that limits look at, in order: jobs that differ in them are of different kinds."""
    given = sorted(tags)
    return _matter((await session.execute(_TAGGED)).all(), project_id, given) if given else []


def _matter(
    limited: Sequence[Any], project_id: bytes, tags: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    there = {(row.tag_name, row.tag_value) for row in limited if row.project_id in (None, project_id)}
    return [(name, value) for name, value in tags if not there.isdisjoint({(name, value), (name, None)})]


async def sort(session: Transaction, runs: Collection[bytes]) -> None:
    """Have the jobs of these runs that are not launched be of the kinds that limits ask for now.

    What somebody else is changing just now is left: it is not queued any more, or will be sorted by them.
    """
    limited = (await session.execute(_TAGGED)).all()
    names = {row.tag_name for row in limited}
    tags: dict[bytes, list[tuple[str, str]]] = {}
    wanted = select(RunTag).where(RunTag.run_id.in_(runs), RunTag.name.in_(names)).order_by(RunTag.name)
    for tag in await session.all(RunTag, wanted):
        tags.setdefault(tag.run_id, []).append((tag.name, tag.value))
    alike = select(Job.run_id, Job.kind, *(getattr(Job, name) for name in jobs.ALIKE))
    moved: dict[tuple[int, int], list[bytes]] = {}
    for row in (await session.execute(alike.where(Job.run_id.in_(runs), _UNLAUNCHED).distinct())).all():
        matter = _matter(limited, row.project_id, tags.get(row.run_id, ()))
        kind = jobs.kind_of({name: getattr(row, name) for name in jobs.ALIKE}, matter)
        if kind != row.kind:
            moved.setdefault((row.kind, kind), []).append(row.run_id)
    for (old, new), some in moved.items():
        chosen = select(Job.id).where(Job.run_id.in_(some), Job.kind == old, _UNLAUNCHED)
        if session.postgresql:
            chosen = chosen.with_for_update(skip_locked=True)
        await session.execute(update(Job).where(Job.id.in_(chosen)).values(kind=new))


_UNLAUNCHED = Job.state.in_((JobState.WAITING, JobState.QUEUED))


async def _sort_tagged(session: Transaction, spec: LimitSpec) -> None:
    """Sort the jobs of all runs with the tag that go on."""
    going = select(Run.id).where(Run.state.in_([state for state in RunState if state not in TERMINAL_RUN]))
    if spec.project_id is not None:
        going = going.where(Run.project_id == spec.project_id)
    tagged = going.join(RunTag, RunTag.run_id == Run.id).where(RunTag.name == spec.tag_name)
    if spec.tag_value is not None:
        tagged = tagged.where(RunTag.value == spec.tag_value)
    found: Sequence[bytes] = (await session.execute(tagged)).scalars().all()
    for start in range(0, len(found), _AT_ONCE):
        await sort(session, found[start : start + _AT_ONCE])
