"""Variables coerced by what is worked out once a document, with columns of numbers taken as arrays.

graphql-core asks of every value again what its type is, through several functions: ten microseconds a number. Here
each input type is made a function once, and an operation's variables go through theirs. A list of Float or Int64
whose items are plainly that becomes an array at once. They know only what is right: whatever is not, graphql-core
coerces again, and says what is wrong with it, and where. Literals in the text of an operation: literals.py.
"""

import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import isfinite
from types import NoneType
from typing import Any

import numpy as np
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, input_is_nested_too_deeply
from graphql.utilities.coerce_input_value import coerce_default_value

from graph import cost
from graph.leaves import Unusual
from graph.scalars import MAX

LEAST = 16
"""A list that is shorter is not worth an array."""
REMEMBERED = 500

Coerce = Callable[[Any], Any]
"""Makes of a value what graphql-core makes of it; raises whatever where that is wrong."""

_REALS = frozenset({float, int})
_OPTIONAL_REALS = frozenset({float, int, NoneType})


class Operation:
    """One operation of a document, as it is executed: what coerces its variables, and its document without them."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, node: OperationDefinitionNode) -> None:
        self.node = node
        self.model: Any = None
        """What its executions are made of (execution.Model), once there was one."""
        self._members = [
            _Variable(signature)
            for signature in (get_variable_signature(schema, one) for one in node.variable_definitions or ())
            if not isinstance(signature, GraphQLError)
        ]
        self.is_usual = len(self._members) == len(node.variable_definitions or ())
        bare = OperationDefinitionNode(
            **{**{key: getattr(node, key) for key in node.keys}, "variable_definitions": ()}
        )
        definitions = tuple(bare if each is node else each for each in document.definitions)
        self.bare = DocumentNode(definitions=definitions, loc=document.loc)

    def coerced(self, given: Mapping[str, Any]) -> VariableValues | None:
        """The variables' values; None where graphql-core is to say what is wrong."""
        sources: dict[str, VariableValueSource] = {}
        made: dict[str, Any] = {}
        try:
            for one in self._members:
                if one.name in given:
                    value = given[one.name]
                    sources[one.name] = VariableValueSource(one.signature, value)
                    made[one.name] = one.coerce(value)
                    continue
                sources[one.name] = VariableValueSource(one.signature)
                if one.default is not Undefined:
                    made[one.name] = one.default
                elif one.is_required:
                    return None
        except Exception:  # noqa: BLE001 - whatever it is, graphql-core has the words for it
            return None
        return VariableValues(sources, made)


class _Variable:
    """A variable of an operation."""

    __slots__ = ("coerce", "default", "is_required", "name", "signature")

    def __init__(self, signature: GraphQLVariableSignature) -> None:
        self.signature = signature
        self.name = signature.name
        self.default = coerce_default_value(signature)
        self.is_required = is_non_null_type(signature.type)
        coerce = coercer(signature.type)
        self.coerce = _within_bounds(signature.type, coerce) if _contains_itself(signature.type) else coerce


