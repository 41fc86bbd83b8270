"""GraphQL over HTTP, after the graphql-http audit: statuses, media types, limits, and what nobody may see."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from rungraph.errors import ApiError
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODERN, LEGACY = "application/graphql-response+json", "application/json"
PROTOCOL = Subprotocol("graphql-transport-ws")
DEEP = "{ modules { nodes " + "{ activeVersion { module " * 7 + "{ id }" + " } }" * 7 + " } }"
ALIASES = "{" + " ".join(f"a{n}: __typename" for n in range(101)) + "}"
TOKENS = "{" + " __typename" * 5001 + "}"
NEEDS_ID = "query ($id: ID!) { run(id: $id) { id } }"

NOT_EXECUTED = {
    "no GraphQL": "{",
    "an unknown field": "{ nothing }",
    "a missing variable": NEEDS_ID,
    "an unknown argument": "{ run(number: 1) { id } }",
    "two operations and no name": "query a { __typename } query b { __typename }",
    "too deep": DEEP,
    "too many aliases": ALIASES,
    "too many tokens": TOKENS,
}


def codes(answer: httpx.Response) -> list[str]:
    """The codes of an answer's errors."""
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (MODERN, f"{MODERN}; charset=utf-8"),
        (f"{MODERN}, {LEGACY};q=0.9", f"{MODERN}; charset=utf-8"),
        (LEGACY, LEGACY),
        ("*/*", LEGACY),
        ("application/*", LEGACY),
        (None, LEGACY),
    ],
)
async def test_the_answer_comes_as_the_client_takes_it(
    server: Server, accept: str | None, media_type: str
) -> None:
    answer = await server.post("{ __typename }", Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("query", NOT_EXECUTED.values(), ids=NOT_EXECUTED)
async def test_what_cannot_be_executed_is_400_to_a_client_of_today_and_200_to_an_older_one(
    server: Server, query: str
) -> None:
    for accept, status in ((MODERN, 400), (LEGACY, 200)):
        answer = await server.post(query, Accept=accept)
        assert (answer.status_code, set(codes(answer))) == (status, {"INVALID"}), answer.text
        assert answer.json().get("data") is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b'"text"', b"{}", b"\xff", b'[{"query": "{ __typename }"}]'),
        *(b'{"query": 1}', b'{"query": ""}', b'{"query": null}'),
        *(b'{"query": "{ __typename }", "variables": []}', b'{"query": "{ __typename }", "variables": "x"}'),
        *(
            b'{"query": "{ __typename }", "operationName": 1}',
            b'{"query": "{ __typename }", "extensions": 1}',
        ),
    ],
    ids=str,
)
async def test_what_is_no_request_is_400(server: Server, body: bytes) -> None:
    headers = {"Authorization": server.bearer, "Content-Type": LEGACY, "Accept": MODERN}
    answer = await server.http.post("/graphql", content=body, headers=headers)
    assert (answer.status_code, codes(answer)) == (400, ["INVALID"]), answer.text


@pytest.mark.parametrize("name", ["a", "b", None])
async def test_the_named_operation_is_executed(server: Server, name: str | None) -> None:
    query = "query a { one: __typename } query b { two: __typename }" if name else "{ one: __typename }"
    body = {"query": query, "operationName": name, "variables": None, "extensions": None}
    answer = await server.http.post("/graphql", json=body, headers={"Authorization": server.bearer})
    assert answer.json() == {"data": {"two" if name == "b" else "one": "Query"}}


async def test_a_subscription_over_http_is_400(server: Server) -> None:
    answer = await server.post('subscription { run(id: "x") { __typename } }', Accept=LEGACY)
    assert (answer.status_code, codes(answer)) == (400, ["INVALID"])


async def test_an_unknown_operation_is_400(server: Server) -> None:
    body = {"query": "query a { __typename }", "operationName": "c"}
    headers = {"Authorization": server.bearer, "Accept": MODERN}
    answer = await server.http.post("/graphql", json=body, headers=headers)
    assert (answer.status_code, codes(answer)) == (400, ["INVALID"])


@pytest.mark.parametrize(
    "wrong", [{}, {"id": None}, {"id": ["x"]}, {"id": {"a": 1}}, {"id": True}, {"id": 1.5}], ids=str
)
async def test_a_variable_of_the_wrong_type_is_400(server: Server, wrong: dict[str, Any]) -> None:
    answer = await server.post(NEEDS_ID, wrong)
    assert (answer.status_code, codes(answer)) == (400, ["INVALID"])
    assert "$id" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.5, True, "1", 10**30])
