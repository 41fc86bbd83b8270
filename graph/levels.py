"""What a query is, level by level: worked out once a document, executed by sweeping.py.

A level is a selection on one object type. Each of its fields is read from all objects of the level at once:
an attribute, what a resolver makes of it, or a constant; and each knows the shape of its values: leaves,
objects of a next level, or a list of either. Plans are made of graphql-core's own collected fields, so that
fragments, merging and directives are as it has them. What is unusual has no plan, and is executed as ever.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLUnionType,
    OperationType,
    Visitor,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    visit,
)
from graphql.execution import collect_fields as collecting
from strawberry.types.field import StrawberryField

from graph.rows import OfRow

REMEMBERED = 500
_INT32 = range(-(2**31), 2**31)

Coerce = Callable[[Any], Any]


class Unusual(Exception):
    """This has no plan."""


class Shape:
    """How the values of a field become parts of the answer.

    A leaf has `coerce`; an object `level`; an abstract type `levels`, by the name of the object's own type.
    """

    __slots__ = ("coerce", "details", "is_list", "item_nullable", "kind", "level", "levels", "nullable")

    def __init__(self, planner: "_Planner", kind: GraphQLOutputType, details: Any) -> None:
        self.nullable = not is_non_null_type(kind)
        inner: Any = get_nullable_type(kind)
        self.is_list = is_list_type(inner)
        self.item_nullable = False
        if self.is_list:
            self.item_nullable = not is_non_null_type(inner.of_type)
            inner = get_nullable_type(inner.of_type)
            if is_list_type(inner):
                raise Unusual("a list of lists")
        self.kind = inner
        self.details = details
        self.coerce: Coerce | None = _coercion(inner) if is_leaf_type(inner) else None
        self.level: Level | None = None
        self.levels: dict[str, Level] | None = None
        if isinstance(inner, GraphQLObjectType):
            self.level = planner.level(inner, planner.execution.collect_subfields(inner, details))
        elif isinstance(inner, GraphQLInterfaceType | GraphQLUnionType):
            self.levels = {
                each.name: planner.level(each, planner.execution.collect_subfields(each, details))
                for each in planner.execution.schema.get_possible_types(inner)
            }


class Field:
    """One field of a level: a `constant`, an `attribute` of the object or of its row, or what a `function` makes.

    A function with a `batch` is (fetch, key of an object, what makes the value of what was fetched).
    """

    __slots__ = (
        *("attribute", "batch", "constant", "definition", "details", "function", "info_name", "is_async"),
        *("key", "of_row", "parent", "shape", "source", "takes_self", "wants_arguments"),
    )

    def __init__(self, planner: "_Planner", parent: GraphQLObjectType, key: str, details: Any) -> None:
        self.key = key
        self.parent = parent
        self.details = details
        node = details[0].node
        self.constant: str | None = None
        self.attribute: str | None = None
        self.function: Callable[..., Any] | None = None
        self.batch: tuple[Any, Callable[[Any], Any], Callable[..., Any]] | None = None
        if node.name.value == "__typename":
            self.constant = parent.name
            return
        definition = parent.fields.get(node.name.value)
        source = None if definition is None else definition.extensions.get("strawberry-definition")
        if definition is None or not isinstance(source, StrawberryField) or source.extensions:
            raise Unusual(node.name.value)
        self.definition = definition
        self.source = source
        self.wants_arguments = bool(definition.args)
        self.shape = Shape(planner, definition.type, details)
        resolver = source.base_resolver
        if resolver is None:
            self.attribute = source.python_name
            origin = parent.extensions["strawberry-definition"].origin
            self.of_row = issubclass(origin, OfRow) and self.attribute != "id"
            return
        if resolver.root_parameter or resolver.parent_parameter or not callable(resolver.wrapped_func):
            raise Unusual(node.name.value)
        self.function = resolver.wrapped_func
        self.takes_self = resolver.self_parameter is not None
        self.is_async = resolver.is_async
        self.batch = getattr(resolver.wrapped_func, "batch", None)
        self.info_name = resolver.info_parameter.name if resolver.info_parameter else None


class Level:
    """The fields that are wanted of one type, in the order of the answer."""

    __slots__ = ("fields", "keys", "kind")

    def __init__(self, kind: GraphQLObjectType) -> None:
        self.kind = kind
        self.fields: tuple[Field, ...] = ()
        self.keys: tuple[str, ...] = ()


class _Planner:
    """Plans one operation."""

    def __init__(self, execution: Any) -> None:
        self.execution = execution

    def level(self, kind: GraphQLObjectType, collected: Any) -> Level:
        """The level of these collected fields."""
        if collected.new_defer_usages:
            raise Unusual("@defer")
        made = Level(kind)
        grouped = collected.grouped_field_set
        made.keys = tuple(grouped)
        made.fields = tuple(Field(self, kind, key, details) for key, details in grouped.items())
        return made

    def root(self) -> Level:
        """The level of the operation itself."""
        execution = self.execution
        kind = execution.schema.query_type
        collected = collecting.collect_fields(
            execution.schema,
            execution.fragments,
            execution.variable_values,
            kind,
            execution.operation,
            execution.hide_suggestions,
        )
        return self.level(kind, collected)


class Plans:
    """The plans of the last operations, by identity: operation and schema are kept alive with them."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[int, int], tuple[Any, Any, Level | None]] = OrderedDict()

    def find(self, execution: Any) -> Level | None:
        """The plan of a query that is about to be executed; None where there is none."""
        operation = execution.operation
        if operation.operation is not OperationType.QUERY:
            return None
        key = id(operation), id(execution.schema)
        known = self._plans.get(key)
        if known is not None:
            self._plans.move_to_end(key)
            return known[2]
        fragments = [fragment.definition for fragment in execution.fragments.values()]
        plain = not _has_directives(operation, *fragments)
        try:
            # With directives, the plan is that of these variables.
            level = _Planner(execution).root()
        except (Unusual, RecursionError):
            level, plain = None, True
        if plain:
            self._plans[key] = operation, execution.schema, level
            if len(self._plans) > REMEMBERED:
                self._plans.popitem(last=False)
        return level


