"""Columns in variables: coerced as graphql-core has it, whatever was sent."""

import copy
from array import array
from typing import Any

import strawberry
from graphql import parse
from hypothesis import example, given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graph.execution import Execution
from graph.scalars import SCALARS, Int64
from graph.variables import LEAST


@strawberry.input
class Numbers:
    """Lists of numbers at several depths, in itself too."""

    reals: list[float] | None = None
    holes: list[float | None] | None = None
    wholes: list[Int64] | None = None
    table: list[list[float]] | None = None
    more: list["Numbers"] | None = None
    word: str | None = None


@strawberry.type
class Query:
    """Tells what came, and of which kinds."""

    @strawberry.field
    def told(self, given: Numbers, also: list[Int64]) -> str:
        return repr((given, also))


SCHEMA = strawberry.Schema(
    Query, config=StrawberryConfig(scalar_map=SCALARS), execution_context_class=Execution
)
TEXT = "query ($g: Numbers!, $a: [Int64!]!) { told(given: $g, also: $a) }"
DOCUMENT = parse(TEXT)

odd = st.none() | st.booleans() | st.text(max_size=3) | st.sampled_from([2**53, -(2**70), 1e300, 0.5, 3.0])
reals = st.floats() | st.integers(-(2**70), 2**70)
wholes = st.integers(-(2**53), 2**53)


def column(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list, mostly long and of one kind."""
    plain = st.lists(items, min_size=LEAST, max_size=LEAST + 3)
    return (
        st.lists(items, max_size=3) | plain | st.lists(items | odd, min_size=LEAST, max_size=LEAST + 3) | odd
    )


objects: st.SearchStrategy[Any] = st.deferred(
    lambda: st.fixed_dictionaries(
        {},
        optional={
            "reals": column(reals),
            "holes": column(reals | st.none()),
            "wholes": column(wholes),
            "table": column(reals) | st.lists(column(reals), max_size=2),
            "more": st.lists(objects, max_size=2) | objects,
            "word": odd,
            "unknown": st.lists(st.floats(), min_size=LEAST, max_size=LEAST),
        },
    )
)


def plain(value: Any) -> Any:
    """With lists for arrays."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | array) else value


def coerced(kind: Any, given: Any) -> Any:
    """The coerced variables and what is kept of the given ones, or the words of what is wrong."""
    made = kind.build(SCHEMA._schema, DOCUMENT, None, None, given)
    if isinstance(made, list):
        return [str(error) for error in made]
    told = made.variable_values
    return plain(told.coerced), {name: source.value for name, source in told.sources.items()}


@given(g=objects | odd, a=column(wholes))
@example(g={"reals": [0.5] * LEAST, "more": {"more": [{"holes": [1, None] * LEAST}]}}, a=[7] * LEAST)
@example(g={"reals": [True] * LEAST}, a=[float("nan")] * LEAST)
@example(g={"holes": [None] * LEAST, "reals": [float("inf")] * LEAST}, a=[2**53] * LEAST)
def test_variables_become_what_graphql_core_makes_of_them(g: Any, a: Any) -> None:
    ours, theirs = {"g": g, "a": a}, {"g": copy.deepcopy(g), "a": copy.deepcopy(a)}
    expected = coerced(StrawberryGraphQLCoreExecutionContext, theirs)
    assert repr(coerced(Execution, ours)) == repr(expected)
    assert repr(ours) == repr(theirs)  # what was given is as it was


async def test_plain_columns_are_arrays_and_a_resolver_gets_lists() -> None:
    more = {"wholes": [3] * LEAST, "reals": [1, 0.5] * LEAST}
    given: dict[str, Any] = {"g": {"more": [more]}, "a": [1] * LEAST}
    made: Any = Execution.build(SCHEMA._schema, DOCUMENT, None, None, given)
    found = made.variable_values.coerced
    (inner,) = found["g"]["more"]
    assert (inner["reals"], inner["wholes"]) == (array("d", [1, 0.5] * LEAST), array("q", [3] * LEAST))
    assert type(found["a"]) is array
    answer = await SCHEMA.execute(TEXT, given)
    assert answer.errors is None and answer.data is not None
    assert "reals=[1.0, 0.5, 1.0" in answer.data["told"] and "array" not in answer.data["told"]


async def test_what_is_wrong_is_told_with_its_index_and_what_was_given() -> None:
    answer = await SCHEMA.execute(TEXT, {"g": {"reals": [0.5] * 20 + ["x"]}, "a": []})
    assert answer.errors is not None
    assert "at .reals[20]: Float cannot represent non numeric value: 'x'" in answer.errors[0].message
    answer = await SCHEMA.execute(TEXT, {"g": {"reals": [0.5] * 20, "oops": 1}, "a": []})
    assert answer.errors is not None and "'reals': [0.5, 0.5" in answer.errors[0].message
