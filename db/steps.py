"""Steps: functions with arguments, in an order in which everything needed comes first.

A step names a function by `module/function`; which version that is, is decided when a run starts. Steps
are stored so that needs always point backwards: a stored graph has no cycle by construction.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint, bindparam, select
from sqlalchemy.orm import Mapped, mapped_column

from db import errors, ids, manifests, modules
from db.columns import Base, Id, Json
from db.database import Session
from db.errors import Problem

MOST_STEPS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_RULE = "must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit"


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


_STEPS = (
    select(Step)
    .where(Step.revision_id.in_(bindparam("revisions", expanding=True)))
    .order_by(Step.revision_id, Step.position)
)


async def steps_of(session: Session, revisions: Collection[bytes]) -> list[Step]:
    """The steps of these revisions, in order."""
    return await session.all(Step, _STEPS, {"revisions": list(revisions)})


async def check_steps(
    session: Session, project_id: bytes, name: str, steps: Sequence[StepSpec]
) -> list[tuple[StepSpec, list[int], bytes]]:
    """The steps in order, with the positions they need and their modules; raises Invalid with every mistake.

    `name` is what their pipeline is to be called, checked along with them.
    """
    problems = name_problems(name)
    if not 1 <= len(steps) <= MOST_STEPS:
        problems.append(Problem(("steps",), f"a pipeline has 1 to {MOST_STEPS} steps, not {len(steps)}"))
        raise errors.Invalid(problems=problems)
    ordered, mistakes = in_order(steps)
    names = {step.address.partition("/")[0] for step in steps if manifests.text_refusal(step.address) is None}
    functions = await modules.addressed(session, project_id, names)
    problems += mistakes
    for index, step in enumerate(steps):
        problems += _step_problems(index, step, functions)
    if problems:
        raise errors.Invalid(problems=problems)
    return [(step, needs, functions[step.address].module_id) for step, needs in ordered]


def name_problems(name: str) -> list[Problem]:
    """What is wrong with a name of a pipeline."""
    return [] if _NAME.match(name) else [Problem(("name",), f"{ids.shorten(name)!r} {_RULE}")]


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
