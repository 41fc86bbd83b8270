"""Pipelines: named graphs of steps, in immutable revisions.

A step names a function by `module/function`; which version that is, is decided when a run starts. Steps
are stored in an order in which everything needed comes first, so that needs always point backwards: a
stored graph has no cycle by construction.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, manifests, modules, paging, projects, viewers
from db.columns import Base, Id, Json, Timestamp
from db.database import Session, Transaction
from db.errors import Problem
from db.paging import Page, Slice
from db.viewers import Viewer

MOST_STEPS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_RULE = "must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit"


class Pipeline(Base):
    """A named graph of steps; `revision` is the number of its latest one."""

    __tablename__ = "pipelines"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    revision: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Revision(Base):
    """One immutable state of a pipeline."""

    __tablename__ = "pipeline_revisions"
    __table_args__ = (UniqueConstraint("pipeline_id", "number"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    pipeline_id: Mapped[bytes] = mapped_column(Id, ForeignKey("pipelines.id"))
    number: Mapped[int] = mapped_column(Integer)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Step(Base):
    """A function with arguments, as its author wrote them; `needs` are positions of earlier steps."""

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("revision_id", "name"),)

    revision_id: Mapped[bytes] = mapped_column(Id, ForeignKey("pipeline_revisions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    module_id: Mapped[bytes] = mapped_column(Id, ForeignKey("modules.id"), index=True)
    arguments: Mapped[dict[str, Any]] = mapped_column(Json)
    needs: Mapped[list[int]] = mapped_column(Json)


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step as its author gives it. Without `needs` it needs the step above; an empty one needs nothing."""

    name: str
    address: str
    arguments: Mapping[str, Any]
    needs: tuple[str, ...] | None = None