class _Directives(Visitor):
    """Whether there is a directive."""

    found = False

    def enter_directive(self, _node: DirectiveNode, *_: Any) -> Any:
        """There is one."""
        self.found = True
        return self.BREAK


def _has_directives(*nodes: Any) -> bool:
    looking = _Directives()
    visit(DocumentNode(definitions=tuple(nodes)), looking)
    return looking.found


def _coercion(kind: GraphQLLeafType) -> Coerce:
    """What makes an output of a value, with a short cut for values that are one."""
    coerce = kind.coerce_output_value
    if isinstance(kind, GraphQLEnumType):
        return _enumerated(coerce)
    shorten = _SHORT.get(kind.name)
    return coerce if shorten is None else shorten(coerce)


def _enumerated(coerce: Coerce) -> Coerce:
    names: dict[Any, Any] = {}

    def name(value: Any) -> Any:
        found = names.get(value)
        if found is None:
            found = names[value] = coerce(value)
        return found

    return name


def _text(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is str else coerce(value)


def _whole(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is int and value in _INT32 else coerce(value)


def _truth(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is bool else coerce(value)


def _real(coerce: Coerce) -> Coerce:
    return lambda value: value if type(value) is float and isfinite(value) else coerce(value)


def _moment(coerce: Coerce) -> Coerce:
    # The endpoint's JSON has an aware UTC moment just as isoformat writes it, in a tenth of the time.
    return lambda value: value if type(value) is datetime and value.tzinfo is UTC else coerce(value)


_SHORT: dict[str, Callable[[Coerce], Coerce]] = {
    "ID": _text,
    "String": _text,
    "Int": _whole,
    "Float": _real,
    "Boolean": _truth,
    "DateTime": _moment,
}


def runtime_levels(levels: dict[str, Level], values: Sequence[Any]) -> list[Level]:
    """The level of each object of an abstract type, by the type it says it is."""
    try:
        return [levels[type(value).__strawberry_definition__.name] for value in values]
    except (AttributeError, KeyError) as error:
        raise Unusual("an object of an unknown type") from error
