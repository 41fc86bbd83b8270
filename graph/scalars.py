"""Scalars, and records: Int64 is a JSON number that JavaScript keeps exact."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

MAX = 2**53 - 1

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

SCALARS: dict[object, ScalarDefinition] = {Int64: INT64}


class Records(list[Any]):
    """Objects of a type whose fields are plain values: `fields` has how each is read, by its name here."""

    def __init__(self, rows: Sequence[Any], fields: Mapping[str, Callable[[Any], Any]]) -> None:
        super().__init__(rows)
        self.fields = fields
