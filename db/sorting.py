"""The orders that lists of runs have, and the keys by which a page goes on.

An order is a sequence of segments, each the part of an index that has it: what has a value, by value and
then id; then what has none, by id. So nulls come last whichever way the values run, and every part is
walked, never sorted. A key says where a run stands: its segment, its value there, its id.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Float, Integer, Text, literal, select, type_coerce
from sqlalchemy.types import TypeEngine

from db import errors, texts
from db.arguments import RunArgument
from db.filters import HEADLINES, Path
from db.headlines import RunMetric
from db.runs import Run, RunTag
from db.states import RunState

KEYS = ("CREATED", "STARTED", "ENDED", "DURATION", "NAME", "PRIORITY", "STATE", "METRIC", "ARGUMENT", "TAG")
_NAMED = ("METRIC", "ARGUMENT", "TAG")

Value = float | int | str | None


class Key(NamedTuple):
    """Where a run stands in an order."""

    segment: int
    value: Value
    id: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of an order: rows of one index by `value` (by id alone, if None), then `id`.

    `where` chooses the index's rows; `lacking` is what a run must not have to stand here. The
    `rest` is what has no value. `owner` is the table, where that is not the runs'. A
    `plain` one is of all runs by id: of the live and of the archived ones, each with an index of their own.
    """

    id: Any
    project: Any
    value: Any = None
    kind: TypeEngine[Any] | None = None
    where: tuple[ColumnElement[bool], ...] = ()
    lacking: "tuple[Segment, ...]" = ()
    owner: Any = None
    rest: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """How a list is sorted; `name` is the metric's, option's or tag's, `of` last, minimum or maximum."""

    by: str = "CREATED"
    descending: bool = True
    name: str | None = None
    step: str | None = None
    of: str = "last"

    @property
    def newest_first(self) -> bool:
        """Whether it is the order that every list has by itself."""
        return self.by == "CREATED" and self.descending

    def segments(self) -> tuple[Segment, ...]:
        """The parts of the order, in their order."""
        return _segments(self)

    def arrange(self, keys: Iterable[Key]) -> list[Key]:
        """Keys in this order."""
        parts: dict[int, list[Key]] = {}
        for key in set(keys):
            parts.setdefault(key.segment, []).append(key)
        return [
            key
            for segment in sorted(parts)
            for key in sorted(parts[segment], key=_within, reverse=self.descending)
        ]

    def place(self, key: Key) -> Any:
        """What a cursor says of a key: the id alone where that decides."""
        if self.by == "CREATED":
            return key.id
        return [self._token, key.segment, key.value, key.id.hex()]

    def key(self, place: Any) -> Key | None:
        """The key that a cursor says; None when it is not of this order."""
        if self.by == "CREATED":
            return Key(0, None, _id(place)) if isinstance(place, str) and len(place) == 32 else None
        if not isinstance(place, list) or len(place) != 4 or place[0] != self._token:
            return None
        _, segment, value, at = place
        parts = self.segments()
        if type(segment) is not int or not 0 <= segment < len(parts) or not isinstance(at, str):
            return None
        if not _fits(value, parts[segment].kind) or len(at) != 32:
            return None
        return Key(segment, value, _id(at))

    @property
    def _token(self) -> str:
        return "\n".join(
            (self.by, self.name or "", self.step or "", self.of, "-" if self.descending else "+")
        )


def parse(document: Mapping[str, Any] | None, path: Path = ("sort",)) -> Sort:
    """The order that a document of the shape of the input `RunSort` asks for; newest first for none."""
    if document is None:
        return Sort()
    by, name, step = document.get("by") or "CREATED", document.get("name"), document.get("step")
    if by not in KEYS:
        raise errors.Invalid(f"runs are sorted by one of {', '.join(KEYS)}", path=(*path, "by"))
    if (by in _NAMED) is (name is None):
        rule = "needs the name of what to sort by" if name is None else "takes no name"
        raise errors.Invalid(f"a sort by {by} {rule}", path=(*path, "name"))
    if not all(texts.is_storable(word) for word in (name or "", step or "")):
        raise errors.Invalid("this has characters that cannot be stored", path=(*path, "name"))
    of = HEADLINES.get(document.get("of") or "LAST")
    if of is None:
        raise errors.Invalid("a metric has a LAST, a MIN and a MAX value", path=(*path, "of"))
    direction = document.get("direction") or "DESCENDING"
    return Sort(by, direction == "DESCENDING", name, step if by == "ARGUMENT" else None, of)


