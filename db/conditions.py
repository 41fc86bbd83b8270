"""Conditions: whether a step runs, from what earlier ones reported, tagged or ended as.

A small typed form, no language: `{step, metric, of, op, value}`, `{step, tag, op, value}`, `{step, state}`, put
together by `all`, `any` and `not`. It is decided once, when its job becomes ready. What cannot be known, a
metric that was never reported, makes it neither true nor false, and a job runs only where it is true. Pure;
verdicts.py reads what it is decided from.
"""

import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from db import manifests, texts
from db.errors import Problem
from db.manifests import Scalar
from db.selections import Source, read_source, unknown_keys
from db.states import TERMINAL_JOB, JobState

MOST_PARTS = 100
DEEPEST = 8

E = TypeVar("E", bound=enum.Enum)


class Headline(enum.Enum):
    """Which of a metric's headline values."""

    LAST = "LAST"
    MIN = "MIN"
    MAX = "MAX"


class Op(enum.Enum):
    """How two values are compared."""

    LT = "LT"
    LTE = "LTE"
    GT = "GT"
    GTE = "GTE"
    EQ = "EQ"
    NE = "NE"


class Jobs(enum.Enum):
    """Of a step with several jobs: whether it must hold for each, or for one of them."""

    EVERY = "EVERY"
    ANY = "ANY"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison. `kind` is metric, tag or state, `name` the metric's or tag's; positions once bound."""

    source: Source
    kind: str
    name: str
    op: Op
    value: Scalar
    of: Headline = Headline.LAST
    jobs: Jobs = Jobs.EVERY
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions put together: all, any, or not (of one)."""

    kind: str
    parts: tuple["Condition", ...]


Condition = Leaf | Group

SYMBOLS = {Op.LT: "<", Op.LTE: "≤", Op.GT: ">", Op.GTE: "≥", Op.EQ: "=", Op.NE: "≠"}
_GROUPS = ("all", "any", "not")
_LEAVES = {
    "metric": ("step", "matrix", "metric", "of", "op", "value", "jobs"),
    "tag": ("step", "matrix", "tag", "op", "value", "jobs"),
    "state": ("step", "matrix", "state", "op", "jobs"),
}
_FORMS = (
    "{step, metric, op, value}, {step, tag, op, value}, {step, state}, {all: […]}, {any: […]} or {not: …}"
)


def read(value: Any, at: tuple[str, ...]) -> tuple[Condition | None, list[Problem]]:
    """A condition as its author wrote it, and what is wrong with it; None is none."""
    if value is None:
        return None, []
    problems: list[Problem] = []
    condition = _read(value, at, problems, 0)
    if not problems and sum(1 for _ in leaves(condition)) > MOST_PARTS:
        problems.append(Problem(at, f"has more than {MOST_PARTS} comparisons"))
    return (None if problems else condition), problems


_NOTHING = Group("all", ())


def _read(value: Any, at: tuple[str, ...], problems: list[Problem], depth: int) -> Condition:
    if not isinstance(value, Mapping):
        problems.append(Problem(at, f"a condition is {_FORMS}, not {texts.shown(value)}"))
        return _NOTHING
    given = {name: item for name, item in value.items() if item is not None}
    kinds = [kind for kind in (*_GROUPS, *_LEAVES) if kind in given]
    if len(kinds) != 1:
        problems.append(Problem(at, f"a condition is one of {_FORMS}"))
        return _NOTHING
    if kinds[0] in _GROUPS:
        return _group(kinds[0], given, at, problems, depth)
    return _leaf(kinds[0], given, at, problems)


def _group(
    kind: str, given: Mapping[str, Any], at: tuple[str, ...], problems: list[Problem], depth: int
) -> Condition:
    problems += unknown_keys(given, (kind,), at)
    parts = [given[kind]] if kind == "not" else given[kind]
    if depth == DEEPEST:
        problems.append(Problem(at, f"is nested more than {DEEPEST} deep"))
        return _NOTHING
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= MOST_PARTS:
        problems.append(Problem((*at, kind), f"is a list of 1 to {MOST_PARTS} conditions"))
        return _NOTHING
    below = [(*at, kind)] if kind == "not" else [(*at, kind, str(index)) for index in range(len(parts))]
    read = [_read(part, path, problems, depth + 1) for part, path in zip(parts, below, strict=True)]
    return Group(kind, tuple(read))


