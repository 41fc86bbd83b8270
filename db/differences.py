"""What is different between two states of a module: its functions, their options, and what runs them.

Pure. Whoever runs a pipeline wants to know whether a newer version still takes what they give it: so an
option's type, default, bounds, values and doc are told one by one, each with what it was and is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from db.manifests import Function, Manifest, Option, plain

_MODULE = (
    "title",
    "tagline",
    "description",
    "tags",
    "image",
    "dockerfile",
    "python",
    "requirements",
    "format",
)


@dataclass(frozen=True, slots=True)
class Change:
    """One property: what it was, and what it is, as JSON."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a name that is in both: its changed properties, and what came, went and changed below it."""

    name: str
    changes: tuple[Change, ...]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple["Difference", ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.added or self.removed or self.changed)


def between(before: Manifest, after: Manifest) -> Difference:
    """What a module has changed: below it its functions, and below those their options."""
    added, removed, changed = _members(before.functions, after.functions, _function)
    return Difference(after.name, _changes(before, after, _MODULE), added, removed, changed)


def _function(before: Function, after: Function) -> Difference:
    added, removed, changed = _members(before.options, after.options, _option)
    own = [part.name for part in fields(Function) if part.name not in ("name", "options")]
    return Difference(after.name, _changes(before, after, own), added, removed, changed)


def _option(before: Option, after: Option) -> Difference:
    own = [part.name for part in fields(Option) if part.name != "name"]
    return Difference(after.name, _changes(before, after, own))


def _members(
    before: Sequence[Any], after: Sequence[Any], compare: Callable[[Any, Any], Difference]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Difference, ...]]:
    was = {member.name: member for member in before}
    now = {member.name: member for member in after}
    both = (compare(was[name], now[name]) for name in now if name in was)
    return (
        tuple(name for name in now if name not in was),
        tuple(name for name in was if name not in now),
        tuple(difference for difference in both if difference),
    )


def _changes(before: Any, after: Any, names: Iterable[str]) -> tuple[Change, ...]:
    pairs = ((name, plain(getattr(before, name)), plain(getattr(after, name))) for name in names)
    # 1 and 1.0 and true are equal in Python, and different defaults.
    return tuple(
        Change(name, was, now) for name, was, now in pairs if was != now or type(was) is not type(now)
    )
