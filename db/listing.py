"""Pages of runs: any filter, any order, at a cost that does not grow with how many runs there are.

A page is found in one of two ways. Where a condition of the filter is true of few runs (an index tells,
by counting no further than FEW), those are read and sorted. Else the index that has the order is walked
from the cursor on, and each run met is judged by its own rows, until the page is full or EXAMINED runs
were met: then the page ends early, and its cursor says where to go on. So a filter that matches nothing
costs no more than one that matches much, and nothing sorts or scans what it does not show.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal, select, text, true

from db import errors, filters, narrowing, paging, runs, viewers
from db.columns import Among
from db.database import Session
from db.filters import (
    Belongs,
    Condition,
    During,
    Flag,
    Some,
)
from db.matching import RUN, holds, is_beside, made, present, source
from db.paging import Page, Slice
from db.projects import Project
from db.rows import Columns, Query, including
from db.runs import Run
from db.sorting import Key, Segment, Sort, lacks
from db.viewers import Viewer

FEW = 6_000
"""So many runs are read and sorted at once, some 60 ms. A walk past a million to a page of so few is as long."""
EXAMINED = 20_000
"""So many runs are judged for one page at most: some 150 ms."""
LEAST_EXAMINED = 1_000
"""Of each project, where runs of several are merged."""
MOST_PROJECTS = 50
SECONDS = 3.0
"""What no statement of a list takes; who asks opens its session with this limit."""

LIVE = (Flag("archived", False),)
_HALVES = ((~Run.archived, LIVE[0]), (and_(Run.archived), Flag("archived", True)))
# The list that everybody looks at is built once: building it takes longer than reading it.
_NEWEST: Any = runs.READ.where(Run.deleted_at.is_(None), ~Run.archived)
_NEWEST_OF_PROJECT: Any = _NEWEST.where(Run.project_id == bindparam("project"))
_OF_IDS = Query(runs.READ.where(Among(Run.id, "ids")))


def is_short(where: Sequence[Condition], sort: Sort) -> bool:
    """Whether a page costs no more than its rows, whatever there is: it may be read in the event loop."""
    return tuple(where) == LIVE and sort.newest_first


async def list_runs(
    session: Session,
    viewer: Viewer,
    page: Page,
    *,
    where: Sequence[Condition] = LIVE,
    sort: Sort = Sort(),  # noqa: B008
    columns: Columns = None,
) -> Slice[Run]:
    """The runs of which every condition holds, in an order; `page` begins and ends at keys of that order.

    Raises LimitExceeded where there are more projects than can be merged.
    """
    if is_short(where, sort) and (viewer.sees_all or len(viewer.projects) == 1):
        at = replace(page, after=_id_of(page.after), before=_id_of(page.before))
        if viewer.sees_all:
            return await paging.fetch(session, Run, _NEWEST, Run.id, at, parameters={}, columns=columns)
        if viewer.kind is viewers.Kind.USER:
            (project,) = viewer.projects
            own = {"project": project}
            return await paging.fetch(
                session, Run, _NEWEST_OF_PROJECT, Run.id, at, parameters=own, columns=columns
            )
        return await paging.fetch(session, Run, runs.READ.where(runs.seen(viewer), ~Run.archived), Run.id, at)
    return await _Search(session, viewer, page, where, sort).page(columns)


async def count_runs(
    session: Session, viewer: Viewer, where: Sequence[Condition], most: int
) -> tuple[int, bool]:
    """How many runs there are, as far as meeting `most` rows tells; True when there may be more."""
    return await _Search(session, viewer, Page(1), where, Sort()).count(most)


async def matching(
    session: Session, viewer: Viewer, ids: Sequence[bytes], where: Sequence[Condition]
) -> set[bytes]:
    """Those of a few runs that may be seen and of which every condition holds."""
    judged = and_(true(), *(holds(one, session.postgresql) for one in where))
    chosen = select(RUN.c.id).where(RUN.c.id.in_(ids), runs.seen(viewer, RUN.c), judged)
    return set((await session.execute(chosen)).scalars())


async def prepare(session: Session) -> None:
    """Keep PostgreSQL to the plans that are meant: statistics that are old or missing change nothing."""
    if session.postgresql:
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"):
            await session.execute(text(f"SET LOCAL {setting} = off"))


def _id_of(key: Any) -> Any:
    return key.id if isinstance(key, Key) else key


@dataclass(frozen=True, slots=True)
class _Stream:
    """A part of a segment that one index has in order, and what each of its runs must be."""

    segment: Segment
    judged: Callable[[Any], list[ColumnElement[bool]]]


class _Search:
    """Finds one page."""

    def __init__(
        self, session: Session, viewer: Viewer, page: Page, where: Sequence[Condition], sort: Sort
    ) -> None:
        self.session = session
        self.viewer = viewer
        self.wanted = page
        self.where = tuple(where)
        self.sort = sort
        self.descending = sort.descending is not page.backward
        start = page.before if page.backward else page.after
        self.start: Key | None = Key(0, None, start) if isinstance(start, bytes) else start
        self.projects: list[bytes] = []

    async def page(self, columns: Columns) -> Slice[Run]:
        """The page."""
        await prepare(self.session)
        self.projects = await self._projects()
        keys: list[Key] = []
        stop: Key | None = None
        if self.projects:
            few = await self._few()
            keys, stop = await self._walk() if few is None else (await self._sorted(few), None)
        size = self.wanted.size
        more = len(keys) > size or stop is not None
        keys = keys[:size][:: -1 if self.wanted.backward else 1]
        return await self._slice(keys, more, stop, columns)

    async def count(self, most: int) -> tuple[int, bool]:
        """How many there are among the first `most` that the walk meets, and whether it would meet more."""
        await prepare(self.session)
        self.projects = await self._projects()
        few = await self._few() if self.projects else None
        if few is not None:
            rows = few.distinct().subquery("w")
            counted = select(func.count()).select_from(rows).where(*self._judged(rows.c.id, self.where))
            return await self.session.scalar(counted), False
        (segment,) = self.sort.segments()
        found, capped = 0, False
        streams = self._streams(segment) if self.projects else []
        for stream in streams:
            met = self._range(stream.segment, None).limit(max(most // len(streams), 1)).subquery("w")
            counted = select(func.count()).select_from(met)
            all_met = await self.session.scalar(counted)
            capped |= all_met >= max(most // len(streams), 1)
            found += await self.session.scalar(counted.where(*stream.judged(met.c.id)))
        return found, capped

    async def _slice(self, keys: list[Key], more: bool, stop: Key | None, columns: Columns) -> Slice[Run]:
        given = {"ids": [key.id for key in keys]}
        found = await self.session.all(Run, _OF_IDS, given, including(columns, "id")) if keys else []
        rows = {row.id: row for row in found}
        kept = [key for key in keys if key.id in rows]
        begun = self.start is not None
        backward = self.wanted.backward
        return Slice(
            [rows[key.id] for key in kept],
            has_next=begun if backward else more,
            has_previous=more if backward else begun,
            keys=[self.sort.place(key) for key in kept],
            resume=None if stop is None else self.sort.place(stop),
            backward=backward,
        )

    async def _projects(self) -> list[bytes]:
        """The projects to look in, those that are named if any are."""
        named = {one.key for one in self.where if isinstance(one, Belongs) and one.to == "project"}
        if self.viewer.kind is viewers.Kind.JOB:
            own = select(Run.project_id).where(Run.id == self.viewer.run_id)
            return list((await self.session.execute(own)).scalars())
        if self.viewer.sees_all:
            statement = select(Project.id).limit(MOST_PROJECTS + 1)
            statement = statement.where(Project.id.in_(named)) if named else statement
            found = set((await self.session.execute(statement)).scalars())
        else:
            found = set(self.viewer.projects)
        chosen = sorted(found & named if named else found)
        if len(chosen) > MOST_PROJECTS:
            rule = f"runs of more than {MOST_PROJECTS} projects are not sorted together: name a project"
            raise errors.LimitExceeded(rule, path=("filter", "project"))
        return chosen

    async def _few(self) -> Select[Any] | None:
        """The ids of the runs that one condition is true of, if they are few."""
        if self.viewer.kind is viewers.Kind.JOB:
            return select(Run.id.label("id")).where(Run.id == self.viewer.run_id)
        if self._absorbs_all():
            return None
        for condition in sorted(self.where, key=narrowing.eagerness):
            rows = self._rows(condition)
            if rows is None:
                continue
            counted = select(func.count()).select_from(rows.limit(FEW + 1).subquery())
            if await self.session.scalar(counted) <= FEW:
                return rows
        return None

    def _rows(self, condition: Condition) -> Select[Any] | None:
        """The ids of the runs that a condition is true of, from an index; maybe more, never fewer."""
        match condition:
            case Some(parts) if parts:
                chosen = [self._first(part) for part in parts]
                if any(rows is None for rows in chosen):
                    return None
                tables = [rows.limit(FEW + 1).subquery() for rows in chosen if rows is not None]
                first, *rest = [select(table.c.id) for table in tables]
                together = first.union(*rest).subquery() if rest else tables[0]
                return select(together.c.id.label("id"))
            case filters.Every(parts):
                return self._first(condition)
            case _:
                found = source(condition, self.session.postgresql)
                return None if found is None else found.rows(self.projects)

    def _first(self, condition: Condition) -> Select[Any] | None:
        parts = condition.parts if isinstance(condition, filters.Every) else (condition,)
        found = (self._rows(part) for part in sorted(parts, key=narrowing.eagerness))
        return next((rows for rows in found if rows is not None), None)

    async def _sorted(self, few: Select[Any]) -> list[Key]:
        """The keys of a few runs, sorted here, from the cursor on."""
        met = few.distinct().subquery("w")
        segments = self.sort.segments()
        values = [
            _value(segment, met.c.id).label(f"s{number}")
            for number, segment in enumerate(segments)
            if segment.where and not segment.rest
        ]
        statement = select(met.c.id, *values).where(*self._judged(met.c.id, self.where))
        keys = self.sort.arrange(
            _key(segments, row[0], row[1:]) for row in (await self.session.execute(statement)).all()
        )
        if self.start is not None:
            order = self.sort.arrange([*keys, self.start])
            at = order.index(self.start)
            keys = order[:at] if self.wanted.backward else order[at + 1 :]
        return keys[::-1] if self.wanted.backward else keys

    async def _walk(self) -> tuple[list[Key], Key | None]:
        """The keys of a page and one more, and where the walk stopped if it had met enough before that."""
        needed = self.wanted.size + 1
        segments = list(enumerate(self.sort.segments()))[:: -1 if self.wanted.backward else 1]
        if self.start is not None:
            at = next(i for i, (number, _) in enumerate(segments) if number == self.start.segment)
            segments = segments[at:]
        found: list[Key] = []
        for number, segment in segments:
            start = self.start if self.start is not None and number == self.start.segment else None
            got, stop = await self._met(number, segment, start, needed - len(found))
            found += got
            if len(found) >= needed:
                return found[:needed], None
            if stop is not None:
                return found, stop
        return found, None

    async def _met(
        self, number: int, segment: Segment, start: Key | None, needed: int
    ) -> tuple[list[Key], Key | None]:
        """The next keys of one segment, merged from its streams."""
        streams = self._streams(segment)
        most = max(EXAMINED // max(len(streams), 1), LEAST_EXAMINED)
        got: list[Key] = []
        stop: Key | None = None
        for stream in streams:
            met = self._range(stream.segment, start).limit(most).subquery("w")
            judged = stream.judged(met.c.id)
            rows = (
                await self.session.execute(select(met.c.value, met.c.id).where(*judged).limit(needed))
            ).all()
            got += [Key(number, row.value, row.id) for row in rows]
            if len(rows) < needed:
                last = self._range(stream.segment, start).limit(1).offset(most - 1)
                end = (await self.session.execute(last)).first()
                if end is not None:
                    stop = self._ordered([*([stop] if stop else []), Key(number, end.value, end.id)])[0]
        ordered = self._ordered(got)
        if stop is not None:
            ordered = [key for key in ordered if key == stop or self._ordered([key, stop])[0] == key]
        return ordered, stop if len(ordered) < needed else None

    def _ordered(self, keys: Sequence[Key]) -> list[Key]:
        return self.sort.arrange(keys)[:: -1 if self.wanted.backward else 1]

    def _streams(self, segment: Segment) -> list[_Stream]:
        """One stream a project, or one alone where the rows are not kept by project."""
        left = list(self.where)
        if segment.rest and any(narrowing.has(one, self.sort) for one in left):
            return []  # nothing that is lacking here satisfies that
        narrowed, absorbed = self._narrowed(segment)
        left = [one for one in left if one not in absorbed]

        def judged(key: Any) -> list[ColumnElement[bool]]:
            return self._judged(key, left, [lacks(one, key) for one in segment.lacking])

        if narrowed.project is None:
            return [_Stream(narrowed, judged)]
        kept = [replace(narrowed, where=(*narrowed.where, narrowed.project == one)) for one in self.projects]
        if narrowed.plain:
            halves = [half for half, flag in _HALVES if flag in self.where] or [half for half, _ in _HALVES]
            kept = [replace(one, where=(*one.where, half)) for one in kept for half in halves]
        return [_Stream(one, judged) for one in kept]

    def _narrowed(self, segment: Segment) -> tuple[Segment, tuple[Condition, ...]]:
        """A segment that begins and ends where conditions say, and those that it answers for."""
        if self.sort.by == "CREATED":
            return self._narrowed_by_equality(segment)
        if segment.value is not None:
            for one in self.where:
                bounds = narrowing.bounds(one, segment, self.sort)
                if bounds is not None:
                    return replace(segment, where=(*segment.where, *bounds)), (one,)
        return segment, ()

    def _narrowed_by_equality(self, segment: Segment) -> tuple[Segment, tuple[Condition, ...]]:
        """By id alone any index that has equal things by id will do; and ids tell when they were made."""
        absorbed: tuple[Condition, ...] = ()
        for one in sorted(self.where, key=narrowing.eagerness):
            found = None if isinstance(one, During) else source(one, self.session.postgresql)
            if found is not None and found.ordered:
                segment, absorbed = Segment(found.id, found.project, where=found.where), (one,)
                break
        for one in self.where:
            if isinstance(one, During) and one.of == "created_at":
                segment = replace(segment, where=(*segment.where, *made(segment.id, one.since, one.before)))
        return segment, absorbed

    def _absorbs_all(self) -> bool:
        """Whether the walk meets only runs that the filter is true of, but for archived ones."""
        first = self.sort.segments()[0]
        _, absorbed = self._narrowed(first)
        return all(
            one in absorbed
            or one in LIVE
            or (isinstance(one, Belongs) and one.to == "project")
            or (isinstance(one, During) and one.of == "created_at" and self.sort.by == "CREATED")
            for one in self.where
        )

    def _range(self, segment: Segment, start: Key | None) -> Select[Any]:
        """The rows of a segment past a key, in order."""
        value = literal(None) if segment.value is None else segment.value
        statement = select(value.label("value"), segment.id.label("id")).where(*segment.where)
        columns = [segment.id] if segment.value is None else [segment.value, segment.id]
        if start is not None:
            statement = statement.where(*narrowing.past(segment, start, self.descending))
        return statement.order_by(*(one.desc() if self.descending else one.asc() for one in columns))

    def _judged(
        self, key: Any, where: Sequence[Condition], more: Sequence[ColumnElement[bool]] = ()
    ) -> list[ColumnElement[bool]]:
        """That the run of this id may be seen, that all conditions hold, and what else is to be.

        What other tables tell comes first: it spares the runs' own rows, the largest.
        """
        postgresql = self.session.postgresql
        beside = [holds(one, postgresql, key) for one in where if is_beside(one)]
        own = [holds(one, postgresql) for one in where if not is_beside(one)]
        rows = select(literal(1)).select_from(RUN).where(RUN.c.id == key, runs.seen(self.viewer, RUN.c), *own)
        return [*more, *beside, present(rows)]


def _value(segment: Segment, key: Any) -> Any:
    """What a run has in a segment: its value, or 1 where standing there is all."""
    value = literal(1) if segment.value is None else segment.value
    return select(value).where(segment.id == key, *segment.where).limit(1).scalar_subquery()


def _key(segments: Sequence[Segment], run_id: bytes, values: Sequence[Any]) -> Key:
    """Where a run stands, from what it has in the segments that ask for something."""
    found = next((at for at, value in enumerate(values) if value is not None), None)
    if found is None:
        return Key(len(segments) - 1, None, run_id)
    return Key(found, None if segments[found].value is None else values[found], run_id)
