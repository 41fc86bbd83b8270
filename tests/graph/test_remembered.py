"""An operation that was asked before is answered as it was the first time, without being parsed or judged again."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import parse, validation
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import RefMap
from starlette.requests import HTTPConnection
from strawberry.execution import optimized_is_awaitable

from graph import execution, remembered
from graph.context import Context
from graph.execution import Execution
from graph.http import Endpoint
from graph.schema import build
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMED = "query A($first: Int) { runs(first: $first) { nodes { id } } }"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("{ __typename server { version } }", {}),
    ("{ runs(first: 1) { nodes { id } pageInfo { hasNextPage } } }", {}),
    ("{ runs(first: 1000) { nodes { id } } a: __typename }", {}),
    ("{ runs(first: 1000) { nodes { id } } }", {}),
    (NAMED, {"variables": {"first": 2}}),
    (NAMED, {"variables": {"first": "two"}}),
    (NAMED, {"variables": {"first": 2}, "operationName": "A"}),
    (NAMED, {"variables": {"first": 2}, "operationName": "B"}),
    ("query A { __typename } query B { __typename }", {"operationName": "B"}),
    ("query A { __typename } query B { __typename }", {}),
    ("subscription { runs { __typename } }", {}),
    ("{ nothing }", {}),
    ("{", {}),
    ('mutation { cancelRun(input: {id: "run_x"}) { errors { code message path } } }', {}),
    ("mutation { logMetrics(input: {series: 3}) { seq } }", {}),
]


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    remembered._documents.clear()
    yield


async def _told(server: Server, query: str, more: dict[str, Any], **headers: str | None) -> Any:
    given = {"Authorization": server.bearer, **{name: value for name, value in headers.items() if value}}
    answer = await server.http.post("/graphql", json={"query": query, **more}, headers=given)
    return answer.status_code, answer.headers["content-type"], answer.content


@pytest.mark.parametrize(("query", "more"), CASES)
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_the_second_answer_is_the_first(
    server: Server, query: str, more: dict[str, Any], accept: str
) -> None:
    first = await _told(server, query, more, Accept=accept)
    assert [await _told(server, query, more, Accept=accept) for _ in range(2)] == [first, first]


async def test_what_was_found_valid_is_not_judged_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "{ runs(first: 1) { nodes { id name } } }"
    first = await _told(server, query, {})

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("judged again")

    monkeypatch.setattr(validation, "validate", fail)
    monkeypatch.setattr("strawberry.schema.schema.Schema.execute", fail)
    assert await _told(server, query, {}) == first


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ runs(first: 1) { nodes { id name jobs { id } } } }", {}),
        ("{ run(id: \"run_x\") { id } }", {}),
        ("mutation($s: [SeriesInput!]!) { logMetrics(input: {producer: \"p\", number: 1, series: $s}) { seq } }",
         {"s": [{"name": "m", "values": [1.0] * 20}]}),
    ],
)  # fmt: skip
async def test_what_was_sent_is_free_once_it_is_answered(
    server: Server, query: str, variables: dict[str, Any]
) -> None:
    def alive() -> int:
        return sum(isinstance(each, Context) for each in gc.get_objects())

    more = {"variables": variables}
    first = await _told(server, query, more)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        assert [await _told(server, query, more) for _ in range(3)] == [first] * 3
        assert alive() == before
    finally:
        gc.enable()


async def test_nobody_profits_from_what_another_was_answered(server: Server) -> None:
    query = "{ runs(first: 1) { nodes { id } } }"
    assert (await _told(server, query, {}))[0] == 200
    refused = await server.http.post("/graphql", json={"query": query})
    assert refused.status_code == 401 and b"UNAUTHENTICATED" in refused.content


async def test_no_more_documents_are_remembered_than_are_bounded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MOST", 10)
    for number in range(remembered.MOST + 5):
        assert (await _told(server, f"{{ a{number}: __typename }}", {}))[0] == 200
    assert len(remembered._documents) == remembered.MOST


@pytest.mark.parametrize(
    "query",
    [
        "{ __typename } #" + "long " * 2000,
        "query ($names: [String!]!) { __typename } #" + "long " * 2000,
        "{ " + "a" * 9000 + ": viewer { kind } }",
        "{ nothing } #" + "long " * 2000,
    ],
)
async def test_a_long_document_is_answered_as_any_other_and_forgotten(server: Server, query: str) -> None:
    more = {"variables": {"names": ["a"]}} if "$names" in query else {}
    kept = _kept()
    first = await _told(server, query, more)
    assert await _told(server, query, more) == first
    assert _kept() == kept and not remembered._documents


async def test_the_name_of_an_operation_takes_no_memory(server: Server) -> None:
    kept = _kept()
    query = "query A($names: [String!]) { __typename }"
    told = await _told(server, query, {"variables": {"names": []}, "operationName": "A" * 9000})
    assert "Unknown operation" in str(told) and len(execution._operations._known) == kept[2]


def _kept() -> tuple[int, ...]:
    """How many documents, judgements, operations and plans the process remembers."""
    parsed = remembered.Parsing(maxsize=remembered.MOST).cached_parse_document
    judged = remembered.Judging(maxsize=remembered.MOST).cached_validate_document
    sizes = [each.cache_info().currsize for each in (parsed, judged)]  # type: ignore[attr-defined]
    return *sizes, len(execution._operations._known), len(execution._plans._plans)


FOLLOW = (
    "subscription A($r: ID!, $a: Int64) { run(id: $r, after: $a) { __typename ... on FeedEvent { seq } } }"
)
FOLLOWED: list[tuple[str, dict[str, Any], str | None]] = [
    (FOLLOW, {"a": 0}, None),
    (FOLLOW, {"a": 0}, "A"),
    (FOLLOW, {"a": 0}, "B"),
    (FOLLOW, {"a": "0"}, None),
    (FOLLOW, {"a": 0, "r": "run_x"}, None),
    ("subscription ($r: ID!) { metrics(run: $r, after: 0, maxHz: 1000) { __typename } }", {}, None),
    ("subscription ($r: ID!) { logs(job: $r, last: 1) { __typename } nothing }", {}, None),
    ("query ($r: ID!) { run(id: $r) { id } }", {}, None),
]


@pytest.mark.parametrize(("query", "variables", "name"), FOLLOWED)
async def test_the_second_stream_is_the_first(
    server: Server, query: str, variables: dict[str, Any], name: str | None
) -> None:
    run = await server.play("print('over')")
    viewer = await server.around.credentials.viewer(server.bearer.split()[1])

    async def streamed() -> list[Any]:
        connection = HTTPConnection({"type": "http", "headers": []})
        context = Context(connection, server.around, viewer=viewer, request_id="x")
        endpoint: Endpoint = server.app.state.endpoint
        results = await endpoint.stream(query, {"r": run["id"], **variables}, name, context)
        return [(r.data, [error.formatted for error in r.errors or ()]) async for r in results]

    first = await streamed()
    assert first
    assert [await streamed() for _ in range(2)] == [first, first]


async def test_executions_of_one_document_share_nothing_that_they_gather() -> None:
    schema = build()._schema
    document = parse("mutation ($r: ID!) { cancelRun(input: {id: $r}) { errors { message } } }")
    made = [Execution.again(schema, document, at, {"r": "x"}, None, {"at": at}) for at in range(2)]
    expected = vars(
        Execution.build(schema, document, None, 0, {"r": "x"}, is_awaitable=optimized_is_awaitable)
    )
    first, second = map(vars, made)
    assert first.keys() == second.keys() == expected.keys()
    assert {name: type(value) for name, value in first.items() if name != "operation_extensions"} == {
        name: type(value) for name, value in expected.items() if name != "operation_extensions"
    }
    shared = {name for name in first if first[name] is second[name]}
    gathered = (set, dict, list, RefMap, CollectedErrors)
    assert not [name for name in shared if isinstance(first[name], gathered)]
    assert [(each.context_value, each.operation_extensions) for each in made] == [
        (0, {"at": 0}),
        (1, {"at": 1}),
    ]
    assert first["operation"] is second["operation"] is expected["operation"]
    assert [each.async_helpers.track.__self__ for each in made] == made
