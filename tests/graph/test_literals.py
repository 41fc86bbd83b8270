"""Arguments of literals with variables in them: as graphql-core and strawberry make them, whatever was sent."""

from enum import Enum
from typing import Any

import pytest
import strawberry
from hypothesis import given
from hypothesis import strategies as st
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.execution import ExecutionResult

from graph import literals
from graph.execution import Execution
from graph.scalars import SCALARS, Int64


@strawberry.enum
class Kind(Enum):
    """A word of few."""

    GOOD = "good"
    BAD = "bad"


@strawberry.input
class Inner:
    """An object in an object."""

    word: str
    kind: Kind = Kind.GOOD
    number: float | None = 0.5
    inner: list["Inner"] | None = None


@strawberry.input(one_of=True)
class Either:
    """One of two."""

    left: strawberry.Maybe[int]
    right: strawberry.Maybe[str]


@strawberry.input
class Given:
    """An argument."""

    inner: Inner | None = None
    many: list[Inner] = strawberry.field(default_factory=list)
    words: list[str | None] | None = strawberry.UNSET
    steps: list[Int64] | None = None
    either: Either | None = None
    anything: JSON | None = None
    count: int = 3


def _told(given: Given | None, count: int, words: list[str] | None) -> str:
    return repr((given, count, words))


@strawberry.type
class Query:
    """Tells what came."""

    @strawberry.field
    def told(self, given: Given | None = None, count: int = 7, words: list[str] | None = None) -> str:
        return _told(given, count, words)


@strawberry.type
class Mutation:
    """Tells what came, to be carried out once."""

    @strawberry.mutation
    async def tell(self, given: Given | None = None, count: int = 7, words: list[str] | None = None) -> str:
        return _told(given, count, words)


def _schema(execution: type) -> strawberry.Schema:
    config = StrawberryConfig(scalar_map=SCALARS)
    return strawberry.Schema(Query, Mutation, config=config, execution_context_class=execution)


OURS, THEIRS = _schema(Execution), _schema(StrawberryGraphQLCoreExecutionContext)
VARIABLES = """
    $s: String, $t: String!, $d: String! = "default", $n: Int, $m: Int! = 5, $f: Float, $k: Kind, $j: JSON,
    $i: Inner, $l: [Inner!], $w: [String!], $q: [Int64!]
"""
FIELDS = [
    "given: {}",
    "given: {inner: {word: $t, kind: $k, number: $f}}",
    "given: {inner: {word: $d, kind: BAD}, count: $m}",
    "given: {inner: $i, many: $l}",
    'given: {many: [{word: $t}, {word: $d, inner: {word: $t}}], words: [$s, "x", null, $t]}',
    "given: {many: {word: $t}, words: $t, steps: $q}",
    "given: {steps: [1, 2], either: {left: $m}}",
    "given: {either: {right: $t}, anything: {deep: [$n, {down: $s}], flat: true}}",
    "given: {anything: $j, words: $w, count: 4}",
    "count: $m, words: $w",
    "words: [$t, $d]",
    "words: $t, given: null",
]
texts = st.text(max_size=3)
inner = st.fixed_dictionaries({"word": texts}, optional={"kind": st.sampled_from(["GOOD", "BAD", "ODD"])})
odd = st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.floats() | texts
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "s": texts,
    "t": texts,
    "d": texts,
    "n": st.integers(-5, 5),
    "m": st.integers(-5, 5),
    "f": st.floats(allow_nan=False) | st.integers(),
    "k": st.sampled_from(["GOOD", "BAD"]),
    "j": st.recursive(
        odd, lambda each: st.lists(each, max_size=2) | st.dictionaries(texts, each, max_size=2)
    ),
    "i": inner,
    "l": st.lists(inner, max_size=2) | inner,
    "w": st.lists(texts, max_size=2) | texts,
    "q": st.lists(st.integers(-5, 5), max_size=20),
}
usual = st.fixed_dictionaries({"t": VALUES.pop("t")}, optional=VALUES)
anything = st.fixed_dictionaries({}, optional={name: one | odd for name, one in VALUES.items()} | {"t": odd})


def _plain(result: ExecutionResult | Any) -> Any:
    errors = [(error.message, error.path, error.locations) for error in result.errors or ()]
    return result.data, errors


@pytest.mark.parametrize("fields", FIELDS)
@given(values=usual | anything)
async def test_arguments_are_what_graphql_core_makes_of_them(fields: str, values: dict[str, Any]) -> None:
    for kind, field in (("query", "told"), ("mutation", "tell")):
        used = [part for part in VARIABLES.replace("\n", "").split(",") if _name(part) in fields]
        text = f"{kind} {'(' + ','.join(used) + ')' if used else ''} {{ {field}({fields}) }}"
        named = {_name(part)[1:] for part in used}
        sent = {name: value for name, value in values.items() if name in named}
        ours, theirs = [await schema.execute(text, dict(sent)) for schema in (OURS, THEIRS)]
        assert _plain(ours) == _plain(theirs)


def _name(variable: str) -> str:
    return variable.strip().partition(":")[0]


async def test_plain_arguments_take_no_detour(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "query ($t: String!) { told(given: {inner: {word: $t}}) }"
    assert (await OURS.execute(text, {"t": "a"})).errors is None
    asked: list[str] = []
    made = literals.Arguments.made

    def noted(self: literals.Arguments, *args: Any) -> dict[str, Any]:
        asked.append("made")
        return made(self, *args)

    monkeypatch.setattr(literals.Arguments, "made", noted)
    monkeypatch.setattr("graph.literals.get_argument_values", None)
    answer = await OURS.execute(text, {"t": "b"})
    assert answer.data is not None and "word='b'" in answer.data["told"] and asked == ["made"]


async def test_what_one_does_to_a_constant_no_other_sees() -> None:
    @strawberry.type
    class Grower:
        """Changes what it is given."""

        @strawberry.mutation
        async def grow(self, words: list[str], anything: JSON) -> str:
            words.append("more")
            if isinstance(anything, dict):
                anything["more"] = 1
            return repr((words, anything))

    schema = strawberry.Schema(
        Query, Grower, config=StrawberryConfig(scalar_map=SCALARS), execution_context_class=Execution
    )
    text = 'mutation { grow(words: ["a"], anything: {b: [1]}) }'
    answers = [(await schema.execute(text)).data for _ in range(3)]
    assert answers == [{"grow": "(['a', 'more'], {'b': [1], 'more': 1})"}] * 3
