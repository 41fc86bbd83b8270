"""Scalars and typed columns, both ways.

Int64 is a JSON number that JavaScript keeps exact. Columns of numbers come as numpy arrays and leave as
they are: `ColumnExecution` passes an array through where the schema has a list, so a million floats cost
orjson's time and no Python object each, and the schema stays honest. Records, of which there may be very
many at once, are completed by the list instead of field by field.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NewType

import numpy as np
import strawberry
from graphql import GraphQLError, get_named_type
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.scalar import ScalarDefinition

from graph import cost

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


class ColumnExecution(StrawberryGraphQLCoreExecutionContext):
    """Lets a numpy array stand where the schema has a list of numbers, and bounds what lists amount to.

    What an operation may touch is judged before it runs (cost.py) from what it says; lists whose length only
    the data knows are counted here.
    """

    listed = 0

    def complete_list_value(self, return_type: Any, *args: Any, **kwargs: Any) -> Any:
        """An array is complete as it is; everything else takes graphql-core's way."""
        result = args[3]
        if isinstance(result, np.ndarray):
            return result
        if isinstance(result, list):
            self.listed += len(result)
            if self.listed > cost.COST:
                message = f"more than {cost.COST:,} objects: ask for less at once"
                raise GraphQLError(message, extensions={"code": "LIMIT_EXCEEDED"})
        if isinstance(result, Records):
            return self._records(return_type, args[0], result)
        return super().complete_list_value(return_type, *args, **kwargs)

    def _records(self, return_type: Any, nodes: Any, records: Records) -> list[dict[str, Any]]:
        """What graphql-core makes of the same objects, one field of all of them after the other."""
        kind = get_named_type(return_type)
        names, columns = [], []
        for name, (first, *_) in self.collect_subfields(kind, nodes).grouped_field_set.items():
            known = records.fields.get(first.node.name.value)  # None is for __typename
            names.append(name)
            columns.append([kind.name] * len(records) if known is None else [known(row) for row in records])
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
