"""Operations over HTTP: answers, typed errors, and what is asked for again."""

import subprocess
import sys

import pytest
from starlette.responses import PlainTextResponse, Response

from rungraph.api import Client
from rungraph.backoff import Backoff
from rungraph.errors import ApiError, Refused, Unreachable
from tests.client.peer import TOKEN, Peer, cut_short, error_response

QUICK = Backoff(first_seconds=0.001, most_seconds=0.002, patience_seconds=5)
ONCE = Backoff(patience_seconds=0)
VERSION = "query { server { version } }"
START = """mutation ($input: StartRunInput!) {
  startRun(input: $input) { run { id } errors { code message path retryable } }
}"""
CREATE = """mutation ($input: CreatePipelineInput!) {
  createPipeline(input: $input) { pipeline { id } errors { code message path retryable } }
}"""
STARTED = {"startRun": {"run": {"id": "run_1"}, "errors": []}}


def client_of(peer: Peer, token: str | None = TOKEN) -> Client:
    peer.fields["server"] = {"version": "1.2"}
    peer.fields["startRun"] = STARTED["startRun"]
    return Client(peer.url, token, for_requests=QUICK)


def lost() -> Response:
    return cut_short(b'{"data"', 100)


def busy() -> Response:
    return PlainTextResponse("starting", 503)


async def test_a_query_answers_its_data(peer: Peer) -> None:
    async with client_of(peer) as client:
        assert await client.execute(VERSION) == {"server": {"version": "1.2"}}


async def test_a_query_is_asked_again_after_a_lost_connection_and_503(peer: Peer) -> None:
    peer.faults = [lost(), busy(), lost()]
    async with client_of(peer) as client:
        assert await client.execute(VERSION) == {"server": {"version": "1.2"}}
    assert len(peer.operations) == 4


@pytest.mark.parametrize("fault", [lost, busy])
async def test_a_mutation_without_a_key_is_sent_once(peer: Peer, fault: type[Response]) -> None:
    peer.faults = [fault()]
    async with client_of(peer) as client:
        with pytest.raises((Unreachable, ApiError)):
            await client.execute(START, {"input": {"pipeline": "p"}})
    assert len(peer.operations) == 1


async def test_a_mutation_with_a_key_is_asked_again(peer: Peer) -> None:
    peer.faults = [lost(), busy()]
    async with client_of(peer) as client:
        answer = await client.execute(START, {"input": {"pipeline": "p", "idempotencyKey": "k"}})
    assert answer == STARTED
    assert len(peer.operations) == 3


async def test_a_server_that_stays_busy_is_unavailable(peer: Peer) -> None:
    peer.faults = [busy() for _ in range(1000)]
    impatient = Backoff(first_seconds=0.001, most_seconds=0.001, patience_seconds=0.02)
    async with Client(peer.url, TOKEN, for_requests=impatient) as client:
        with pytest.raises(ApiError, match="503: starting") as caught:
            await client.execute(VERSION)
    assert (caught.value.code, caught.value.retryable) == ("UNAVAILABLE", True)


async def test_user_errors_of_a_payload_are_a_refusal(peer: Peer) -> None:
    error = {"code": "INVALID", "message": "no such function", "path": ["steps", "0"], "retryable": False}
    peer.fields["createPipeline"] = {"pipeline": None, "errors": [error]}
    async with client_of(peer) as client:
        with pytest.raises(Refused, match=r"steps\.0: no such function") as caught:
            await client.execute(CREATE, {"input": {"name": "p", "steps": []}})
    assert caught.value.errors[0].path == ("steps", "0")


async def test_a_top_level_error_has_code_path_and_request(peer: Peer) -> None:
    peer.faults = [error_response(200, "LIMIT_EXCEEDED", "too deep")]
    async with client_of(peer) as client:
        with pytest.raises(ApiError, match="too deep") as caught:
            await client.execute(VERSION)
    assert (caught.value.code, caught.value.request_id) == ("LIMIT_EXCEEDED", "req-1")


async def test_a_document_that_does_not_fit_is_invalid(peer: Peer) -> None:
    async with client_of(peer) as client:
        with pytest.raises(ApiError, match="nonsense") as caught:
            await client.execute("query { nonsense }")
    assert caught.value.code == "INVALID"


@pytest.mark.parametrize("token", [None, "another"])
async def test_a_wrong_token_is_unauthenticated(peer: Peer, token: str | None) -> None:
    async with client_of(peer, token) as client:
        with pytest.raises(ApiError) as caught:
            await client.execute(VERSION)
    assert caught.value.code == "UNAUTHENTICATED"


async def test_what_is_no_graphql_server_is_told_by_its_status(peer: Peer) -> None:
    peer.faults = [PlainTextResponse("<html>", 404), PlainTextResponse("fine")]
    async with client_of(peer) as client:
        with pytest.raises(ApiError, match="answered 404: Not Found"):
            await client.execute(VERSION)
        with pytest.raises(ApiError, match="answered 200: fine"):
            await client.execute(VERSION)


async def test_nothing_that_listens_is_told_as_such() -> None:
    async with Client("http://127.0.0.1:9", for_requests=ONCE) as client:
        with pytest.raises(Unreachable, match=r"no server at http://127\.0\.0\.1:9: start one"):
            await client.execute(START, {"input": {"pipeline": "p"}})


async def test_a_subscription_is_one_socket(peer: Peer) -> None:
    peer.feeds["run"] = [{"__typename": "Cursor", "seq": 3}, {"__typename": "FeedEnded", "seq": 3}]
    query = "subscription { run(id: 1) { __typename ... on FeedEvent { seq } } }"
    async with client_of(peer) as client:
        answers = [answer["run"]["__typename"] async for answer in client.subscribe(query)]
    assert answers == ["Cursor", "FeedEnded"]
    assert peer.init_payloads == [{"token": TOKEN}]


async def test_the_token_is_shown_to_its_own_server_alone(peer: Peer) -> None:
    peer.token = None
    peer.contents["a"] = b"content"
    async with Client("http://graph.example", TOKEN) as client:
        response = await client.http.get(f"{peer.url}/contents/a")
    assert "authorization" not in response.request.headers


def test_importing_the_package_needs_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, 'client'); import rungraph"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
