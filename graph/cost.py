"""What an operation may cost, judged before it runs: depth, aliases, and how many objects it may touch.

A page counts as many times as its `first` or `last` says (100, of log lines 500, where a variable says it),
another list as ten; scalars cost nothing. The rules are made once: they are part of the key under which a
document's validation is remembered.
"""

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLOutputType,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    ValueNode,
    get_named_type,
    is_composite_type,
    is_list_type,
)
from graphql.type import GraphQLInterfaceType, get_nullable_type
from graphql.validation.rules import overlapping_fields_can_be_merged
from strawberry.extensions import max_aliases, query_depth_limiter

from db import logs, paging
from graph.paging import DEFAULT

DEPTH, TOKENS, ALIASES, COST = 15, 5_000, 100, 250_000
REMEMBERED_CHARACTERS = 8 << 10
"""Longer documents are parsed, judged and planned each time: one takes up to a hundred bytes of memory a character."""
COMPARED = 20_000
"""How much may be compared where fields of one name are to be merged: 40 ms at most; a thousand is much."""
_LIST = 10
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = COMPARED


def is_remembered(text: str, name: str | None = None) -> bool:
    """Whether what is made of a document, and the operation's name in it, may be kept for who asks again."""
    return len(text) + len(name or "") <= REMEMBERED_CHARACTERS


class CostRule(ValidationRule):
    """Refuses an operation that may touch more objects than COST."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments = {
            definition.name.value: definition
            for definition in context.document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._known: dict[str, int] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: object) -> None:
        """Judge each operation once, from its root."""
        root = self.context.schema.get_root_type(node.operation)
        if root is None:
            return
        cost = self._selected(node.selection_set, root)
        if cost > COST:
            message = f"this may touch {cost:,} objects, the limit is {COST:,}: ask for shorter pages"
            self.report_error(GraphQLError(message, node, extensions={"code": "LIMIT_EXCEEDED"}))

    def _selected(self, selections: SelectionSetNode, owner: GraphQLNamedType) -> int:
        cost = 0
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                cost += self._field(selection, owner)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                cost += self._selected(selection.selection_set, self._named(condition, owner))
            elif isinstance(selection, FragmentSpreadNode):
                cost += self._fragment(selection.name.value)
        return cost

    def _fragment(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = 0  # a circle is refused by a rule of its own
            fragment = self._fragments.get(name)
            if fragment is not None:
                owner = self.context.schema.get_type(fragment.type_condition.name.value)
                if owner is not None:
                    self._known[name] = self._selected(fragment.selection_set, owner)
        return self._known[name]

    def _field(self, node: FieldNode, owner: GraphQLNamedType) -> int:
        if node.name.value.startswith("__") or not isinstance(
            owner, GraphQLObjectType | GraphQLInterfaceType
        ):
            return 0
        field = owner.fields.get(node.name.value)
        if field is None or node.selection_set is None:
            return 0
        inside = get_named_type(field.type)
        if not is_composite_type(inside):
            return 0
        return self._times(node, field.type, owner) * (1 + self._selected(node.selection_set, inside))

    def _times(self, node: FieldNode, kind: GraphQLOutputType, owner: GraphQLNamedType) -> int:
        named = get_named_type(kind)
        if named.name.endswith("Connection"):
            for argument in node.arguments or ():
                if argument.name.value in ("first", "last"):
                    lines = named.name == "LogLineConnection"
                    return _size(argument.value, logs.MOST_A_PAGE if lines else paging.MOST)
            return DEFAULT
        if owner.name.endswith("Connection"):
            return 1  # counted where the page was asked for
        return _LIST if is_list_type(get_nullable_type(kind)) else 1

    def _named(self, condition: object, owner: GraphQLNamedType) -> GraphQLNamedType:
        name = getattr(getattr(condition, "name", None), "value", None)
        return (self.context.schema.get_type(name) if name else None) or owner


def _size(given: ValueNode, most: int) -> int:
    """What a page's size may come to: anything that is no fair number is refused later, and counts in full."""
    if isinstance(given, IntValueNode) and given.value.isdigit() and len(given.value) < 4:
        return min(max(int(given.value), 1), most)
    return most


RULES: tuple[type[ValidationRule], ...] = (
    CostRule,
    max_aliases.create_validator(ALIASES),
    query_depth_limiter.create_validator(DEPTH, None, None),
)