class Operations:
    """The last operations, by the identity of their documents, which are kept alive with them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, str | None], tuple[Any, Any, Operation | None]] = (
            OrderedDict()
        )

    def find(self, schema: GraphQLSchema, document: DocumentNode, name: str | None) -> Operation | None:
        """The one that is meant; None where graphql-core is to look at it."""
        key = id(document), id(schema), name
        known = self._known.get(key)
        if known is None:
            made = _operation(schema, document, name)
            if document.loc is None or not cost.is_remembered(document.loc.source.body, name):
                return made
            known = self._known[key] = document, schema, made
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known[2]


def _operation(schema: GraphQLSchema, document: DocumentNode, name: str | None) -> Operation | None:
    meant = [
        each
        for each in document.definitions
        if isinstance(each, OperationDefinitionNode)
        and (name is None or (each.name and each.name.value == name))
    ]
    if len(meant) != 1:
        return None
    try:
        made = Operation(schema, document, meant[0])
    except TypeError:  # a default that is none
        return None
    return made if made.is_usual else None


def coercer(kind: Any) -> Coerce:
    """What coerces values of an input type."""
    if is_non_null_type(kind):
        return _of_type(kind.of_type)
    made = _of_type(kind)
    return lambda value: None if value is None else made(value)


def _of_type(kind: Any) -> Coerce:
    """What coerces values that are not null."""
    if is_list_type(kind):
        return _Column(kind.of_type) if _is_number(kind.of_type) else _list(coercer(kind.of_type))
    if isinstance(kind, GraphQLInputObjectType):
        made: Coerce | None = kind.extensions.get(_KEY)  # lives as long as its type
        if made is None:
            made = kind.extensions[_KEY] = _Object(kind)
        return made
    return _LEAVES.get(kind.name, _leaf)(kind.coerce_input_value)


def _is_number(kind: Any) -> bool:
    return getattr(get_nullable_type(kind), "name", None) in ("Float", "Int64")


def _list(item: Coerce) -> Coerce:
    def items(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Unusual("a list of one")
        return list(map(item, value))

    return items


class _Object:
    """Coerces objects of one type; its members are looked at when the first one comes, as it may contain itself."""

    def __init__(self, kind: GraphQLInputObjectType) -> None:
        self._fields = kind.fields
        self._is_one_of = kind.is_one_of
        self._out_type = kind.out_type
        self._members: list[tuple[str, str, Coerce, Any]] | None = None

    def __call__(self, given: Any) -> Any:
        if type(given) is not dict or self._is_one_of:
            raise Unusual("no object, or one that has its own rules")
        members = self._members
        if members is None:
            members = self._members = [
                (name, field.out_name or name, coercer(field.type), default_of(field))
                for name, field in self._fields.items()
            ]
        made: dict[str, Any] = {}
        known = 0
        for name, out, coerce, default in members:
            if name in given:
                known += 1
                made[out] = coerce(given[name])
            elif default is REQUIRED:
                raise Unusual("a member is missing")
            elif default is not Undefined:
                made[out] = default
        if known != len(given):
            raise Unusual("a member that there is not")
        return self._out_type(made)


_KEY = "rungraph-coerce"
REQUIRED = object()


def default_of(field: Any) -> Any:
    """What stands for a member that is not given: its default, REQUIRED, or Undefined."""
    return REQUIRED if is_required_input_field(field) else coerce_default_value(field)


def _within_bounds(kind: Any, coerce: Coerce) -> Coerce:
    def bounded(value: Any) -> Any:
        if input_is_nested_too_deeply(value, kind):
            raise Unusual("nested too deeply")
        return coerce(value)

    return bounded


def _contains_itself(kind: Any, around: frozenset[Any] = frozenset()) -> bool:
    """Whether values of a type may be nested without end."""
    while is_non_null_type(kind) or is_list_type(kind):
        kind = kind.of_type
    if not isinstance(kind, GraphQLInputObjectType):
        return False
    return kind in around or any(
        _contains_itself(field.type, around | {kind}) for field in kind.fields.values()
    )


def _leaf(coerce: Coerce) -> Coerce:
    def leaf(value: Any) -> Any:
        made = coerce(value)
        if made is Undefined:
            raise Unusual("no value of this type")
        return made

    return leaf


def _text(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is str else coerce(value)


def _truth(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is bool else coerce(value)


def _real(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is float and isfinite(value) else coerce(value)


_LEAVES: dict[str, Callable[[Coerce], Coerce]] = {
    "ID": _text,
    "String": _text,
    "Boolean": _truth,
    "Float": _real,
}


class _Column:
    """Coerces lists of numbers."""

    def __init__(self, kind: Any) -> None:
        self._item = coercer(kind)
        self._is_whole = get_nullable_type(kind).name == "Int64"
        self._is_nullable = not is_non_null_type(kind)

    def __call__(self, given: Any) -> Any:
        if type(given) is not list:
            raise Unusual("a list of one")
        taken = self._taken(given) if len(given) >= LEAST else None
        return list(map(self._item, given)) if taken is None else taken

    def _taken(self, given: list[Any]) -> "array[Any] | list[Any] | None":
        """These items where they plainly are what they should be."""
        if self._is_whole:
            return _wholes(given)
        made = _reals(given)
        if made is None and self._is_nullable and _OPTIONAL_REALS.issuperset(map(type, given)):
            if _reals([value for value in given if value is not None]) is None:
                return None
            return [None if value is None else float(value) for value in given]
        return made


# What makes the arrays takes nothing but numbers, and true and false, as 1 and 0: only those are looked at.


def _reals(given: list[Any]) -> "array[float] | None":
    made = _packed("d", given)
    if made is None:
        return None
    numbers = np.frombuffer(made)
    return made if np.isfinite(numbers).all() and _are(_REALS, given, numbers) else None


def _wholes(given: list[Any]) -> "array[int] | None":
    made = _packed("q", given)
    if made is None:
        return None
    numbers = np.frombuffer(made, np.int64)
    is_exact = numbers.min() >= -MAX and numbers.max() <= MAX
    return made if is_exact and _are(frozenset({int}), given, numbers) else None


def _packed(code: str, given: list[Any]) -> "array[Any] | None":
    made = array(code)
    try:
        made.frombytes(struct.pack(f"{len(given)}{code}", *given))  # in half the time that the array takes
    except (struct.error, OverflowError):
        return None
    return made


def _are(kinds: frozenset[type], given: list[Any], numbers: np.ndarray) -> bool:
    """Whether none of the items is true or false."""
    doubtful = np.flatnonzero((numbers == 0) | (numbers == 1))
    return len(doubtful) == 0 or kinds.issuperset(type(given[at]) for at in doubtful.tolist())
