"""Verdicts: a bound condition, decided from facts; true, false, or None for what cannot be known. Pure.

`Facts` is what has been read of the jobs it looks at. A verdict comes with words for whoever asks why a step
was skipped.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import texts
from db.conditions import SYMBOLS, Condition, Group, Headline, Jobs, Leaf, Op
from db.manifests import Scalar
from db.states import JobState

_LONGEST = 500

_COMPARE: dict[Op, Callable[[Any, Any], bool]] = {
    Op.LT: operator.lt,
    Op.LTE: operator.le,
    Op.GT: operator.gt,
    Op.GTE: operator.ge,
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one job: its state, its latest attempt's headline values, the tags of what it handed on."""

    label: str
    state: JobState
    metrics: Mapping[str, Mapping[Headline, float | None]] = field(default_factory=dict)
    tags: Sequence[Mapping[str, Scalar]] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition holds, None where that cannot be known, and what it was decided from, in words."""

    holds: bool | None
    words: tuple[str, ...]

    @property
    def message(self) -> str:
        """Why a job was skipped."""
        said = "; ".join(dict.fromkeys(self.words))
        return f"its condition does not hold: {said}"[:_LONGEST]


def decide(condition: Condition, facts: Mapping[int, Facts]) -> Verdict:
    """The verdict on a bound condition; `facts` are by position."""
    if isinstance(condition, Leaf):
        verdicts = [_compare(condition, facts[position]) for position in condition.positions]
        return _together("all" if condition.jobs is Jobs.EVERY else "any", verdicts)
    return _together(condition.kind, [decide(part, facts) for part in condition.parts])


def wording(condition: Condition) -> str:
    """What a condition asks for, in words, before anything is known."""
    if isinstance(condition, Leaf):
        return _asked(condition)
    parts = [wording(part) for part in condition.parts]
    if condition.kind == "not":
        return f"not ({parts[0]})"
    return (" and " if condition.kind == "all" else " or ").join(
        f"({text})" if isinstance(part, Group) and len(part.parts) > 1 and part.kind != "not" else text
        for part, text in zip(condition.parts, parts, strict=True)
    )


def _asked(leaf: Leaf) -> str:
    chosen = ", ".join(f"{name}={texts.shown(value)}" for name, value in leaf.source.matrix.items())
    step = leaf.source.step + (f"[{chosen}]" if chosen else "")
    several = len(leaf.positions) > 1
    who = f"{'every' if leaf.jobs is Jobs.EVERY else 'any'} job of {step}" if several else step
    if leaf.kind == "state":
        return f"{who} {'ends' if leaf.op is Op.EQ else 'does not end'} {leaf.value}"
    what = f"the {leaf.of.value.lower()} {leaf.name}" if leaf.kind == "metric" else f"the tag {leaf.name}"
    return f"{what} of {who} {SYMBOLS[leaf.op]} {_said(leaf)}"


def _together(kind: str, verdicts: Sequence[Verdict]) -> Verdict:
    """Three-valued: what is unknown decides nothing, unless the rest decides without it."""
    found = {verdict.holds for verdict in verdicts}
    if kind == "not":
        (verdict,) = verdicts
        return Verdict(None if verdict.holds is None else not verdict.holds, verdict.words)
    if kind == "all":
        holds = False if False in found else None if None in found else True
    else:
        holds = True if True in found else None if None in found else False
    told = [verdict for verdict in verdicts if verdict.holds is holds] or verdicts
    return Verdict(holds, tuple(word for verdict in told for word in verdict.words))


def _compare(leaf: Leaf, facts: Facts) -> Verdict:
    wanted = f"wanted {SYMBOLS[leaf.op]} {_said(leaf)}"
    if leaf.kind == "state":
        holds = _COMPARE[leaf.op](facts.state.value, leaf.value)
        return Verdict(holds, (f"{facts.label} is {facts.state.value}, {wanted}",))
    if leaf.kind == "metric":
        value = facts.metrics.get(leaf.name, {}).get(leaf.of)
        if value is None:
            return Verdict(None, (f"{facts.label} reported no {leaf.name}",))
        return Verdict(
            _COMPARE[leaf.op](value, leaf.value),
            (f"the {leaf.of.value.lower()} {leaf.name} of {facts.label} is {value:g}, {wanted}",),
        )
    return _compare_tags(leaf, facts, wanted)


def _compare_tags(leaf: Leaf, facts: Facts, wanted: str) -> Verdict:
    """True if one file's tag fits; unknown if no file has it, or none of a kind to compare."""
    found = [tags[leaf.name] for tags in facts.tags if leaf.name in tags]
    comparable = [value for value in found if _kind(value) == _kind(leaf.value)]
    if not comparable:
        said = f"no file of {facts.label} has a tag {leaf.name} to compare with {_said(leaf)}"
        return Verdict(None, (said,))
    shown = ", ".join(texts.shown(value) for value in comparable[:3])
    holds = any(_COMPARE[leaf.op](value, leaf.value) for value in comparable)
    return Verdict(holds, (f"the tag {leaf.name} of {facts.label} is {shown}, {wanted}",))


def _kind(value: Scalar) -> str:
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )


def _said(leaf: Leaf) -> str:
    return str(leaf.value) if leaf.kind == "state" else texts.shown(leaf.value)
