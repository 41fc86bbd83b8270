"""Columns of numbers in variables, taken as arrays.

graphql-core looks at every item of a list through several functions, ten microseconds a number. A list of Float
or Int64 whose items are plainly that becomes an array at once instead: `taken_out` puts an empty list in its place
while the variables are coerced, `put_back` the array where it belongs. Whatever is not plain stays where it is,
so that graphql-core says what is wrong with it, and where. Literals in the text of an operation are not sped up.
"""

import struct
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any

import numpy as np
from graphql import (
    DocumentNode,
    GraphQLInputObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    type_from_ast,
)
from graphql.execution.values import VariableValues

from graph import cost
from graph.scalars import MAX

LEAST = 16
"""A list that is shorter is not worth the trouble."""
REMEMBERED = 500

_REALS = frozenset({float, int})
_OPTIONAL_REALS = frozenset({float, int, NoneType})
_WHOLES = frozenset({int})


class Column:
    """A list of numbers."""

    __slots__ = ("nullable", "whole")

    def __init__(self, kind: Any) -> None:
        self.whole = get_nullable_type(kind).name == "Int64"
        self.nullable = not is_non_null_type(kind)

    def taken(self, given: list[Any]) -> "array[Any] | list[Any] | None":
        """What graphql-core makes of these items; None where it should say so itself."""
        if self.whole:
            return _wholes(given)
        made = _reals(given)
        if made is None and self.nullable and _OPTIONAL_REALS.issuperset(map(type, given)):
            if _reals([value for value in given if value is not None]) is None:
                return None
            return [None if value is None else float(value) for value in given]
        return made


# What makes the arrays takes nothing but numbers, and true and false, as 1 and 0: only who may be one is asked.


def _reals(given: list[Any]) -> "array[float] | None":
    made = array("d")
    try:
        made.frombytes(
            struct.pack(f"{len(given)}d", *given)
        )  # in half the time that the array takes for them
    except (struct.error, OverflowError):
        return None
    numbers = np.asarray(made)
    if not np.isfinite(numbers).all():
        return None
    doubtful = (numbers == 0.0).any() or (numbers == 1.0).any()
    return made if not doubtful or _REALS.issuperset(map(type, given)) else None


def _wholes(given: list[Any]) -> "array[int] | None":
    try:
        made = array("q", given)
    except (TypeError, OverflowError):
        return None
    numbers = np.asarray(made)
    least, most = numbers.min(), numbers.max()
    if least < -MAX or most > MAX:
        return None
    return made if least > 1 or most < 0 or _WHOLES.issuperset(map(type, given)) else None


class Part:
    """A type that has columns somewhere: a list of a part, or an object whose members are columns or parts."""

    __slots__ = ("item", "members", "names")

    def __init__(self) -> None:
        self.item: Column | Part | None = None
        self.members: dict[str, Column | Part] = {}
        self.names: dict[str, str] = {}


Root = tuple[str, "Column | Part"]
Place = tuple[Any, Any, list[Any], Any, tuple[Any, ...]]
"""The container and the key of a list, the list, what it is coerced to, and where that belongs."""


class Shapes:
    """Which variables of an operation have columns, worked out once a document."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, str | None], tuple[Any, Any, tuple[Root, ...]]] = (
            OrderedDict()
        )

    def find(self, schema: GraphQLSchema, document: DocumentNode, name: str | None) -> tuple[Root, ...]:
        """Those of the operation that is meant."""
        key = id(document), id(schema), name
        known = self._known.get(key)
        if known is None:
            found = tuple(_roots(schema, document, name))
            if document.loc is None or not cost.is_remembered(document.loc.source.body, name):
                return found
            # Document and schema are kept alive with what is known of them by their identity.
            known = self._known[key] = document, schema, found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known[2]


def _roots(schema: GraphQLSchema, document: DocumentNode, name: str | None) -> Iterator[Root]:
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        if name is not None and (definition.name is None or definition.name.value != name):
            continue
        parts: dict[Any, Part] = {}
        for variable in definition.variable_definitions or ():
            kind = type_from_ast(schema, variable.type)
            shape = _shape(kind, parts) if kind is not None else None
            if isinstance(shape, Column) or (shape is not None and _leads_somewhere(shape)):
                yield variable.variable.name.value, shape


def _shape(kind: Any, parts: dict[Any, Part]) -> Column | Part | None:
    """The shape of an input type; an object type that contains itself is one part that contains itself."""
    kind = get_nullable_type(kind)
    if is_list_type(kind):
        if getattr(get_nullable_type(kind.of_type), "name", None) in ("Float", "Int64"):
            return Column(kind.of_type)
        made = Part()
        made.item = _shape(kind.of_type, parts)
        return made if made.item is not None else None
    if not isinstance(kind, GraphQLInputObjectType):
        return None
    if kind in parts:
        return parts[kind]
    made = parts[kind] = Part()
    for name, member in kind.fields.items():
        shape = _shape(member.type, parts)
        if shape is not None:
            made.members[name] = shape
            made.names[name] = member.out_name or name
    return made


def _leads_somewhere(part: Part) -> bool:
    """Whether there is a column below."""
    seen: set[int] = set()
    waiting: list[Column | Part | None] = [part]
    while waiting:
        shape = waiting.pop()
        if isinstance(shape, Column):
            return True
        if shape is not None and id(shape) not in seen:
            seen.add(id(shape))
            waiting += [shape.item, *shape.members.values()]
    return False


@contextmanager
def taken_out(roots: tuple[Root, ...], variables: dict[str, Any]) -> Iterator[list[Place]]:
    """Within, the columns of these variables are empty lists; afterwards they are as they were."""
    places: list[Place] = []
    waiting: list[tuple[Any, Any, Column | Part, tuple[Any, ...]]] = [
        (variables, name, shape, (name,)) for name, shape in roots if name in variables
    ]
    try:
        while waiting:
            owner, key, shape, path = waiting.pop()
            value = owner[key]
            if isinstance(shape, Column):
                taken = shape.taken(value) if type(value) is list and len(value) >= LEAST else None
                if taken is not None:
                    places.append((owner, key, value, taken, path))
                    owner[key] = []
            elif type(value) is list and shape.item is not None:
                waiting += [(value, at, shape.item, (*path, at)) for at in range(len(value))]
            elif type(value) is dict:
                for name, member in shape.members.items():
                    if name in value:
                        waiting.append((value, name, member, (*path, shape.names[name])))
        yield places
    finally:
        for owner, key, value, _, _ in places:
            owner[key] = value


def put_back(places: list[Place], values: VariableValues) -> None:
    """Write the columns into the coerced variables."""
    for _, _, given, taken, path in places:
        owner: Any = values.coerced
        for step in path[:-1]:
            owner = owner[step]
        owner[path[-1]] = taken
        if owner is values.coerced:
            values.sources[path[0]] = values.sources[path[0]]._replace(value=given)
