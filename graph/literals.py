"""Arguments of a field, made of its literals and the variables in them: worked out once a document.

A literal without a variable is the same every time. One with variables becomes a function that fills them in. As in
variables.py, these know only what is right; whatever is not, graphql-core looks at again.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
)
from graphql.execution.values import VariableValues, get_argument_values
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal
from strawberry.schema.schema_converter import get_arguments
from strawberry.types.arguments import InputContext, convert_argument

from graph.leaves import Unusual
from graph.variables import REQUIRED, default_of

Fill = Callable[[VariableValues], Any]
"""What a literal is with these variables; Undefined for a variable that was not given."""

_SHARED = (str, int, float, bool, Enum, type(None))
"""Of these everybody may have the same."""


class Arguments:
    """Makes the arguments of a field as its resolver takes them; raises whatever where something is wrong."""

    def __init__(
        self, definition: GraphQLField, details: Any, source: Any, config: Any, scalars: Any
    ) -> None:
        if details[0].fragment_variable_values is not None:
            raise Unusual("variables of a fragment")
        given = {one.name.value: one.value for one in details[0].node.arguments or ()}
        taken = {config.name_converter.from_argument(one): one for one in source.arguments}
        if any(argument.out_name not in (None, name) for name, argument in definition.args.items()):
            raise Unusual("another name inside")
        self._parts = [
            (
                taken[name].python_name,
                _converting(name, taken[name].type, config, scalars),
                _filling(given[name], argument.type) if name in given else None,
                REQUIRED if is_required_argument(argument) else coerce_default_value(argument),
            )
            for name, argument in definition.args.items()
        ]

    def made(self, values: VariableValues, info: Any) -> dict[str, Any]:
        """The arguments with these variables."""
        made: dict[str, Any] = {}
        for name, convert, fill, default in self._parts:
            value = _filled(fill, default, values)
            if value is not Undefined:
                made[name] = convert(value, info)
        return made


def _converting(name: str, kind: Any, config: Any, scalars: Any) -> Callable[[Any, Any], Any]:
    """What makes of a value what strawberry makes of it; at once where the type says itself how."""
    itself: Any = getattr(kind, "__strawberry_definition__", None)
    build = getattr(itself, "from_input", None)
    if build is None:
        return lambda value, info: convert_argument(value, kind, scalars, config, info, path=(name,))
    return lambda value, info: build(kind, value, InputContext(info, config, scalars, (name,)))


def as_ever(execution: Any, definition: GraphQLField, details: Any, source: Any, info: Any) -> dict[str, Any]:
    """The arguments of a field as graphql-core and strawberry make them; raises what is wrong, and where."""
    schema = execution.schema.extensions["strawberry-definition"]
    raw = get_argument_values(
        definition,
        details[0].node,
        execution.variable_values,
        details[0].fragment_variable_values,
        execution.hide_suggestions,
    )
    _, made = get_arguments(
        field=source,
        source=None,
        info=info,
        kwargs=raw,
        config=schema.config,
        scalar_registry=schema.schema_converter.scalar_registry,
    )
    return made


def _filled(fill: Fill | None, default: Any, values: VariableValues) -> Any:
    """A member or argument; its default where nothing is given, or a variable that was not."""
    value = Undefined if fill is None else fill(values)
    if value is not Undefined:
        return value
    if default is REQUIRED:
        raise Unusual("something is missing")
    return default


def _filling(node: ValueNode, kind: Any) -> Fill:
    """What fills in a literal of an input type."""
    if isinstance(node, VariableNode):
        return _variable(node.name.value, is_required=is_non_null_type(kind))
    if not _has_variables(node):
        return _constant(node, kind)
    inner = get_nullable_type(kind)
    if isinstance(node, ListValueNode) and is_list_type(inner):
        return _list([_filling(each, inner.of_type) for each in node.values], inner.of_type)
    if (
        isinstance(node, ObjectValueNode)
        and isinstance(inner, GraphQLInputObjectType)
        and not inner.is_one_of
    ):
        return _object({each.name.value: each.value for each in node.fields}, inner)
    return _as_ever(node, kind)


def _variable(name: str, *, is_required: bool) -> Fill:
    def fill(values: VariableValues) -> Any:
        value = values.coerced.get(name, Undefined)
        if value is None and is_required:
            raise Unusual("null where there may be none")
        return value

    return fill


def _constant(node: ValueNode, kind: Any) -> Fill:
    made = coerce_input_literal(node, kind)
    if made is Undefined:
        raise Unusual("a literal of another type")
    return (lambda _: made) if isinstance(made, _SHARED) else _as_ever(node, kind)


def _as_ever(node: ValueNode, kind: Any) -> Fill:
    def fill(values: VariableValues) -> Any:
        made = coerce_input_literal(node, kind, values)
        if made is Undefined:
            raise Unusual("a literal of another type")
        return made

    return fill


def _list(fills: list[Fill], item: Any) -> Fill:
    missing = REQUIRED if is_non_null_type(item) else None
    return lambda values: [_filled(fill, missing, values) for fill in fills]


def _object(given: Mapping[str, ValueNode], kind: GraphQLInputObjectType) -> Fill:
    if not given.keys() <= kind.fields.keys():
        raise Unusual("a member that there is not")
    parts = [
        (
            field.out_name or name,
            _filling(given[name], field.type) if name in given else None,
            default_of(field),
        )
        for name, field in kind.fields.items()
    ]

    def fill(values: VariableValues) -> Any:
        made: dict[str, Any] = {}
        for name, fill, default in parts:
            value = _filled(fill, default, values)
            if value is not Undefined:
                made[name] = value
        return kind.out_type(made)

    return fill


def _has_variables(node: ValueNode) -> bool:
    if isinstance(node, ListValueNode):
        return any(map(_has_variables, node.values))
    if isinstance(node, ObjectValueNode):
        return any(_has_variables(each.value) for each in node.fields)
    return isinstance(node, VariableNode)
