"""A query executed a level at a time answers what graphql-core answers, whatever it asks."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_required_argument,
)
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult

from db import errors
from graph.context import Context
from graph.encoding import encode
from graph.execution import Execution
from graph.schema import build
from graph.surroundings import Surroundings
from tests.db.world import few
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHANGING = {"server", "now", "durationSeconds", "expectedSecondsLeft"}


class Usual(Execution):
    """Everything by graphql-core."""

    def execute_operation(self, serially: bool | None = None) -> Any:
        return StrawberryGraphQLCoreExecutionContext.execute_operation(self, serially)


SCHEMA = build()._schema
PIECES = (
    "runs(first: 3)",
    "run(id: $run)",
    "node(id: $run)",
    "node(id: $job)",
    "nodes(ids: [$run, $job, $none])",
)
LISTS = (
    "pipelines",
    "modules",
    "functions",
    "backends",
    "run(id: $none)",
    "job(id: $job)",
)


@st.composite
def selections(draw: st.DrawFn, kind: Any, depth: int) -> str:
    """A selection on a type: some of its fields, some twice under other names, some by fragments."""
    named = get_named_type(kind)
    if isinstance(named, GraphQLInterfaceType | GraphQLUnionType):
        possible = sorted(each.name for each in SCHEMA.get_possible_types(named))
        chosen = draw(st.lists(st.sampled_from(possible), min_size=1, max_size=3, unique=True))
        parts = [f"... on {name} {draw(selections(SCHEMA.type_map[name], depth))}" for name in chosen]
        return "{ __typename " + " ".join(parts) + " }"
    if not isinstance(named, GraphQLObjectType):
        return ""
    fields = {
        name: field
        for name, field in named.fields.items()
        if name not in CHANGING
        and not any(map(is_required_argument, field.args.values()))
        and (depth > 0 or not hasattr(get_named_type(field.type), "fields"))
        and (depth > 0 or not isinstance(get_named_type(field.type), GraphQLUnionType))
    }
    parts = []
    for name in draw(st.lists(st.sampled_from(sorted(fields) or ["__typename"]), min_size=1, max_size=6)):
        inner = draw(selections(fields[name].type, depth - 1)) if name in fields else ""
        label = draw(st.sampled_from(["", f"{name}_again: "])) if not inner else f"{name}_{len(parts)}: "
        condition = draw(st.sampled_from(["", "", "", " @include(if: $yes)", " @skip(if: $yes)"]))
        parts.append(f"{label}{name}{condition} {inner}")
    return "{ __typename " + " ".join(parts) + " }"


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A query that is valid as far as one can tell."""
    parts = [
        "r: node(id: $run) { id } j: node(id: $job) { id } n: node(id: $none) { id } __typename @skip(if: $yes)"
    ]
    for index, piece in enumerate(draw(st.lists(st.sampled_from(PIECES + LISTS), min_size=1, max_size=3))):
        field = SCHEMA.query_type.fields[piece.partition("(")[0]]  # type: ignore[union-attr]
        parts.append(f"a{index}: {piece} {draw(selections(field.type, 3))}")
    return "query ($run: ID!, $job: ID!, $none: ID!, $yes: Boolean!) { " + " ".join(parts) + " }"


def context(around: Surroundings, viewer: Any) -> Context:
    connection = HTTPConnection({"type": "http", "headers": []})
    return Context(connection, around, viewer=viewer, request_id="x")


def told(result: ExecutionResult) -> bytes:
    found = [error.formatted for error in result.errors or ()]
    return encode({"data": result.data, "errors": sorted(found, key=lambda error: str(error.get("path")))})


async def both(server: Server, query: str, **variables: Any) -> tuple[bytes, bytes]:
    viewer = await server.around.credentials.viewer(server.bearer.split()[1])
    answers = [
        await schema.execute(query, variables, context(server.around, viewer))
        for schema in (build(), build(execution=Usual))
    ]
    assert all(isinstance(answer, ExecutionResult) for answer in answers)
    return told(answers[0]), told(answers[1])


@pytest.fixture
def again() -> Iterator[list[Any]]:
    """What was executed again."""
    with structlog.testing.capture_logs() as entries:
        yield entries


async def _made(server: Server) -> dict[str, str]:
    writing = (
        "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/a', 'w'); print('{\"metric\": {\"x\": 1}}\\nover')"
    )
    pipeline = await server.pipeline({"one": writing, "two": "pass"})
    file = await server.upload("in.txt")
    for _ in range(3):
        run = await server.start(pipeline, files=[file], tags=[{"name": "a"}])
        ended = await server.finish(run["id"])
    none = ended["id"][:-3] + "000"
    return {"run": ended["id"], "job": ended["jobs"][0]["id"], "none": none}


async def _once(server: Server) -> dict[str, str]:
    names: dict[str, str] | None = getattr(server, "_made", None)
    if names is None:
        names = server._made = await _made(server)  # type: ignore[attr-defined]
    return names


@few
@given(query=queries(), yes=st.booleans())
async def test_answers_equal_those_of_graphql_core(server: Server, query: str, yes: bool) -> None:
    names = await _once(server)
    ours, usual = await both(server, query, **names, yes=yes)
    assert ours == usual


@st.composite
def subscriptions(draw: st.DrawFn) -> str:
    """A subscription to a run from its beginning."""
    kind = SCHEMA.subscription_type.fields["run"].type  # type: ignore[union-attr]
    selection = draw(selections(kind, 2))
    condition = ", $yes: Boolean!" if "$yes" in selection else ""
    return f"subscription ($run: ID!{condition}) {{ a: run(id: $run, after: 0) {selection} }}"


