"""A mutation is carried out once, and its answer is graphql-core's, however it is executed."""

from enum import Enum
from typing import Any, cast

import pytest
import strawberry
import structlog
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from db import errors
from graph.encoding import encode
from graph.execution import Execution
from graph.scalars import SCALARS, Int64


@strawberry.enum
class Kind(Enum):
    """A leaf that is no scalar."""

    GOOD = "good"


@strawberry.type
class Item:
    """What hangs below an answer."""

    name: str
    kind: Kind = Kind.GOOD


@strawberry.type
class Made:
    """What a mutation answers."""

    seq: Int64 | None = None
    count: int = 0
    items: list[Item] = strawberry.field(default_factory=list)
    maybe: list[Item | None] | None = None
    word: str | None = None

    @strawberry.field
    def looked(self) -> str:
        """What only a resolver knows."""
        return f"looked at {self.seq}"


WRONG = {
    "good": Made(seq=Int64(7), count=1, items=[Item(name="a"), Item(name="b")], maybe=[None, Item(name="c")]),
    "too_big": Made(count=2**40),
    "no_number": Made(seq="x"),  # type: ignore[arg-type]
    "no_kind": Made(items=[Item(name="a"), Item(name="b", kind="bad")]),  # type: ignore[arg-type]
    "hole": Made(items=[Item(name="a"), None]),  # type: ignore[list-item]
    "no_list": Made(items=3),  # type: ignore[arg-type]
    "not_made": None,
    "failure": ValueError("an answer that is a failure"),
    "another": Item(name="a"),
}
RAISED = {
    "refused": errors.Conflict("not now", path=("id",)),
    "broken": ValueError("broken"),
    "empty": RuntimeError(),
}


@strawberry.type
class Mutation:
    """Mutations that count their calls."""

    @strawberry.mutation
    async def make(self, info: strawberry.Info, what: str, times: list[Int64] | None = None) -> Made:
        """Make it, or raise."""
        return _make(info.context, what, times)

    @strawberry.mutation
    async def may_make(
        self, info: strawberry.Info, what: str, times: list[Int64] | None = None
    ) -> Made | None:
        """Make it, or raise, which leaves null."""
        return _make(info.context, what, times)

    @strawberry.mutation
    async def number(self, info: strawberry.Info, value: int) -> int:
        """A leaf."""
        info.context.append(("number", value))
        return value * 2**20


@strawberry.type
class Query:
    """There has to be one."""

    nothing: int = 0


def _make(calls: list[Any], what: str, times: Any) -> Made:
    calls.append((what, times))
    if what in RAISED:
        raise type(RAISED[what])(*RAISED[what].args)
    return cast("Made", WRONG[what])


class Usual(Execution):
    """Everything by graphql-core."""

    def execute_operation(self, serially: bool | None = None) -> Any:
        return StrawberryGraphQLCoreExecutionContext.execute_operation(self, serially)


def _schema(execution: type[Execution]) -> strawberry.Schema:
    config = StrawberryConfig(scalar_map=SCALARS)
    return strawberry.Schema(Query, Mutation, config=config, execution_context_class=execution)


OURS, USUAL = _schema(Execution), _schema(Usual)
ALL = "seq count items { name kind } maybe { __typename name } word __typename"
QUERIES = (
    f"mutation ($w: String!) {{ make(what: $w) {{ {ALL} }} }}",
    f"mutation ($w: String!) {{ mayMake(what: $w) {{ {ALL} }} }}",
    f"mutation ($w: String!) {{ other: make(what: $w, times: [1, 2]) {{ ...A }} }} fragment A on Made {{ {ALL} }}",
    f"mutation ($w: String!) {{ make(what: $w) {{ seq }} make(what: $w) {{ {ALL} }} }}",
    f"mutation ($w: String!) {{ a: make(what: $w) {{ {ALL} }} b: mayMake(what: $w) {{ {ALL} }} }}",
    f"mutation ($w: String!) {{ __typename mayMake(what: $w) {{ {ALL} }} }}",
    f"mutation ($w: String!) {{ mayMake(what: $w) {{ looked {ALL} }} }}",
    "mutation ($w: String!, $no: Boolean = false) { make(what: $w) @include(if: $no) { seq } }",
    "mutation ($w: String!, $no: Boolean = false) { make(what: $w) { seq @skip(if: $no) count @include(if: $no) } }",
    "mutation ($w: String!, $t: [Int64!] = [3]) { make(what: $w, times: $t) { count } }",
)


async def _asked(schema: strawberry.Schema, query: str, **variables: Any) -> tuple[bytes, list[Any]]:
    calls: list[Any] = []
    answer: Any = await schema.execute(query, variables, calls)
    return encode({"data": answer.data, "errors": [error.formatted for error in answer.errors or ()]}), calls


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("what", [*WRONG, *RAISED])
async def test_a_mutation_answers_and_does_what_it_does_in_graphql_core(query: str, what: str) -> None:
    expected = await _asked(USUAL, query, w=what)
    for _ in range(2):  # the plan is made, then remembered
        assert await _asked(OURS, query, w=what) == expected


@pytest.mark.parametrize("value", [1, 2**20])
async def test_a_leaf_is_told_or_refused(value: int) -> None:
    query = "mutation ($v: Int!) { number(value: $v) }"
    ours, usual = [await _asked(schema, query, v=value) for schema in (OURS, USUAL)]
    assert ours == usual and len(ours[1]) == 1


async def test_arguments_that_are_wrong_change_nothing() -> None:
    query = 'mutation ($w: String = "good") { make(what: $w) { seq } }'
    ours, usual = [await _asked(schema, query, w=None) for schema in (OURS, USUAL)]
    assert ours == usual and ours[1] == []


async def test_an_answer_that_is_at_hand_takes_no_detour() -> None:
    with structlog.testing.capture_logs() as entries:
        answer, calls = await _asked(OURS, QUERIES[0], w="good")
        assert not entries and len(calls) == 1 and b'"seq":7' in answer
        await _asked(OURS, QUERIES[0], w="too_big")
        await _asked(OURS, 'mutation ($w: String = "good") { make(what: $w) { seq } }', w=None)
    assert [entry["event"] for entry in entries] == ["completed again", "arguments read again"]
