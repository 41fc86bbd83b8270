"""What a query is, level by level: worked out once a document, executed by sweeping.py.

A level is a selection on one object type. Each of its fields is read from all objects of the level at once:
an attribute, what a resolver makes of it, or a constant; and each knows the shape of its values: leaves,
objects of a next level, or a list of either. Plans are made of graphql-core's own collected fields, so that
fragments, merging and directives are as it has them. What is unusual has no plan, and is executed as ever.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, cast
from weakref import WeakKeyDictionary

from graphql import (
    DirectiveNode,
    DocumentNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLUnionType,
    ListValueNode,
    ObjectValueNode,
    OperationType,
    VariableNode,
    Visitor,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    visit,
)
from graphql.execution import collect_fields as collecting
from strawberry.types.field import StrawberryField

from db import ids
from db.rows import Column, Columns, LazyRow, columns_of
from graph import cost
from graph.leaves import Convert, Unusual, leaf, of_column
from graph.literals import Arguments
from graph.rows import Batch, OfRow

REMEMBERED = 500


class Shape:
    """How the values of a field become parts of the answer.

    A leaf has `convert`; an object `level`; an abstract type `levels`, by the name of the object's own type.
    """

    __slots__ = ("convert", "details", "is_list", "item_nullable", "kind", "level", "levels", "nullable")

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
        self.convert: Convert | None = leaf(inner) if is_leaf_type(inner) else None
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
    """One field of a level: a `constant`, an `attribute` of the object, or what a `function` makes.

    `reads` are the columns of the object's row that it needs, `asked` those of the rows that it lists. A function
    may have a `batch` (rows.py). `given` are its arguments, where the document alone says them, `filled` makes them.
    """

    __slots__ = (
        *(
            "_fetched",
            "asked",
            "attribute",
            "batch",
            "constant",
            "definition",
            "details",
            "filled",
            "function",
        ),
        *("given", "info_name", "is_async", "key", "parent", "reads", "shape", "source", "takes_self"),
        "wants_arguments",
    )

    def __init__(self, planner: "_Planner", parent: GraphQLObjectType, key: str, details: Any) -> None:
        self.key = key
        self.parent = parent
        self.details = details
        node = details[0].node
        self._fetched = planner.fetched
        self.asked: Columns = None
        self.constant: str | None = None
        self.attribute: str | None = None
        self.function: Callable[..., Any] | None = None
        self.info_name: str | None = None
        self.batch: Batch | None = None
        self.reads: Columns = frozenset()
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
        self.given: dict[str, Any] | None = None
        self.filled = planner.arguments(definition, details, source) if definition.args else None
        self.shape = Shape(planner, definition.type, details)
        self.asked = None if self.shape.level is None else self.shape.level.asked()
        resolver = source.base_resolver
        if resolver is None:
            self.attribute = source.python_name
            self.reads = frozenset({self.attribute})
            return
        if resolver.root_parameter or resolver.parent_parameter or not callable(resolver.wrapped_func):
            raise Unusual(node.name.value)
        self.function = resolver.wrapped_func
        self.takes_self = resolver.self_parameter is not None
        self.is_async = resolver.is_async
        self.info_name = resolver.info_parameter.name if resolver.info_parameter else None
        self.reads = getattr(self.function, "reads", None)
        self.batch = getattr(self.function, "batch", None)
        if self.batch is not None:
            self.reads = frozenset({self.batch.column})
            planner.fetch(self.batch, self.shape)

    @property
    def fetched(self) -> Columns:
        """The columns of the rows that its batch fetches."""
        assert self.batch is not None
        return self._fetched[self.batch.fetch]

    def is_the_same(self) -> bool:
        """Whether its arguments are scalars that the document itself has."""
        given = [argument.value for argument in self.details[0].node.arguments or ()]
        items = [item for one in given for item in (one.values if isinstance(one, ListValueNode) else (one,))]
        return not any(isinstance(item, VariableNode | ObjectValueNode | ListValueNode) for item in items)


class Level:
    """The fields that are wanted of one type, in the order of the answer."""

    __slots__ = ("_columns", "answers", "fields", "keys", "kind", "of_row", "reads")

    def __init__(self, kind: GraphQLObjectType) -> None:
        self.kind = kind
        definition: Any = kind.extensions.get("strawberry-definition")
        self.of_row: type[OfRow] | None = definition.origin if _is_of_row(definition) else None
        self.fields: tuple[Field, ...] = ()
        self.keys: tuple[str, ...] = ()
        self.reads: Columns = frozenset()
        self.answers: Callable[[Sequence[Sequence[Any]]], list[dict[str, Any]]] = _nothing
        self._columns: WeakKeyDictionary[type, list[Convert | None]] = WeakKeyDictionary()

    def fill(self, fields: dict[str, Field]) -> None:
        """Give it its fields, by their names in the answer."""
        self.keys = tuple(fields)
        self.fields = tuple(fields.values())
        self.reads = union(field.reads for field in self.fields)
        self.answers = _answers(self.keys)

    def columns(self, kind: type) -> list[Convert | None]:
        """For each field what makes parts of the answer of rows of a class; None for what is no column of theirs."""
        found = self._columns.get(kind)
        if found is None:
            there = columns_of(kind) if issubclass(kind, LazyRow) else {}
            found = self._columns[kind] = [self._column(field, there) for field in self.fields]
        return found

    def _column(self, field: Field, there: Mapping[str, Column]) -> Convert | None:
        if field.attribute is None or field.attribute not in there:
            return None
        column, shape = there[field.attribute], field.shape
        if shape.is_list or shape.convert is None:
            return None
        convert = of_column(shape.kind, shape.convert, column)
        if field.attribute == "id" and self.of_row is not None:
            convert = partial(ids.encode_all, self.of_row.kind)
        take, nullable = itemgetter(column.index), shape.nullable

        def parts(rows: Sequence[Any]) -> Sequence[Any]:
            made = convert(list(map(take, rows)))
            if not nullable and None in made:
                raise Unusual("null where there may be none")
            return made

        return parts

    def asked(self) -> Columns:
        """The columns of the rows of which it shows a list, itself or as a connection."""
        if self.of_row is not None:
            return self.reads
        through = [field for field in self.fields if field.constant is None and field.info_name is None]
        below = [field.shape for field in through if field.shape.convert is None]
        return union(None if shape.level is None else shape.level.asked() for shape in below)


class _Planner:
    """Plans one operation."""

    def __init__(self, execution: Any) -> None:
        self.execution = execution
        self.fetched: dict[Any, Columns] = {}

    def fetch(self, batch: Batch, shape: Shape) -> None:
        """Note which columns a field needs of the rows that its batch fetches, for all who share them."""
        needed = None if shape.level is None or not batch.narrows else shape.level.reads
        before = self.fetched.get(batch.fetch, frozenset())
        self.fetched[batch.fetch] = union((before, batch.reads, needed))

    def arguments(self, definition: Any, details: Any, source: Any) -> Arguments | None:
        """What makes the arguments of a field; None where graphql-core is to."""
        schema = self.execution.schema.extensions["strawberry-definition"]
        scalars = schema.schema_converter.scalar_registry
        try:
            return Arguments(definition, details, source, schema.config, scalars)
        except (Unusual, TypeError):  # or a default that is none
            return None

    def level(self, kind: GraphQLObjectType, collected: Any) -> Level:
        """The level of these collected fields."""
        if collected.new_defer_usages:
            raise Unusual("@defer")
        made = Level(kind)
        grouped = collected.grouped_field_set
        made.fill({key: Field(self, kind, key, details) for key, details in grouped.items()})
        return made

    def root(self) -> Level:
        """The level of the operation itself."""
        execution = self.execution
        kind = execution.schema.get_root_type(execution.operation.operation)
        collected = collecting.collect_fields(
            execution.schema,
            execution.fragments,
            execution.variable_values,
            kind,
            execution.operation,
            execution.hide_suggestions,
        )
        level = self.level(kind, collected)
        if execution.operation.operation is OperationType.MUTATION:
            if not _is_one_change(level):
                raise Unusual("a mutation of several parts, or one whose answer has to be looked for")
            level.fields[0].asked = None
        if execution.operation.operation is OperationType.SUBSCRIPTION and len(level.fields) != 1:
            raise Unusual("a subscription of several parts")
        return level


class Plans:
    """The plans of the last operations, by identity: operation and schema are kept alive with them."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[int, int], tuple[Any, Any, Level | None]] = OrderedDict()

    def find(self, execution: Any) -> Level | None:
        """The plan of what is about to be executed; None where there is none."""
        operation = execution.operation
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
            if operation.operation is OperationType.SUBSCRIPTION and not plain:
                raise Unusual("a plan for every event")
        except (Unusual, RecursionError):
            level, plain = None, True
        if plain and operation.loc is not None and cost.is_remembered(operation.loc.source.body):
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


