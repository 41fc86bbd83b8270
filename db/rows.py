"""Rows as plain tuples whose columns are read on demand.

A page of a list reads thousands of columns and shows a few hundred: SQLAlchemy converts every one of them,
which costs more than the database itself. Here a row keeps what the driver gave, and an attribute converts
its own column when it is asked for. SQLAlchemy still builds, caches and runs the statement.
"""

from collections import _tuplegetter  # type: ignore[attr-defined]  # what namedtuple is made of
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.engine import CursorResult

Make = Callable[[Any], Any]

_classes: "WeakKeyDictionary[Any, Make]" = WeakKeyDictionary()


class LazyRow(tuple[Any, ...]):
    """What the driver gave; each statement's rows have a class of their own, with its columns' names.

    Read it by attribute: by index or unpacked, the values are the driver's, not converted.
    """

    __slots__ = ()


def fetch_all(result: CursorResult[Any]) -> list[Any]:
    """Every row of an executed statement."""
    make = _maker(result)
    if make is None:
        return list(result.all())
    raw = result.cursor.fetchall()
    result.close()
    return [make(row) for row in raw]


def _maker(result: CursorResult[Any]) -> Make | None:
    """The class of a statement's rows; None for what has no compiled statement or returns nothing."""
    compiled = getattr(result.context, "compiled", None)
    if compiled is None or result.cursor is None:
        return None
    found = _classes.get(compiled)
    if found is None:
        found = _classes[compiled] = _class(compiled, result)
    return found


def _class(compiled: Any, result: CursorResult[Any]) -> Make:
    dialect = result.dialect
    members: dict[str, Any] = {"__slots__": ()}
    for index, (key, described) in enumerate(zip(result.keys(), result.cursor.description, strict=True)):
        entry = compiled._result_columns[index]
        read = entry.type._cached_result_processor(dialect, described[1])
        members[key] = _tuplegetter(index, "") if read is None else _converted(index, read)
    return type("LazyRow", (LazyRow,), members)


def _converted(index: int, read: Callable[[Any], Any]) -> property:
    return property(lambda row: read(row[index]))