async def test_an_int64_beyond_what_json_keeps_is_400(server: Server, value: Any) -> None:
    query = 'mutation ($n: Int64!) { createUpload(input: {name: "x", sizeBytes: $n}) { errors { code } } }'
    answer = await server.post(query, {"n": value})
    assert (answer.status_code, codes(answer)) == (400, ["INVALID"]), answer.text


async def test_a_refused_mutation_is_data(server: Server) -> None:
    answer = await server.post(
        'mutation { cancelRun(input: {id: "run_x"}) { run { id } errors { code path } } }'
    )
    assert answer.status_code == 200
    errors = [{"code": "NOT_FOUND", "path": ["input", "id"]}]
    assert answer.json() == {"data": {"cancelRun": {"run": None, "errors": errors}}}


async def test_a_refused_query_is_an_error_with_its_path(server: Server) -> None:
    answer = await server.post("{ server { version } runs(first: 0) { nodes { id } } }")
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["path"], error["extensions"]["code"]) == (200, ["runs"], "INVALID")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(server: Server, method: str) -> None:
    headers = {"Authorization": server.bearer}
    answer = await server.http.request(method, "/graphql?query={__typename}", headers=headers)
    assert (answer.status_code, answer.headers["allow"], codes(answer)) == (405, "POST", ["INVALID"])


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_other_content_types_are_415(server: Server, kind: str | None) -> None:
    headers = {"Authorization": server.bearer} | ({"Content-Type": kind} if kind else {})
    answer = await server.http.post("/graphql", content=b'{"query": "{ __typename }"}', headers=headers)
    assert (answer.status_code, codes(answer)) == (415, ["INVALID"])


async def test_a_charset_does_no_harm(server: Server) -> None:
    answer = await server.post("{ __typename }", Content_Type="Application/JSON; charset=utf-8")
    assert answer.status_code == 200


async def test_media_types_that_cannot_be_given_are_406(server: Server) -> None:
    answer = await server.post("{ __typename }", Accept="text/csv")
    assert (answer.status_code, codes(answer)) == (406, ["INVALID"])


@pytest.mark.parametrize(
    "credential", [None, "Bearer", "Bearer nobody", "Basic YWRtaW46", "Bearer rg_j_attempt_0.x", "Bearer é"]
)
async def test_nobody_may_see_the_schema_and_nothing_else(server: Server, credential: str | None) -> None:
    given = credential.encode("latin-1") if credential else None
    public = await server.post("{ __schema { types { name } } server { version } }", Authorization=given)  # type: ignore[arg-type]
    assert public.status_code == 200, public.text
    for query in ("{ viewer { kind } }", "{ backends { name } }", '{ node(id: "x") { id } }'):
        private = await server.post(query, Authorization=given)  # type: ignore[arg-type]
        assert (private.status_code, set(codes(private))) == (401, {"UNAUTHENTICATED"}), query
        (told,) = {error["message"] for error in private.json()["errors"]}
        assert told.startswith("This token is not known here" if credential else "Send a token as"), query


PRIVATE = """mutation { installModule(input: {source: "x"}) { errors { code } }
createPipeline(input: {name: "x", steps: []}) { errors { code } } startRun(input: {pipeline: "x"}) { errors { code } }
createUpload(input: {name: "x", sizeBytes: 1}) { errors { code } } createLoginLink(input: {}) { errors { code } } }"""


async def test_nobody_changes_anything(server: Server) -> None:
    answer = (await server.post(PRIVATE, Authorization=None)).json()
    refusals = {error["code"] for payload in answer["data"].values() for error in payload["errors"]}
    assert refusals <= {"UNAUTHENTICATED", "NOT_FOUND"}
    assert "UNAUTHENTICATED" in refusals


async def test_a_host_by_another_name_is_421(server: Server) -> None:
    for path in ("/", "/graphql", "/login", "/files/x", "/schema.graphql"):
        answer = await server.http.get(path, headers={"Host": "evil.example"})
        assert (answer.status_code, codes(answer)) == (421, ["FORBIDDEN"])
    for host in ("localhost", "LOCALHOST:99", "127.0.0.1:1", "[::1]:8000", "[::1]"):
        assert (await server.http.get("/schema.graphql", headers={"Host": host})).status_code == 200