def union(columns: Iterable[Columns]) -> Columns:
    """All of these columns."""
    made: frozenset[str] = frozenset()
    for some in columns:
        if some is None:
            return None
        made |= some
    return made


def _is_one_change(level: Level) -> bool:
    """Whether a mutation has one field, and its answer is all in what that makes."""
    if len(level.fields) != 1:
        return False
    field = level.fields[0]
    return field.function is not None and field.is_async and _is_at_hand(field.shape)


def _is_at_hand(shape: Shape) -> bool:
    """Whether values become parts of the answer without any resolver."""
    if shape.level is None:
        return shape.convert is not None
    below = [field for field in shape.level.fields if field.constant is None]
    return all(field.attribute is not None and _is_at_hand(field.shape) for field in below)


def plain_part(shape: Shape, value: Any) -> Any:
    """A value as a part of the answer, where that is soon said; raises Unusual where it is to be swept."""
    if value is None and shape.nullable:
        return None
    if shape.is_list:
        if type(value) is not list or value:
            raise Unusual("a list with something in it")
        return []
    if shape.convert is not None:
        (made,) = shape.convert([value])
        return made
    level = shape.level
    if value is None or level is None or level.of_row is not None or not level.fields:
        raise Unusual("no plain object")
    made = {}
    for field in level.fields:
        if field.constant is None and field.attribute is None:
            raise Unusual("a resolver")
        made[field.key] = field.constant or plain_part(field.shape, getattr(value, field.attribute or ""))
    return made


