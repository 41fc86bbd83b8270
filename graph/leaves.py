"""Leaves: values of a scalar or enumeration as parts of an answer, a whole column at once.

What a value becomes is for graphql-core to say; here is what spares asking it: a column that has nothing but
what the scalar is made of is part of the answer as it is, and an enumeration's name is looked up once. A column
of rows may skip the value between: what the driver gave for a state leads straight to the name.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any

import orjson
from graphql import GraphQLEnumType, GraphQLLeafType

from db.columns import Choice, Json, Timestamp, moment
from db.rows import Column

_INT32 = range(-(2**31), 2**31)
_MOST_MOMENTS = 10_000
"""Lists show the same times again and again; looking one up takes a tenth of making it."""

Convert = Callable[[Sequence[Any]], Sequence[Any]]
"""Makes parts of the answer of values, none of which is None."""


class Unusual(Exception):
    """This is left to graphql-core."""


def leaf(kind: GraphQLLeafType) -> Convert:
    """What makes parts of the answer of values of a type."""
    coerce = kind.coerce_output_value
    if isinstance(kind, GraphQLEnumType):
        return _remembered(coerce)
    fits = _FITS.get(kind.name)

    def convert(values: Sequence[Any]) -> Sequence[Any]:
        if fits is not None and fits(values):
            return values
        made = [coerce(value) for value in values]
        if None in made:
            raise Unusual("a value that cannot be told")
        return made

    return convert


def with_nulls(values: Sequence[Any], convert: Convert) -> Sequence[Any]:
    """Parts of values of which some may be None."""
    if None not in values:
        return convert(values)
    left = iter(convert([value for value in values if value is not None]))
    return [None if value is None else next(left) for value in values]


def of_column(kind: GraphQLLeafType, convert: Convert, column: Column) -> Convert:
    """What makes parts of the answer of what the driver gave for a column; its None stays None."""
    read = column.read
    if read is None:
        fits = _FITS.get(kind.name, _never)
        return lambda values: values if fits(values) else with_nulls(values, convert)
    if isinstance(column.type, Choice):
        return _remembered(lambda value: None if value is None else convert([read(value)])[0])
    if isinstance(column.type, Json) and kind.name == "JSON":
        return _as_written
    if isinstance(column.type, Timestamp) and kind.name == "DateTime":
        return _moments
    return lambda values: with_nulls(values, lambda there: convert([read(value) for value in there]))


class _Known(dict[Any, Any]):
    """What was made of each value: there are few."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: Any) -> Any:
        made = self[value] = self._make(value)
        return made


def _remembered(make: Callable[[Any], Any]) -> Convert:
    known = _Known(make)
    return lambda values: list(map(known.__getitem__, values))


def _as_written(values: Sequence[str | None]) -> Sequence[Any]:
    """JSON that the database has as text goes into the answer as it stands there; its null is None."""
    return [None if value is None or value == "null" else orjson.Fragment(value) for value in values]


def _moments(values: Sequence[int | None]) -> Sequence[datetime | None]:
    return list(map(_moment, values))


@lru_cache(_MOST_MOMENTS)
def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def _never(_: Sequence[Any]) -> bool:
    return False


def _are_texts(values: Sequence[Any]) -> bool:
    return {str}.issuperset(map(type, values))


def _are_whole(values: Sequence[Any]) -> bool:
    return {int}.issuperset(map(type, values)) and all(value in _INT32 for value in values)


def _are_truths(values: Sequence[Any]) -> bool:
    return {bool}.issuperset(map(type, values))


def _are_real(values: Sequence[Any]) -> bool:
    return {float}.issuperset(map(type, values)) and all(map(isfinite, values))


def _are_moments(values: Sequence[Any]) -> bool:
    # The endpoint's JSON has an aware UTC moment just as isoformat writes it, in a tenth of the time.
    return all(type(value) is datetime and value.tzinfo is UTC for value in values)


_FITS: dict[str, Callable[[Sequence[Any]], bool]] = {
    "ID": _are_texts,
    "String": _are_texts,
    "Int": _are_whole,
    "Float": _are_real,
    "Boolean": _are_truths,
    "DateTime": _are_moments,
}
