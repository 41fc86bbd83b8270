"""Lineage: what a thing was made from, and what was made from it, as a bounded graph.

Sources, files, versions of datasets, runs and jobs hang together by rows that were written as they were used;
here they are walked breadth first, a few statements a level however wide it is. A walk stays in the project
where it begins, because nothing is given to a run from another one. What is there no more, or would be too
much, is left out; `truncated` says of the latter.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, select, true

from db import errors, paging, viewers
from db.data_fetches import DataFetch
from db.data_sources import DataSource
from db.database import Session
from db.dataset_uses import RunDataset
from db.datasets import DatasetFile, DatasetVersion
from db.files import File
from db.jobs import Direction, Job, JobFile
from db.paging import Page, Slice
from db.runs import Run, RunFile
from db.source_uses import RunSource
from db.viewers import Viewer

MOST_DEPTH, MOST_NODES, MOST_EDGES = 20, 500, 2_000

Key = tuple[str, bytes]
"""The kind of a thing, as its public id begins, and its id."""


class Course(enum.Enum):
    """Which way a walk goes: to what a thing was made from, to what was made from it, or both."""

    UPSTREAM = "UPSTREAM"
    DOWNSTREAM = "DOWNSTREAM"
    BOTH = "BOTH"


class Relation(enum.Enum):
    """How one thing leads to another."""

    FETCHED = "FETCHED"
    DERIVED = "DERIVED"
    MEMBER = "MEMBER"
    GIVEN = "GIVEN"
    STEP = "STEP"
    READ = "READ"
    MADE = "MADE"


@dataclass(frozen=True, slots=True)
class Edge:
    """From what was there first to what came of it."""

    source: Key
    target: Key
    relation: Relation


@dataclass(slots=True)
class Lineage:
    """Things in the order they were met, and how they hang together."""

    nodes: dict[Key, None] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class _Link:
    """Rows that say that one thing leads to another: two kinds, and the columns of their ids."""

    relation: Relation
    source: tuple[str, Any]
    target: tuple[str, Any]
    where: ColumnElement[bool] = field(default_factory=true)


_READS, _MAKES = JobFile.direction == Direction.INPUT, JobFile.direction == Direction.OUTPUT
_LINKS = (
    _Link(Relation.FETCHED, ("data_source", DataFetch.source_id), ("file", DataFetch.file_id)),
    _Link(Relation.DERIVED, ("file", File.derived_from), ("file", File.id)),
    _Link(Relation.MEMBER, ("file", DatasetFile.file_id), ("dataset_version", DatasetFile.version_id)),
    _Link(Relation.GIVEN, ("dataset_version", RunDataset.version_id), ("run", RunDataset.run_id)),
    _Link(Relation.GIVEN, ("data_source", RunSource.source_id), ("run", RunSource.run_id)),
    _Link(Relation.GIVEN, ("file", RunFile.file_id), ("run", RunFile.run_id)),
    _Link(Relation.STEP, ("run", Job.run_id), ("job", Job.id)),
    _Link(Relation.READ, ("file", JobFile.file_id), ("job", JobFile.job_id), _READS),
    _Link(Relation.MADE, ("job", JobFile.job_id), ("file", JobFile.file_id), _MAKES),
)
_ROOTS: dict[str, Any] = {
    "data_source": DataSource,
    "dataset_version": DatasetVersion,
    "file": File,
    "job": Job,
    "run": Run,
}
KINDS = tuple(_ROOTS)


async def walk(session: Session, viewer: Viewer, root: Key, course: Course, depth: int) -> Lineage | None:
    """What lies within `depth` steps of a thing; None when there is none of that id, or it may not be seen."""
    if not 1 <= depth <= MOST_DEPTH:
        raise errors.Invalid(f"a depth is 1 to {MOST_DEPTH}", path=("depth",))
    kind, key = root
    table = _ROOTS.get(kind)
    if table is None:
        raise errors.Invalid(f"lineage is of {', '.join(KINDS)}, not of a {kind}", path=("id",))
    seen = viewers.visible(viewer, table.project_id) & (table.id == key)
    if await session.scalar(select(table.id).where(seen)) is None:
        return None
    found = Lineage({root: None})
    for one in (Course.UPSTREAM, Course.DOWNSTREAM) if course is Course.BOTH else (course,):
        await _follow(session, found, root, one is Course.DOWNSTREAM, depth)
    await _leave_out_deleted(session, found)
    return found


async def readers_of(session: Session, viewer: Viewer, file_id: bytes, page: Page) -> Slice[Any]:
    """The ids (`job_id`) of the jobs that read a file, newest first."""
    statement = (
        select(JobFile.job_id)
        .join(Job, Job.id == JobFile.job_id)
        .join(Run, Run.id == Job.run_id)
        .where(JobFile.file_id == file_id, _READS, Run.deleted_at.is_(None))
        .where(viewers.visible(viewer, Job.project_id, Job.run_id))
    )
    return await paging.fetch(session, JobFile, statement, JobFile.job_id, page)


async def derived_of(session: Session, viewer: Viewer, file_id: bytes, page: Page) -> Slice[File]:
    """The files that are other states of this one, newest first."""
    seen = viewers.visible(viewer, File.project_id, File.run_id)
    statement = select(File).where(File.derived_from == file_id, seen)
    return await paging.fetch(session, File, statement, File.id, page)


async def _follow(session: Session, found: Lineage, root: Key, downstream: bool, depth: int) -> None:
    met: set[Key] = {root}
    frontier: set[Key] = {root}
    for _ in range(depth):
        edges = [
            edge for link in _LINKS for edge in await _across(session, found, link, frontier, downstream)
        ]
        frontier = set()
        for edge in edges:
            reached = edge.target if downstream else edge.source
            if reached not in found.nodes and len(found.nodes) >= MOST_NODES:
                found.truncated = True
                continue
            if len(found.edges) >= MOST_EDGES and edge not in found.edges:
                found.truncated = True
                continue
            found.nodes[reached] = found.edges[edge] = None
            if reached not in met:
                met.add(reached)
                frontier.add(reached)
        if not frontier:
            return


async def _across(
    session: Session, found: Lineage, link: _Link, frontier: Collection[Key], downstream: bool
) -> list[Edge]:
    """The edges of one kind that lead on from these things."""
    kind, column = link.source if downstream else link.target
    keys = [key for one, key in frontier if one == kind]
    if not keys:
        return []
    (source_kind, source), (target_kind, target) = link.source, link.target
    other = target if downstream else source
    statement = (
        select(source, target)
        .where(column.in_(keys), other.is_not(None), link.where)
        .distinct()
        .order_by(source, target)
        .limit(MOST_EDGES + 1)
    )
    rows = (await session.execute(statement)).all()
    found.truncated |= len(rows) > MOST_EDGES
    pairs: list[Any] = list(rows[:MOST_EDGES])
    return [Edge((source_kind, one), (target_kind, other), link.relation) for one, other in pairs]


async def _leave_out_deleted(session: Session, found: Lineage) -> None:
    """Runs that are deleted, with their jobs, whose rows are erased little by little."""
    runs = [key for kind, key in found.nodes if kind == "run"]
    jobs = [key for kind, key in found.nodes if kind == "job"]
    gone = select(Run.id).where(Run.id.in_(runs), Run.deleted_at.is_not(None))
    out: set[Key] = {("run", key) for key in (await session.execute(gone)).scalars()}
    theirs = select(Job.id).join(Run, Run.id == Job.run_id).where(Job.id.in_(jobs))
    lost = await session.execute(theirs.where(Run.deleted_at.is_not(None)))
    out |= {("job", key) for key in lost.scalars()}
    if out:
        found.nodes = {key: None for key in found.nodes if key not in out}
        found.edges = {
            edge: None for edge in found.edges if edge.source not in out and edge.target not in out
        }