async def create(
    session: Transaction,
    viewer: Viewer,
    name: str,
    steps: Sequence[StepSpec],
    *,
    description: str = "",
    project_id: bytes | None = None,
) -> bytes:
    """A new pipeline with its first revision; raises Invalid with every mistake, Conflict for a taken name."""
    _check_description(description)
    project = await projects.choose(session, viewer, project_id)
    checked = await _check(session, project, name, steps)
    pipeline_id, at = ids.new(), columns.now()
    values = {
        "id": pipeline_id,
        "project_id": project,
        "name": name,
        "description": description,
        "revision": 1,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    once = columns.insert_once(session.postgresql, Pipeline, ("project_id", "name"))
    if not await session.change(once, values):
        raise errors.Conflict(f"there is a pipeline named {name!r} already", path=("name",))
    await _insert_revision(session, viewer, pipeline_id, 1, checked, at)
    return pipeline_id


async def revise(
    session: Transaction,
    viewer: Viewer,
    pipeline_id: bytes,
    *,
    name: str | None = None,
    description: str | None = None,
    steps: Sequence[StepSpec] | None = None,
) -> bytes:
    """Change what is given; new steps make a new revision, and what runs or ran keeps its own."""
    _check_description(description or "")
    pipeline = await _lock(session, viewer, pipeline_id)
    number = pipeline.revision
    if steps is not None:
        wanted = pipeline.name if name is None else name
        checked = await _check(session, pipeline.project_id, wanted, steps)
        number += 1
        await _insert_revision(session, viewer, pipeline_id, number, checked, columns.now())
    elif name is not None:
        _raise(_name_problems(name))
    values = {
        "revision": number,
        "name": name if name is not None else pipeline.name,
        "description": description if description is not None else pipeline.description,
    }
    try:
        await session.execute(update(Pipeline).where(Pipeline.id == pipeline_id).values(values))
    except IntegrityError as error:
        # The constraint decides, not a look beforehand: another rename may be under way.
        raise errors.Conflict(f"there is a pipeline named {name!r} already", path=("name",)) from error
    return pipeline_id


async def find_pipeline(
    session: Session, viewer: Viewer, *, pipeline_id: bytes | None = None, name: str | None = None
) -> Pipeline | None:
    """The pipeline of this id, or of this name."""
    wanted = Pipeline.id == pipeline_id if pipeline_id is not None else Pipeline.name == name
    seen = viewers.visible(viewer, Pipeline.project_id)
    return await session.find(Pipeline, select(Pipeline).where(wanted, seen).limit(1))


async def find_pipelines(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Pipeline]:
    """The pipelines of these ids that may be seen."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    return await session.all(Pipeline, select(Pipeline).where(Pipeline.id.in_(keys), seen))


async def list_pipelines(session: Session, viewer: Viewer, page: Page) -> Slice[Pipeline]:
    """Pipelines, newest first."""
    statement = select(Pipeline).where(viewers.visible(viewer, Pipeline.project_id))
    return await paging.fetch(session, Pipeline, statement, Pipeline.id, page)


async def list_revisions(session: Session, pipeline_id: bytes, page: Page) -> Slice[Revision]:
    """The revisions of a pipeline, newest first."""
    statement = select(Revision).where(Revision.pipeline_id == pipeline_id)
    return await paging.fetch(session, Revision, statement, Revision.number, page)


_LATEST = (
    select(Revision)
    .join(Pipeline, (Pipeline.id == Revision.pipeline_id) & (Pipeline.revision == Revision.number))
    .where(Pipeline.id.in_(bindparam("pipelines", expanding=True)))
)
_STEPS = (
    select(Step)
    .where(Step.revision_id.in_(bindparam("revisions", expanding=True)))
    .order_by(Step.revision_id, Step.position)
)


async def latest_revisions(session: Session, pipelines: Collection[bytes]) -> list[Revision]:
    """The latest revision of each of these pipelines."""
    return await session.all(Revision, _LATEST, {"pipelines": list(pipelines)})


async def find_revisions(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Revision]:
    """The revisions of these ids whose pipelines may be seen."""
    seen = viewers.visible(viewer, Pipeline.project_id)
    statement = select(Revision).join(Pipeline, Pipeline.id == Revision.pipeline_id)
    return await session.all(Revision, statement.where(Revision.id.in_(keys), seen))


async def steps_of(session: Session, revisions: Collection[bytes]) -> list[Step]:
    """The steps of these revisions, in order."""
    return await session.all(Step, _STEPS, {"revisions": list(revisions)})


def in_order(steps: Sequence[StepSpec]) -> tuple[list[tuple[StepSpec, list[int]]], list[Problem]]:
    """The steps so that everything needed comes first, with the positions they need; and what is wrong.

    Stable: steps that could stand anywhere keep the order they were given in.
    """
    needs = {step.name: _needs(steps, index) for index, step in enumerate(steps)}
    problems = list(_graph_problems(steps, needs))
    if problems:
        return [], problems
    position: dict[str, int] = {}
    ordered: list[tuple[StepSpec, list[int]]] = []
    while len(ordered) < len(steps):
        ready = next(
            (s for s in steps if s.name not in position and all(n in position for n in needs[s.name])), None
        )
        if ready is None:
            return [], [_cycle([s.name for s in steps if s.name not in position], needs, steps)]
        position[ready.name] = len(ordered)
        ordered.append((ready, sorted(position[name] for name in needs[ready.name])))
    return ordered, []


def _needs(steps: Sequence[StepSpec], index: int) -> tuple[str, ...]:
    needs = steps[index].needs
    if needs is not None:
        return tuple(dict.fromkeys(needs))
    return (steps[index - 1].name,) if index else ()


def _graph_problems(steps: Sequence[StepSpec], needs: Mapping[str, tuple[str, ...]]) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for index, step in enumerate(steps):
        if not _NAME.match(step.name):
            problems.append(Problem(("steps", str(index), "name"), f"{ids.shorten(step.name)!r} {_RULE}"))
        if step.name in seen:
            problems.append(
                Problem(("steps", str(index), "name"), f"{step.name!r} is the name of an earlier step too")
            )
        seen.add(step.name)
        for name in dict.fromkeys(step.needs or ()):
            if name not in needs:
                close = manifests.suggestion(name, needs)
                problems.append(Problem(("steps", str(index), "needs"), f"no step is named {name!r}{close}"))
    return problems


def _cycle(left: Sequence[str], needs: Mapping[str, tuple[str, ...]], steps: Sequence[StepSpec]) -> Problem:
    """One cycle among the steps that cannot be placed, in words."""
    walk = [left[0]]
    while walk[-1] not in walk[:-1]:
        walk.append(next(name for name in needs[walk[-1]] if name in left))
    cycle = walk[walk.index(walk[-1]) :]
    index = next(i for i, step in enumerate(steps) if step.name == cycle[0])
    return Problem(("steps", str(index), "needs"), f"these steps wait for each other: {' → '.join(cycle)}")


async def _check(
    session: Session, project_id: bytes, name: str, steps: Sequence[StepSpec]
) -> list[tuple[StepSpec, list[int], bytes]]:
    problems = _name_problems(name)
    if not 1 <= len(steps) <= MOST_STEPS:
        problems.append(Problem(("steps",), f"a pipeline has 1 to {MOST_STEPS} steps, not {len(steps)}"))
        _raise(problems)
    ordered, mistakes = in_order(steps)
    names = {step.address.partition("/")[0] for step in steps if manifests.text_refusal(step.address) is None}
    functions = await modules.addressed(session, project_id, names)
    problems += mistakes
    for index, step in enumerate(steps):
        problems += _step_problems(index, step, functions)
    _raise(problems)
    return [(step, needs, functions[step.address].module_id) for step, needs in ordered]


def _step_problems(index: int, step: StepSpec, functions: Mapping[str, Any]) -> list[Problem]:
    at = ("steps", str(index))
    function = functions.get(step.address)
    if function is None:
        return [Problem((*at, "function"), unknown_function(step.address, functions))]
    spec = manifests.decode_function(function.spec)
    return [
        Problem(
            (*at, "arguments", *map(str, problem.path)), f"{step.name}: {problem.path[0]} {problem.message}"
        )
        for problem in manifests.resolve(spec, step.arguments).problems
    ]


def unknown_function(address: str, functions: Mapping[str, Any]) -> str:
    """Why an address leads nowhere, in words."""
    if "/" not in address:
        return f"{ids.shorten(address)!r} is no function: write module/function"
    close = manifests.suggestion(address, functions)
    return f"no installed and prepared module has a function {ids.shorten(address)!r}{close}"


def _check_description(text: str) -> None:
    if message := manifests.text_refusal(text):
        raise errors.Invalid(message, path=("description",))


def _name_problems(name: str) -> list[Problem]:
    return [] if _NAME.match(name) else [Problem(("name",), f"{ids.shorten(name)!r} {_RULE}")]


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        raise errors.Invalid(problems=problems)


async def _lock(session: Transaction, viewer: Viewer, pipeline_id: bytes) -> Pipeline:
    statement = select(Pipeline).where(
        Pipeline.id == pipeline_id, viewers.visible(viewer, Pipeline.project_id)
    )
    pipeline = await session.find(Pipeline, statement.with_for_update(key_share=True))
    if pipeline is None:
        raise errors.NotFound("there is no such pipeline", path=("id",))
    viewers.require_writer(viewer, pipeline.project_id)
    return pipeline


async def _insert_revision(
    session: Transaction,
    viewer: Viewer,
    pipeline_id: bytes,
    number: int,
    steps: Sequence[tuple[StepSpec, list[int], bytes]],
    at: datetime,
) -> None:
    revision_id = ids.new()
    values = {
        "id": revision_id,
        "pipeline_id": pipeline_id,
        "number": number,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(insert(Revision).values(values))
    rows = [
        {
            "revision_id": revision_id,
            "position": position,
            "name": step.name,
            "address": step.address,
            "module_id": module_id,
            "arguments": dict(step.arguments),
            "needs": needs,
        }
        for position, (step, needs, module_id) in enumerate(steps)
    ]
    await session.execute(insert(Step), rows)
