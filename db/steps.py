"""Steps: functions with arguments, in an order in which everything needed comes first.

A step names a function by `module/function`; which version that is, is decided when a run starts. Steps
are stored so that needs always point backwards: a stored graph has no cycle by construction.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Integer, Text, UniqueConstraint, bindparam, false, select
from sqlalchemy.orm import Mapped, mapped_column

from db import conditions, errors, ids, manifests, matrices, modules, texts
from db.columns import Base, Id, Json
from db.conditions import Condition
from db.database import Session
from db.errors import Problem
from db.matrices import Matrix
from db.selections import Selection, Source

MOST_STEPS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_RULE = "must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit"


class Step(Base):
    """A step as its author wrote it; `needs` are positions of earlier steps, what `inputs` and `condition`
    name besides is needed too.
    """

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("revision_id", "name"),)

    revision_id: Mapped[bytes] = mapped_column(Id, ForeignKey("pipeline_revisions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    module_id: Mapped[bytes] = mapped_column(Id, ForeignKey("modules.id"), index=True)
    arguments: Mapped[dict[str, Any]] = mapped_column(Json)
    needs: Mapped[list[int]] = mapped_column(Json)
    inputs: Mapped[list[dict[str, Any]] | None] = mapped_column(Json)
    condition: Mapped[dict[str, Any] | None] = mapped_column(Json)
    matrix: Mapped[dict[str, list[Any]] | None] = mapped_column(Json)
    cache: Mapped[bool] = mapped_column(Boolean, server_default=false())


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step as its author gives it. Without `needs` it needs the step above; an empty one needs nothing.

    Without `inputs` it reads what the steps of `needs` hand on, and the run's files where there are none.
    """

    name: str
    address: str
    arguments: Mapping[str, Any]
    needs: tuple[str, ...] | None = None
    inputs: tuple[Selection, ...] | None = None
    when: Condition | None = None
    matrix: Matrix = field(default_factory=dict)
    cache: bool = False

    def sources(self) -> Iterator[tuple[tuple[str, ...], Source]]:
        """What its inputs and its condition name, each with the path to it."""
        for index, selection in enumerate(self.inputs or ()):
            if selection.source is not None:
                yield ("inputs", str(index)), selection.source
        if self.when is not None:
            for at, leaf in conditions.leaves(self.when, ("when",)):
                yield at, leaf.source


_STEPS = (
    select(Step)
    .where(Step.revision_id.in_(bindparam("revisions", expanding=True)))
    .order_by(Step.revision_id, Step.position)
)


async def steps_of(session: Session, revisions: Collection[bytes]) -> list[Step]:
    """The steps of these revisions, in order."""
    return await session.all(Step, _STEPS, {"revisions": list(revisions)})


async def check_steps(
    session: Session,
    project_id: bytes,
    name: str,
    steps: Sequence[StepSpec],
    problems: Sequence[Problem] = (),
) -> list[tuple[StepSpec, list[int], bytes]]:
    """The steps in order, with the positions they need and their modules; raises Invalid with every mistake.

    `name` is what their pipeline is to be called, checked along with them; `problems` are what was found
    wrong in reading them.
    """
    problems = [*name_problems(name), *problems]
    if not 1 <= len(steps) <= MOST_STEPS:
        problems.append(Problem(("steps",), f"a pipeline has 1 to {MOST_STEPS} steps, not {len(steps)}"))
        raise errors.Invalid(problems=problems)
    ordered, mistakes = in_order(steps)
    names = {step.address.partition("/")[0] for step in steps if texts.refusal(step.address) is None}
    functions = await modules.addressed(session, project_id, names)
    problems += mistakes
    if (jobs := sum(math.prod(map(len, step.matrix.values())) for step in steps)) > matrices.MOST_JOBS:
        limit = f"a run has at most {matrices.MOST_JOBS}"
        problems.append(Problem(("steps",), f"the steps and their matrices make {jobs} jobs; {limit}"))
    for index, step in enumerate(steps):
        problems += _step_problems(index, step, functions)
    if problems:
        raise errors.Invalid(problems=problems)
    return [(step, needs, functions[step.address].module_id) for step, needs in ordered]


def name_problems(name: str, *at: str) -> list[Problem]:
    """What is wrong with a name of a pipeline, a step or a schedule; `at` leads to what bears it."""
    return [] if _NAME.match(name) else [Problem((*at, "name"), f"{ids.shorten(name)!r} {_RULE}")]


def row_of(step: StepSpec, needs: Sequence[int]) -> dict[str, Any]:
    """The columns of a step that say what its author wrote."""
    return {
        "name": step.name,
        "address": step.address,
        "arguments": dict(step.arguments),
        "needs": list(needs),
        "inputs": None if step.inputs is None else [selection.encode() for selection in step.inputs],
        "condition": None if step.when is None else conditions.encode(step.when),
        "matrix": {name: list(values) for name, values in step.matrix.items()} or None,
        "cache": step.cache,
    }


