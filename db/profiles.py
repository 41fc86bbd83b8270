"""What is known of a table in a file without reading it again: rows, and columns with types and bounds.

Types are words, ordered so that two files' columns of one name have a type together: nothing yet (`null`),
then `int` below `float`, `bool`, `str` and whatever a format brings, and `mixed` above all. Pure, and cheap
to import: the process that reads the files (backends/profiler.py) and the database agree through this.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_COLUMNS = 1_000
NOTHING, MIXED = "null", "mixed"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `nulls` is None where nobody counted; the bounds are those of finite numbers alone."""

    name: str
    type: str
    nulls: int | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A file's table. `rows` and `columns` are None where they could not be told; `message` says why."""

    rows: int | None = None
    columns: tuple[Column, ...] | None = None
    message: str | None = None


def wider(one: str, other: str) -> str:
    """The type that holds values of both: commutative, associative and idempotent."""
    if one == other or other == NOTHING:
        return one
    if one == NOTHING:
        return other
    return "float" if {one, other} == {"int", "float"} else MIXED


def combine(profiles: Iterable[Profile]) -> Profile:
    """The table that several files are together; rows are unknown as soon as one file's are."""
    known = list(profiles)
    if not known:
        return Profile()
    rows = None if any(one.rows is None for one in known) else sum(one.rows or 0 for one in known)
    if any(one.columns is None for one in known):
        return Profile(rows)
    names = list(dict.fromkeys(column.name for one in known for column in one.columns or ()))
    if len(names) > MOST_COLUMNS:
        return Profile(rows)
    held = [(one, {column.name: column for column in one.columns or ()}) for one in known]
    return Profile(rows, tuple(_together(name, held) for name in names))


def encode(columns: Iterable[Column] | None) -> list[dict[str, Any]] | None:
    """Columns as JSON holds them; `decode` gives back equal ones."""
    if columns is None:
        return None
    return [
        {"name": one.name, "type": one.type, "nulls": one.nulls, "min": one.minimum, "max": one.maximum}
        for one in columns
    ]


def decode(document: Iterable[Mapping[str, Any]] | None) -> tuple[Column, ...] | None:
    """What `encode` made, read again."""
    if document is None:
        return None
    return tuple(
        Column(one["name"], one["type"], one.get("nulls"), one.get("min"), one.get("max")) for one in document
    )


def _together(name: str, held: list[tuple[Profile, dict[str, Column]]]) -> Column:
    kind, nulls = NOTHING, 0
    counted = True
    lowest, highest = math.inf, -math.inf
    for profile, columns in held:
        column = columns.get(name)
        # Where a file lacks the column, each of its rows lacks the value.
        more = profile.rows if column is None else column.nulls
        counted = counted and more is not None
        nulls += more or 0
        if column is not None:
            kind = wider(kind, column.type)
            lowest = lowest if column.minimum is None else min(lowest, column.minimum)
            highest = highest if column.maximum is None else max(highest, column.maximum)
    bounded = lowest <= highest
    return Column(
        name, kind, nulls if counted else None, lowest if bounded else None, highest if bounded else None
    )