_run: Any = Run
_everything = Segment(_run.id, _run.project_id, plain=True)


def _segments(sort: Sort) -> tuple[Segment, ...]:
    match sort.by:
        case "STARTED":
            return _nullable(type_coerce(_run.started_at, BigInteger))
        case "ENDED":
            return _nullable(type_coerce(_run.ended_at, BigInteger))
        case "DURATION":
            return _nullable(DURATION)
        case "NAME":
            return (Segment(_run.id, _run.project_id, _run.name, Text(), (_run.name.is_not(None),)),)
        case "PRIORITY":
            priority = _run.priority
            return (Segment(_run.id, _run.project_id, priority, Integer(), (priority.is_not(None),)),)
        case "STATE":
            states = list(RunState)[:: -1 if sort.descending else 1]
            return tuple(Segment(_run.id, _run.project_id, where=(_run.state == state,)) for state in states)
        case "METRIC":
            return _with_the_rest(_metric(sort.name or "", sort.of))
        case "ARGUMENT":
            return _with_the_rest(*_arguments(sort.name or "", sort.step))
        case "TAG":
            tag: Any = RunTag
            where = (tag.name == sort.name,)
            return _with_the_rest(Segment(tag.run_id, tag.project_id, tag.value, Text(), where, owner=tag))
        case _:
            return (_everything,)


DURATION = type_coerce(_run.ended_at, BigInteger) - type_coerce(_run.started_at, BigInteger)
"""Microseconds from start to end, known once a run has ended."""


def _nullable(value: Any) -> tuple[Segment, ...]:
    known = Segment(_run.id, _run.project_id, value, BigInteger(), (value.is_not(None),))
    return known, Segment(_run.id, _run.project_id, where=(value.is_(None),), rest=True)


def _with_the_rest(*known: Segment) -> tuple[Segment, ...]:
    """Segments of runs that have something, then those that have none of it."""
    return *known, Segment(_run.id, _run.project_id, lacking=known, rest=True, plain=True)


def _metric(name: str, of: str) -> Segment:
    metric: Any = RunMetric
    value = getattr(metric, of)
    where = (metric.name == name, value.is_not(None))
    return Segment(metric.run_id, metric.project_id, value, Float(), where, owner=metric)


def _arguments(name: str, step: str | None) -> tuple[Segment, Segment]:
    """Numbers before words. Without a step it is the run's first that has the option."""
    rows: Any = RunArgument
    chosen = rows.leading if step is None else rows.step == step
    number, word = (
        Segment(
            rows.run_id,
            rows.project_id,
            value,
            kind,
            (rows.name == name, value.is_not(None), chosen),
            owner=rows,
        )
        for value, kind in ((rows.number, Float()), (rows.text, Text()))
    )
    return number, word


def lacks(segment: Segment, key: Any) -> ColumnElement[bool]:
    """That the run of this id does not stand in a segment."""
    rows = select(literal(1)).where(segment.owner.run_id == key, *segment.where)
    return rows.limit(1).scalar_subquery().is_(None)


def _within(key: Key) -> Any:
    """The order of keys within their segment, whose values are all of one kind."""
    return (key.id,) if key.value is None else (key.value, key.id)


def _fits(value: Any, kind: TypeEngine[Any] | None) -> bool:
    if kind is None:
        return value is None
    if isinstance(kind, Text):
        return isinstance(value, str) and texts.is_storable(value)
    if isinstance(kind, Float):
        return type(value) in (int, float)
    bits = 63 if isinstance(kind, BigInteger) else 31
    return type(value) is int and -(2**bits) <= value < 2**bits


def _id(text: str) -> bytes:
    return bytes.fromhex(text)