def specs_of(rows: Sequence[Step]) -> list[StepSpec]:
    """The steps of one revision as their author gave them, with `needs` in full."""
    return [
        StepSpec(
            row.name,
            row.address,
            row.arguments,
            tuple(rows[position].name for position in row.needs),
            None if row.inputs is None else tuple(map(Selection.decode, row.inputs)),
            None if row.condition is None else conditions.decode(row.condition),
            row.matrix or {},
            row.cache,
        )
        for row in rows
    ]


def in_order(steps: Sequence[StepSpec]) -> tuple[list[tuple[StepSpec, list[int]]], list[Problem]]:
    """The steps so that everything needed comes first, with the positions of their `needs`; and what is wrong.

    Stable: steps that could stand anywhere keep the order they were given in.
    """
    needs = {step.name: _needs(steps, index) for index, step in enumerate(steps)}
    after = {
        step.name: tuple(dict.fromkeys((*needs[step.name], *(source.step for _, source in step.sources()))))
        for step in steps
    }
    problems = list(_graph_problems(steps))
    if problems:
        return [], problems
    position: dict[str, int] = {}
    ordered: list[tuple[StepSpec, list[int]]] = []
    while len(ordered) < len(steps):
        ready = next(
            (s for s in steps if s.name not in position and all(n in position for n in after[s.name])), None
        )
        if ready is None:
            return [], [_cycle([s.name for s in steps if s.name not in position], after, steps)]
        position[ready.name] = len(ordered)
        ordered.append((ready, sorted(position[name] for name in needs[ready.name])))
    return ordered, []


def _needs(steps: Sequence[StepSpec], index: int) -> tuple[str, ...]:
    needs = steps[index].needs
    if needs is not None:
        return tuple(dict.fromkeys(needs))
    return (steps[index - 1].name,) if index else ()


def _graph_problems(steps: Sequence[StepSpec]) -> list[Problem]:
    problems: list[Problem] = []
    by_name: dict[str, StepSpec] = {}
    for index, step in enumerate(steps):
        at = ("steps", str(index))
        problems += name_problems(step.name, *at)
        if step.name in by_name:
            problems.append(Problem((*at, "name"), f"{step.name!r} is the name of an earlier step too"))
        by_name.setdefault(step.name, step)
    for index, step in enumerate(steps):
        at = ("steps", str(index))
        named = [(("needs",), Source(name)) for name in dict.fromkeys(step.needs or ())]
        sources = [((*path, "step"), source) for path, source in step.sources()]
        problems += [
            Problem((*at, *path), message)
            for path, source in (*named, *sources)
            if (message := _source_problem(source, by_name))
        ][: manifests.MOST_PROBLEMS]
    return problems


def _source_problem(source: Source, by_name: Mapping[str, StepSpec]) -> str | None:
    step = by_name.get(source.step)
    if step is None:
        return f"no step is named {ids.shorten(source.step)!r}{texts.suggestion(source.step, by_name)}"
    if source.matrix and not any(map(source.takes, matrices.combinations(step.matrix))):
        return f"no combination of the matrix of {step.name} has these values"
    return None


def _cycle(left: Sequence[str], needs: Mapping[str, tuple[str, ...]], steps: Sequence[StepSpec]) -> Problem:
    """One cycle among the steps that cannot be placed, in words."""
    walk = [left[0]]
    while walk[-1] not in walk[:-1]:
        walk.append(next(name for name in needs[walk[-1]] if name in left))
    cycle = walk[walk.index(walk[-1]) :]
    index = next(i for i, step in enumerate(steps) if step.name == cycle[0])
    return Problem(("steps", str(index), "needs"), f"these steps wait for each other: {' → '.join(cycle)}")


def _step_problems(index: int, step: StepSpec, functions: Mapping[str, Any]) -> list[Problem]:
    at = ("steps", str(index))
    function = functions.get(step.address)
    if function is None:
        return [Problem((*at, "function"), unknown_function(step.address, functions))]
    spec = manifests.decode_function(function.spec)
    first = {name: values[0] for name, values in step.matrix.items()}
    given = {**step.arguments, **first}
    # What is required may be left to the runs, which say it or are refused (plans.py).
    left_open = {option.name for option in spec.options if option.required and given.get(option.name) is None}
    found = [
        Problem(
            (*at, "arguments", *map(str, problem.path)), f"{step.name}: {problem.path[0]} {problem.message}"
        )
        for problem in manifests.resolve(spec, given).problems
        if problem.path[0] not in step.matrix and problem.path[0] not in left_open
    ]
    unfit = matrices.option_problems(spec, step.matrix, step.arguments)
    return found + [Problem((*at, "matrix", *p.path), f"{step.name}: {p.message}") for p in unfit]


def unknown_function(address: str, functions: Mapping[str, Any]) -> str:
    """Why an address leads nowhere, in words."""
    if "/" not in address:
        return f"{ids.shorten(address)!r} is no function: write module/function"
    close = texts.suggestion(address, functions)
    return f"no installed and prepared module has a function {ids.shorten(address)!r}{close}"
