"""Rows as plain tuples whose columns are read on demand, and statements that are run without a detour.

A page of a list reads thousands of columns and shows a few hundred: SQLAlchemy converts every one of them,
which costs more than the database itself. Here a row keeps what the driver gave, and an attribute converts
its own column when it is asked for. A statement that is the same every time is a `Query`: it reads the columns
that are asked for and no others, and what SQLAlchemy makes of it is remembered for the driver to run.
"""

from collections import _tuplegetter  # type: ignore[attr-defined]  # what namedtuple is made of
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from sqlalchemy import LargeBinary, Select
from sqlalchemy.engine import CursorResult, Dialect

Make = Callable[[Any], Any]
Columns = frozenset[str] | None
"""Which columns of its rows who asks will read, by attribute; None is all of them."""

_REMEMBERED = 256
"""Sets of columns, of all statements together: clients choose them."""

_classes: "WeakKeyDictionary[Any, Make]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Column:
    """Where a column stands in a row, its type, and what makes its value of what the driver gave, if anything."""

    index: int
    type: Any
    read: Callable[[Any], Any] | None


class LazyRow(tuple[Any, ...]):
    """What the driver gave; each statement's rows have a class of their own, with its columns' names.

    Read it by attribute: by index or unpacked, the values are the driver's, not converted.
    """

    __slots__ = ()
    _columns: ClassVar[Mapping[str, Column]] = {}


class Query:
    """A statement that is the same every time but for the values of its parameters."""

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        self._prepared: WeakKeyDictionary[Dialect, Prepared] = WeakKeyDictionary()

    def only(self, columns: Columns) -> "Query":
        """The same rows with these columns alone."""
        return self if columns is None else _only(self, columns)

    def prepared(self, dialect: Dialect) -> "Prepared | None":
        """What a driver needs to run it; None before it was run for the first time."""
        return self._prepared.get(dialect)

    def fetch_first(self, result: CursorResult[Any]) -> list[Any]:
        """The rows of its first execution, from which all others learn."""
        compiled = getattr(result.context, "compiled", None)
        found = fetch_all(result)
        make = _classes.get(compiled)
        if make is not None:
            self._prepared[result.dialect] = Prepared(compiled, make)
        return found


@lru_cache(maxsize=_REMEMBERED)
def _only(query: Query, columns: frozenset[str]) -> Query:
    there = query.statement.selected_columns
    chosen = [column for name, column in there.items() if name in columns]
    return Query(query.statement.with_only_columns(*chosen, maintain_column_froms=True)) if chosen else query


class Prepared:
    """A statement as a driver takes it: a text with places, and the class of its rows."""

    def __init__(self, compiled: Any, make: Make) -> None:
        self.make = make
        self._compiled = compiled
        self._names: Sequence[str] = compiled.positiontup or ()
        self._lists = frozenset(name for name, bind in compiled.binds.items() if bind.expanding)
        self._processors: Mapping[str, Any] = compiled._bind_processors
        self._texts: dict[tuple[int, ...], str] = {}

    def filled(self, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text and the values of its places. A list is filled up with its last value to one of few lengths."""
        values: list[Any] = []
        lengths: list[int] = []
        for name in self._names:
            value = parameters[name] if name in parameters else self._compiled.params[name]
            process = self._processors.get(name)
            if name not in self._lists:
                values.append(value if process is None else process(value))
                continue
            given = list(value if process is None else map(process, value))
            length = 1 << (len(given) - 1).bit_length() if given else 0
            values += given + given[-1:] * (length - len(given))
            lengths.append(length)
        text = self._texts.get(tuple(lengths))
        return (self._text(lengths) if text is None else text), values

    def _text(self, lengths: Sequence[int]) -> str:
        if not self._lists:
            text: str = self._compiled.string
        else:
            lists = zip((name for name in self._names if name in self._lists), lengths, strict=True)
            given = {name: [None] * length for name, length in lists}
            text = self._compiled.construct_expanded_state({**self._compiled.params, **given}).statement
        self._texts[tuple(lengths)] = text
        return text


@lru_cache(maxsize=_REMEMBERED)
def including(columns: Columns, *more: str) -> Columns:
    """These columns too."""
    return None if columns is None else columns.union(more)


def columns_of(kind: type[LazyRow]) -> Mapping[str, Column]:
    """The columns of a statement's rows, by attribute."""
    return kind._columns


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
    columns: dict[str, Column] = {}
    for index, (key, described) in enumerate(zip(result.keys(), result.cursor.description, strict=True)):
        kind = compiled._result_columns[index].type
        read = kind._cached_result_processor(dialect, described[1])
        # Both drivers give bytes for bytes.
        columns[key] = Column(index, kind, None if isinstance(kind, LargeBinary) else read)
    members = {name: _converted(column) for name, column in columns.items()}
    return type("LazyRow", (LazyRow,), {"__slots__": (), **members, "_columns": columns})


def _converted(column: Column) -> Any:
    index, read = column.index, column.read
    return _tuplegetter(index, "") if read is None else property(lambda row: read(row[index]))
