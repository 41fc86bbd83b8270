"""What lists of runs are narrowed by: conditions, read from the API's own words.

A filter is a document of the shape of the input `RunFilter`; everything given in it must hold, and `and`,
`or`, `not` put filters together. Reading it here, and nowhere else, makes a saved view and a request the
same thing. Pure: what a condition means in SQL is in matching.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from db import arguments, errors, ids, texts
from db.errors import Problem
from db.states import RunState

DEPTH = 5
"""How deep `and`, `or` and `not` may nest."""
MOST = 50
"""How many conditions a filter may have: each costs a look at each run that is examined."""
LONGEST_SEARCH = 200
_MOMENTS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
"""What a range of time reaches from and to: arithmetic ends a little later."""
HEADLINES = {"LAST": "last", "MIN": "minimum", "MAX": "maximum"}
COMPARISONS = ("eq", "lt", "lte", "gt", "gte")

Bounds = tuple[tuple[str, float], ...]
"""Comparisons, all of which must hold: (eq | lt | lte | gt | gte, number)."""
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold, or there is nothing it could hold of."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class InStates:
    """The run is in one of these states."""

    states: tuple[RunState, ...]


@dataclass(frozen=True, slots=True)
class Belongs:
    """The run belongs to something: `to` is pipeline, module, project, createdBy or parent."""

    to: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """The run has this very name."""

    name: str


@dataclass(frozen=True, slots=True)
class Mentions:
    """The run's name or notes contain this, in capital or small letters."""

    words: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """The run has a tag of this name; with this value, unless that is None."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class During:
    """`of` (created_at, started_at, ended_at) lies at or after `since`, and before `before`."""

    of: str
    since: datetime | None
    before: datetime | None


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a step (of any, when None) equals a text, or compares with numbers."""

    step: str | None
    name: str
    text: str | None
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Metric:
    """A headline value (last, minimum, maximum) of a metric compares with numbers."""

    name: str
    of: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Flag:
    """`of` (external, archived) is so."""

    of: str
    value: bool


Leaf = InStates | Belongs | Named | Mentions | Tagged | During | Argument | Metric | Flag
Condition = Every | Some | Not | Leaf


def parse(document: Mapping[str, Any] | None, path: Path = ("filter",)) -> tuple[Condition, ...]:
    """The conditions of a filter, all of which must hold; raises Invalid with every mistake.

    Archived runs are left out unless the filter says anything of `archived`, be it null: either.
    """
    reader = _Reader()
    found = reader.read(document or {}, path, 1)
    if not reader.problems and (reader.parts > MOST or len(list(leaves(found))) > MOST):
        reader.problems.append(Problem(path, f"a filter has at most {MOST} conditions"))
    if reader.problems:
        raise errors.Invalid(problems=reader.problems)
    return found if reader.says_archived else (*found, Flag("archived", False))


def leaves(conditions: Sequence[Condition]) -> Iterator[Leaf]:
    """Every single condition of a tree."""
    for condition in conditions:
        match condition:
            case Every(parts) | Some(parts):
                yield from leaves(parts)
            case Not(part):
                yield from leaves((part,))
            case _:
                yield condition


