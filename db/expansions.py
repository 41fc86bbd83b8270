"""Expansions: the jobs that a revision's steps become, one for each combination of a step's matrix. Pure.

Steps name steps, jobs know positions in their run. A job needs what must succeed before it, and awaits what
must only end: the jobs whose state its condition asks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import conditions, matrices
from db.conditions import Condition
from db.manifests import Scalar
from db.selections import Bound, Selection, Source
from db.steps import StepSpec


@dataclass(frozen=True, slots=True)
class Member:
    """A job to be. Without `inputs` it reads what all it needs hands on, or the run's files."""

    position: int
    step: StepSpec
    label: str
    combination: Mapping[str, Scalar]
    needs: tuple[int, ...]
    awaits: tuple[int, ...] = ()
    inputs: tuple[Bound, ...] | None = None
    condition: Condition | None = None

    @property
    def selections(self) -> tuple[Bound, ...]:
        """What it reads, said in full."""
        return selections_of(self.needs, self.inputs)

    def row(self) -> dict[str, Any]:
        """The columns of its job that say how it hangs together with others."""
        return {
            "position": self.position,
            "step": self.label,
            "needs": list(self.needs),
            "awaits": list(self.awaits) or None,
            "inputs": None if self.inputs is None else [bound.encode() for bound in self.inputs],
            "condition": None if self.condition is None else conditions.encode(self.condition),
            "matrix": dict(self.combination) or None,
        }


def selections_of(needs: Sequence[int], inputs: Sequence[Bound] | None) -> tuple[Bound, ...]:
    """What a job reads: its selections, else what it needs hands on, else the run's files."""
    if inputs is not None:
        return tuple(inputs)
    return (Bound(tuple(needs) if needs else None, asked=False),)


def expand(steps: Sequence[StepSpec]) -> list[Member]:
    """The jobs of steps that are in order and say their `needs` in full."""
    found = _Expansion()
    for step in steps:
        found.add(step)
    return found.members


@dataclass(slots=True)
class _Expansion:
    members: list[Member] = field(default_factory=list)
    of_step: dict[str, list[Member]] = field(default_factory=dict)

    def positions(self, source: Source) -> list[int]:
        """The jobs of an earlier step that a source means."""
        return [member.position for member in self.of_step[source.step] if source.takes(member.combination)]

    def add(self, step: StepSpec) -> None:
        """The jobs of one more step; they differ in their combination alone."""
        ordered = {position for name in step.needs or () for position in self.positions(Source(name))}
        named = {position for _, source in step.sources() for position in self.positions(source)}
        awaited = self._awaited(step)
        needs = tuple(sorted((ordered | named) - awaited))
        inputs = None if step.inputs is None else tuple(map(self._bound, step.inputs))
        if inputs is None and ordered != set(needs):
            inputs = (Bound(tuple(sorted(ordered)) or None, asked=False),)
        condition = None if step.when is None else conditions.bind(step.when, self.positions)
        combinations = matrices.combinations(step.matrix)
        self.of_step[step.name] = [
            Member(
                len(self.members) + index,
                step,
                matrices.label(step.name, step.matrix, combination),
                combination,
                needs,
                tuple(sorted(awaited)),
                inputs,
                condition,
            )
            for index, combination in enumerate(combinations)
        ]
        self.members += self.of_step[step.name]

    def _awaited(self, step: StepSpec) -> set[int]:
        """The jobs whose end is enough: a condition asks what their state is."""
        asked = [] if step.when is None else [leaf for _, leaf in conditions.leaves(step.when)]
        return {
            position for leaf in asked if leaf.kind == "state" for position in self.positions(leaf.source)
        }

    def _bound(self, selection: Selection) -> Bound:
        jobs = None if selection.source is None else tuple(self.positions(selection.source))
        return Bound(jobs, selection.files, selection.prefix)