async def streamed(server: Server, query: str, **variables: Any) -> tuple[list[bytes], list[bytes]]:
    viewer = await server.around.credentials.viewer(server.bearer.split()[1])
    answers: list[list[bytes]] = []
    for schema in (build(), build(execution=Usual)):
        about = context(server.around, viewer)
        results: Any = await schema.subscribe(query, variables, about)
        answers.append([told(result) async for result in results])
    return answers[0], answers[1]


@few
@given(query=subscriptions(), yes=st.booleans())
async def test_events_equal_those_of_graphql_core(server: Server, query: str, yes: bool) -> None:
    names = await _once(server)
    ours, usual = await streamed(server, query, run=names["run"], **({"yes": yes} if "$yes" in query else {}))
    assert ours == usual


async def test_each_event_is_executed_once(server: Server, again: list[Any]) -> None:
    names = await _once(server)
    query = """subscription ($run: ID!) { run(id: $run, after: 0) {
      __typename ... on FeedEvent { seq } ... on RunChanged { runState run { name tags { name } } }
      ... on JobChanged { step jobState job { id outputs { name } } } ... on WorkerChanged { job { step } }
      ... on PointsAdded { series { name values nonFinite { index kind } } }
      ... on LinesAdded { lines { text level } } } }"""
    ours, usual = await streamed(server, query, run=names["run"])
    assert ours == usual
    kinds = {orjson.loads(event)["data"]["run"]["__typename"] for event in ours}
    assert {"RunChanged", "JobChanged", "WorkerChanged", "PointsAdded", "LinesAdded", "FeedEnded"} <= kinds
    assert not [entry for entry in again if entry["event"] == "executed again"]


DEEP = """query ($run: ID!, $job: ID!) {
  run(id: $run) { ...R jobs { id run { id name } } } job(id: $job) { run { ...R } }
  runs(first: 3) { edges { cursor node { ...R } } pageInfo { endCursor hasNextPage } }
  nodes(ids: [$run, $job]) { __typename id ... on Run { state } ... on Job { step arguments } } }
fragment R on Run { id name state createdAt metrics { name last min maxStep } tags { name } files { id name }
  jobs { step state arguments needs outputs { id name } function { name module { name } } attempts { number
    workers { rank phase } } } pipeline { name } project { name } }"""


async def test_what_succeeds_is_executed_once(server: Server, again: list[Any]) -> None:
    names = await _made(server)
    ours, usual = await both(server, DEEP, run=names["run"], job=names["job"])
    assert ours == usual and b'"errors":[]' in ours
    assert not [entry for entry in again if entry["event"] == "executed again"]


async def test_what_is_refused_is_told_as_graphql_core_tells_it(server: Server, again: list[Any]) -> None:
    names = await _made(server)
    query = "query ($run: ID!) { run(id: $run) { id } runs(first: 1000) { nodes { id } } }"
    ours, usual = await both(server, query, run=names["run"])
    assert ours == usual and b"a page has 1 to 100 items" in ours
    (entry,) = [entry for entry in again if entry["event"] == "executed again"]
    assert errors.Invalid.__name__ in entry["error"]


ALONE = (
    "query ($run: ID!) { runs(first: 1000, filter: {parent: $run}) { nodes { id } } }",
    "query ($run: ID!) { again: run(id: $run) { id } }",
    "query ($run: ID!) { node(id: $run) { id } }",
)


@pytest.mark.parametrize("query", ALONE)
async def test_what_alone_was_asked_for_does_not_fail_twice(
    server: Server, again: list[Any], query: str
) -> None:
    answers = [
        await schema.execute(query, {"run": "run_x"}, context(server.around, None))
        for schema in (build(), build(execution=Usual))
    ]
    ours, usual = (told(answer) for answer in answers if isinstance(answer, ExecutionResult))
    assert ours == usual and b"UNAUTHENTICATED" in ours
    assert not [entry for entry in again if entry["event"] == "executed again"]


def _fields_of(name: str) -> list[str]:
    """Each field of a type that needs no argument, with what is plain of what it leads to."""
    found = []
    for field, definition in SCHEMA.type_map[name].fields.items():  # type: ignore[attr-defined]
        inner = get_named_type(definition.type)
        if field in CHANGING or any(map(is_required_argument, definition.args.values())):
            continue
        inside = ""
        if isinstance(inner, GraphQLObjectType):
            plain = [n for n, f in inner.fields.items() if not hasattr(get_named_type(f.type), "fields")]
            inside = "{ __typename " + " ".join(n for n in plain if n not in CHANGING and n != "logs") + " }"
        found.append(f"{field} {inside}")
    return found


@pytest.mark.parametrize("field", _fields_of("Run"))
async def test_each_field_of_a_run_finds_the_columns_it_reads(
    server: Server, again: list[Any], field: str
) -> None:
    names = await _once(server)
    asked = f"runs(first: 3) {{ nodes {{ {field} }} }} run(id: $run) {{ {field} }}"
    ours, usual = await both(server, f"query ($run: ID!) {{ {asked} }}", run=names["run"])
    assert ours == usual and b'"errors":[]' in ours
    assert not [entry for entry in again if entry["event"] == "executed again"]


@pytest.mark.parametrize("field", _fields_of("Job"))
async def test_each_field_of_a_job_finds_the_columns_it_reads(
    server: Server, again: list[Any], field: str
) -> None:
    await _once(server)
    ours, usual = await both(server, f"{{ runs(first: 3) {{ nodes {{ jobs {{ {field} }} }} }} }}")
    assert ours == usual and b'"errors":[]' in ours
    assert not [entry for entry in again if entry["event"] == "executed again"]