class _Reader:
    """Reads a document and gathers what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.says_archived = False
        self.parts = 0
        """What `and`, `or` and `not` put together, also where nothing is in it."""
        self._fields: dict[str, Callable[[Any, Path], list[Condition]]] = {
            "states": self._states,
            "tags": lambda given, at: [self._tag(one, (*at, str(i))) for i, one in enumerate(given)],
            "hasTags": lambda given, at: [Tagged(self._text(name, at), None) for name in given],
            "name": lambda given, at: [Named(self._text(given, at))],
            "search": self._search,
            "createdAt": lambda given, at: [self._during("created_at", given, at)],
            "startedAt": lambda given, at: [self._during("started_at", given, at)],
            "endedAt": lambda given, at: [self._during("ended_at", given, at)],
            "arguments": lambda given, at: [
                self._argument(one, (*at, str(i))) for i, one in enumerate(given)
            ],
            "metrics": lambda given, at: [self._metric(one, (*at, str(i))) for i, one in enumerate(given)],
            "external": lambda given, at: [Flag("external", bool(given))],
            "archived": lambda given, at: [Flag("archived", bool(given))],
        }
        for name, kind in KINDS.items():
            self._fields[name] = self._belonging(name, kind)

    def read(self, document: Mapping[str, Any], path: Path, depth: int) -> tuple[Condition, ...]:
        """The conditions of one level and those below."""
        if depth > DEPTH:
            self._wrong(path, f"filters nest at most {DEPTH} deep")
            return ()
        self.parts += depth > 1
        found: list[Condition] = []
        for name, given in document.items():
            at = (*path, name)
            self.says_archived |= name == "archived"
            if given is None:
                continue
            if name == "and":
                for index, one in enumerate(given):
                    found += self.read(one, (*at, str(index)), depth + 1)
            elif name == "or":
                parts = [self.read(one, (*at, str(i)), depth + 1) for i, one in enumerate(given)]
                found.append(Some(tuple(Every(part) for part in parts)))
            elif name == "not":
                found.append(Not(Every(self.read(given, at, depth + 1))))
            elif name in self._fields:
                found += self._fields[name](given, at)
            else:
                self._wrong(at, "runs are not filtered by this")
        return tuple(found)

    def _wrong(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _text(self, given: str, path: Path) -> str:
        if not texts.is_storable(given):
            self._wrong(path, "this has characters that cannot be stored")
        return given

    def _states(self, given: Any, path: Path) -> list[Condition]:
        known = {state.value: state for state in RunState}
        if unknown := [str(name) for name in given if name not in known]:
            self._wrong(path, f"there is no state {ids.shorten(unknown[0])!r}")
        chosen = tuple(known[name] for name in dict.fromkeys(given) if name in known)
        return [InStates(chosen)] if given else []

    def _belonging(self, name: str, kind: str) -> Callable[[Any, Path], list[Condition]]:
        def read(given: Any, path: Path) -> list[Condition]:
            try:
                return [Belongs(name, ids.decode(kind, given))]
            except errors.NotFound as error:
                raise errors.NotFound(str(error), path=path) from error

        return read

    def _search(self, given: str, path: Path) -> list[Condition]:
        words = self._text(given, path).strip()
        if not 1 <= len(words) <= LONGEST_SEARCH:
            self._wrong(path, f"a search has 1 to {LONGEST_SEARCH} characters")
        return [Mentions(words)]

    def _tag(self, given: Mapping[str, Any], path: Path) -> Condition:
        return Tagged(self._text(given["name"], path), self._text(given.get("value") or "", path))

    def _during(self, of: str, given: Mapping[str, Any], path: Path) -> Condition:
        since, before = (self._moment(given.get(end), (*path, end)) for end in ("since", "before"))
        return During(of, since, before)

    def _moment(self, given: Any, path: Path) -> datetime | None:
        try:
            found = None if given is None else datetime.fromisoformat(given)
        except ValueError:
            found = None
            self._wrong(path, f"{ids.shorten(str(given))!r} is no time: write it as 2026-01-31T12:00:00Z")
        if found is not None and found.tzinfo is None:
            self._wrong(path, "a time says its zone: end it with Z or +01:00")
            return None
        if found is not None and not _MOMENTS[0] <= found <= _MOMENTS[1]:
            self._wrong(path, "a time lies in the years 1 to 9999")
            return None
        return found

    def _argument(self, given: Mapping[str, Any], path: Path) -> Condition:
        name, step = self._text(given["name"], path), given.get("step")
        same = given.get("eq")
        number, text = arguments.plain(same)
        bounds = self._bounds({**given, "eq": None}, path, needed=same is None)
        if same is not None and number is None and text is None:
            self._wrong((*path, "eq"), "an argument is compared with a number, a word, true or false")
        if text is not None and bounds:
            self._wrong(path, "an argument is compared with a text or with numbers, not with both")
        if number is not None:
            bounds = (*bounds, ("eq", number))
        return Argument(None if step is None else self._text(step, path), name, text, bounds)

    def _metric(self, given: Mapping[str, Any], path: Path) -> Condition:
        of = HEADLINES.get(given.get("of") or "LAST")
        if of is None:
            self._wrong((*path, "of"), "a metric has a LAST, a MIN and a MAX value")
        return Metric(self._text(given["name"], path), of or "last", self._bounds(given, path, needed=True))

    def _bounds(self, given: Mapping[str, Any], path: Path, *, needed: bool) -> Bounds:
        bounds = tuple(
            (operator, float(given[operator])) for operator in COMPARISONS if given.get(operator) is not None
        )
        if needed and not bounds:
            self._wrong(path, f"say what to compare with: one of {', '.join(COMPARISONS)}")
        return bounds


KINDS = {
    "pipeline": "pipeline",
    "module": "module",
    "project": "project",
    "createdBy": "user",
    "parent": "run",
    "schedule": "schedule",
    "dataset": "dataset",
    "datasetVersion": "dataset_version",
}
"""What a run may belong to, and the kind of its id."""
