"""Scalars, and records: Int64 is a JSON number that JavaScript keeps exact.

A DateTime that is given is one that can be kept, read again, and reckoned with: `datetime` ends with the year 9999
in UTC, and raises where an offset, a day or a jitter leads beyond.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.schema.types.base_scalars import DateTimeDefinition
from strawberry.types.scalar import ScalarDefinition

MAX = 2**53 - 1
_YEARS = (datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))

Int64 = NewType("Int64", int)


def _int64(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphQLError(f"Int64 cannot represent {value!r}: it is no whole number")
    if not -MAX <= value <= MAX:
        raise GraphQLError(f"Int64 cannot represent {value}: it is not within ±(2^53−1)")
    return value


INT64 = strawberry.scalar(
    name="Int64",
    description="A whole number within ±(2^53−1), a JSON number.",
    serialize=int,
    parse_value=_int64,
)


def _moment(value: Any) -> Any:
    assert DateTimeDefinition.parse_value is not None
    moment = DateTimeDefinition.parse_value(value)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if not _YEARS[0] <= aware <= _YEARS[1]:
        raise GraphQLError(f"DateTime cannot represent {value!r}: it is not in the years 1000 to 9000")
    return moment


MOMENT = replace(DateTimeDefinition, parse_value=_moment)

SCALARS: dict[object, ScalarDefinition] = {Int64: INT64, datetime: MOMENT}


class Records(list[Any]):
    """So many objects of a type whose fields are plain values: `columns` has those of all, by the field's name."""

    def __init__(self, count: int, columns: Mapping[str, Iterable[Any]]) -> None:
        super().__init__(range(count))
        self.columns = columns

    def answers(self, kind: str, fields: Sequence[tuple[str, str]]) -> Any:
        """The objects, of a type `kind`, as parts of an answer: of each field its key there and its name."""
        keys = [key for key, _ in fields]
        kinds = [kind] * len(self)  # of __typename, which is no column
        columns = [self.columns.get(name, kinds) for _, name in fields]
        return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]