def _is_of_row(definition: Any) -> bool:
    return definition is not None and issubclass(definition.origin, OfRow)


def _nothing(_: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    raise Unusual("a selection that directives have emptied")


@lru_cache(maxsize=REMEMBERED)
def _answers(keys: tuple[str, ...]) -> Callable[[Sequence[Sequence[Any]]], list[dict[str, Any]]]:
    """What makes answers of columns: written for its keys, as dataclasses are; a third of a general one's time."""
    if not keys:
        return _nothing
    if sum(map(len, keys)) > cost.REMEMBERED_CHARACTERS:
        raise Unusual("names that are too long to be remembered")
    names = [f"v{number}" for number in range(len(keys))]
    pairs = ", ".join(f"{key!r}: {name}" for key, name in zip(keys, names, strict=True))
    # Keys are GraphQL names: letters, digits and underscores.
    made = eval(f"lambda columns: [{{{pairs}}} for {', '.join(names)}, in zip(*columns, strict=True)]")
    return cast("Callable[[Sequence[Sequence[Any]]], list[dict[str, Any]]]", made)


def runtime_levels(levels: dict[str, Level], values: Sequence[Any]) -> list[Level]:
    """The level of each object of an abstract type, by the type it says it is."""
    try:
        return [levels[type(value).__strawberry_definition__.name] for value in values]
    except (AttributeError, KeyError) as error:
        raise Unusual("an object of an unknown type") from error