async def test_health_is_told_by_any_name_as_probes_come_by_address(server: Server) -> None:
    answer = await server.http.get("/health", headers={"Host": "172.17.0.3:8000"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_page_of_another_origin_is_403(server: Server) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = await server.post("{ __typename }", Origin=origin)
        assert (answer.status_code, codes(answer)) == (403, ["FORBIDDEN"])
    assert (await server.post("{ __typename }", Origin=server.url)).status_code == 200


async def test_allowed_hosts_and_origins_are_let_in(serve: Serve) -> None:
    origin = "https://pages.example"
    async with serve(allowed_hosts=["Rungraph.example"], allowed_origins=[origin]) as server:
        assert (await server.post("{ __typename }", Host="rungraph.Example")).status_code == 200
        assert (await server.post("{ __typename }", Origin=origin)).status_code == 200
        async with connect(_socket(server), subprotocols=[PROTOCOL], origin=Origin(origin), proxy=None):
            pass


def _socket(server: Server) -> str:
    return f"ws{server.url.removeprefix('http')}/graphql"


async def test_a_websocket_of_another_origin_or_host_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            _socket(server), subprotocols=[PROTOCOL], origin=Origin("http://evil.example"), proxy=None
        ):
            pass
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        async with connect(
            "ws://evil.example/graphql",
            host="127.0.0.1",
            port=int(server.url.rpartition(":")[2]),
            subprotocols=[PROTOCOL],
            proxy=None,
        ):
            pass


async def test_a_websocket_of_nobody_is_closed_as_unauthorized(server: Server) -> None:
    async with connect(_socket(server), subprotocols=[PROTOCOL], proxy=None) as socket:
        await socket.send('{"type": "connection_init", "payload": {"token": "nobody"}}')
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_only_the_one_protocol_is_spoken(server: Server) -> None:
    async with connect(_socket(server), subprotocols=[Subprotocol("graphql-ws")], proxy=None) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4406


async def test_a_body_is_bounded_whether_it_says_its_length_or_not(server: Server) -> None:
    headers = {"Authorization": server.bearer, "Content-Type": LEGACY, "Accept": MODERN}
    told = await server.http.post("/graphql", content=b" " * ((32 << 20) + 1), headers=headers)
    assert (told.status_code, codes(told)) == (413, ["LIMIT_EXCEEDED"])

    async def endless() -> Any:
        for _ in range(34):
            yield b" " * (1 << 20)

    untold = await server.http.post("/graphql", content=endless(), headers=headers)
    assert (untold.status_code, codes(untold)) == (413, ["LIMIT_EXCEEDED"])


async def _rename(server: Server, table: str, name: str) -> None:
    async with server.around.database.begin() as session:
        await session.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


async def test_a_fault_shows_an_id_and_no_detail(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    async with serve() as server:
        run = await server.start(await server.pipeline({"step": "pass"}))
        await server.finish(run["id"])
        await _rename(server, "run_tags", "away")
        try:
            answer = await server.post(
                "query ($id: ID!) { run(id: $id) { tags { name } } }", {"id": run["id"]}
            )
        finally:
            await _rename(server, "away", "run_tags")
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "INTERNAL"
        assert error["extensions"]["requestId"] in capsys.readouterr().out
        for detail in ("run_tags", "SELECT", "Traceback", "sqlalchemy", ".py"):
            assert detail not in answer.text
        assert await server.is_well()


async def test_a_fault_of_a_subscription_shows_no_detail_either(serve: Serve) -> None:
    async with serve() as server:
        run = await server.play("pass")
        await _rename(server, "events", "away")
        try:
            query = "subscription ($id: ID!) { run(id: $id, after: 0) { __typename } }"
            with pytest.raises(ApiError) as refused:
                await anext(server.client.subscribe(query, {"id": run["id"]}))
        finally:
            await _rename(server, "away", "events")
        assert (refused.value.code, "SELECT" in str(refused.value)) == ("INTERNAL", False)
        assert await server.is_well()


async def test_health_and_schema_are_there_for_everybody(server: Server) -> None:
    assert (await server.http.get("/health")).json() == {"status": "ok"}
    assert "type Query" in (await server.http.get("/schema.graphql")).text
    assert (await server.http.get("/nothing")).status_code == 404


async def test_a_slash_too_many_leads_to_the_endpoint(server: Server) -> None:
    answer = await server.http.post("/graphql/", json={"query": "{ server { version } }"})
    assert answer.status_code == 307 and answer.headers["location"].endswith("/graphql")