def _leaf(kind: str, given: Mapping[str, Any], at: tuple[str, ...], problems: list[Problem]) -> Condition:
    problems += unknown_keys(given, _LEAVES[kind], at)
    source, wrong = read_source(given, at)
    problems += wrong
    if source is None and not wrong:
        problems.append(Problem((*at, "step"), "say which step"))
    op = _member(Op, given, "op", at, problems, Op.EQ if kind == "state" else None)
    jobs = _member(Jobs, given, "jobs", at, problems, Jobs.EVERY)
    name = "" if kind == "state" else given[kind]
    if kind == "state":
        ended = tuple(state.value for state in JobState if state in TERMINAL_JOB)
        value, refused = given[kind], _one_of(given[kind], ended)
        if op not in (Op.EQ, Op.NE):
            problems.append(Problem((*at, "op"), "states are compared by EQ or NE"))
    else:
        if unfit := texts.refusal(name):
            problems.append(Problem((*at, kind), f"its name {unfit}"))
        value = given.get("value")
        refused = _number(value) if kind == "metric" else manifests.tag_refusal(None, value)
        if kind == "tag" and isinstance(value, str | bool) and op not in (Op.EQ, Op.NE):
            problems.append(Problem((*at, "op"), "only numbers are compared by LT, LTE, GT and GTE"))
    if refused:
        problems.append(Problem((*at, "state" if kind == "state" else "value"), refused))
    of = _member(Headline, given, "of", at, problems, Headline.LAST)
    return _NOTHING if source is None else Leaf(source, kind, name, op, value, of, jobs)


def _member(
    kind: type[E],
    given: Mapping[str, Any],
    key: str,
    at: tuple[str, ...],
    problems: list[Problem],
    default: E | None,
) -> E:
    members = {member.value: member for member in kind}
    value = given.get(key)
    if value is None and default is not None:
        return default
    if refused := _one_of(value, tuple(members)):
        problems.append(Problem((*at, key), refused))
        return next(iter(kind))
    return members[value]


def _one_of(value: Any, words: tuple[str, ...]) -> str | None:
    if isinstance(value, str) and value in words:
        return None
    return f"must be one of {', '.join(words)}, not {texts.shown(value)}"


def _number(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return manifests.tag_refusal(None, value)  # larger ones cannot be stored, nor compared exactly
    if not isinstance(value, float) or not math.isfinite(value):
        return f"must be a finite number, not {texts.shown(value)}"
    return None


def encode(condition: Condition) -> dict[str, Any]:
    """As it is written, without what is so by default; with positions where it is bound."""
    if isinstance(condition, Group):
        parts = [encode(part) for part in condition.parts]
        return {condition.kind: parts[0] if condition.kind == "not" else parts}
    document = condition.source.encode()
    if condition.kind == "state":
        document["state"] = condition.value
        if condition.op is not Op.EQ:
            document["op"] = condition.op.value
    else:
        document[condition.kind] = condition.name
        if condition.of is not Headline.LAST:
            document["of"] = condition.of.value
        document |= {"op": condition.op.value, "value": condition.value}
    if condition.jobs is not Jobs.EVERY:
        document["jobs"] = condition.jobs.value
    return document | ({"positions": list(condition.positions)} if condition.positions else {})


def decode(document: Mapping[str, Any]) -> Condition:
    """What `encode` made."""
    for kind in _GROUPS:
        if kind in document:
            parts = [document[kind]] if kind == "not" else document[kind]
            return Group(kind, tuple(decode(part) for part in parts))
    kind = next(kind for kind in _LEAVES if kind in document)
    state = kind == "state"
    return Leaf(
        Source(document["step"], document.get("matrix", {})),
        kind,
        "" if state else document[kind],
        Op(document.get("op", "EQ")),
        document["state"] if state else document["value"],
        Headline(document.get("of", "LAST")),
        Jobs(document.get("jobs", "EVERY")),
        tuple(document.get("positions", ())),
    )


def leaves(condition: Condition, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every comparison of a condition, in order, with the path to it."""
    if isinstance(condition, Leaf):
        yield at, condition
        return
    for index, part in enumerate(condition.parts):
        below = (condition.kind,) if condition.kind == "not" else (condition.kind, str(index))
        yield from leaves(part, (*at, *below))


def bind(condition: Condition, positions: Callable[[Source], Sequence[int]]) -> Condition:
    """The condition with the positions of the jobs that it looks at."""
    if isinstance(condition, Leaf):
        return replace(condition, positions=tuple(positions(condition.source)))
    return Group(condition.kind, tuple(bind(part, positions) for part in condition.parts))
