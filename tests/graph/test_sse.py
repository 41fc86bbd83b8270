"""Server-sent events: the same subscriptions, shared with those of WebSockets, resumed by the last event's id."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from graph import sse
from tests.backends.grounds import eventually
from tests.graph.serving import Server
from tests.graph.test_sharing import PRINTS, WATCH, endpoint, rest, socket_of, subscribe

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Event:
    kind: str
    id: str | None
    data: str

    @property
    def told(self) -> Any:
        """The field's value."""
        payload = orjson.loads(self.data)
        assert "errors" not in payload, payload
        (found,) = payload["data"].values()
        return found


@contextlib.asynccontextmanager
async def streaming(
    server: Server, query: str, variables: Any = None, **headers: str
) -> AsyncIterator[httpx.Response]:
    given = {"Accept": "text/event-stream", "Authorization": server.bearer}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"query": query, "variables": variables}
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
        http.stream("POST", f"{server.url}/graphql", json=body, headers=given) as answer,
    ):
        yield answer


async def events(answer: httpx.Response) -> AsyncIterator[Event]:
    """As the standard has an EventSource read them."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield Event(fields["event"], fields.get("id"), fields["data"])
            fields = {}


async def take(server: Server, query: str, variables: Any = None, **headers: str) -> list[Event]:
    async with streaming(server, query, variables, **headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return [event async for event in events(answer)]


async def test_a_run_is_followed_to_its_end_with_the_bytes_that_sockets_get(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": PRINTS}))
    async with socket_of(server) as socket:
        await subscribe(socket, run["id"], run["seq"])
        (*told, over), texts = await asyncio.gather(
            take(server, WATCH, {"run": run["id"], "after": run["seq"]}), rest(socket)
        )
    assert (over.kind, over.data) == ("complete", "")
    assert all(event.kind == "next" for event in told)
    head = '{"id":"1","type":"next","payload":'
    assert [f"{head}{event.data}}}" for event in told] == texts
    assert [int(event.id or "") for event in told] == [event.told["seq"] for event in told]
    assert told[-1].told["__typename"] == "FeedEnded"


async def test_watchers_of_both_kinds_share_one_computation(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": "import time; time.sleep(60)"}))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            answer = await stack.enter_async_context(streaming(server, WATCH, {"run": run["id"], "after": 0}))
            await anext(events(answer))
            socket = await stack.enter_async_context(socket_of(server))
            await subscribe(socket, run["id"], 0)
            await socket.recv()
        assert endpoint(server).topics.count == 1
        assert server.around.hub.readers == 1

    async def nobody() -> bool:
        return endpoint(server).topics.count == 0

    await eventually(nobody)
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)


@pytest.mark.parametrize("begin", ["(run: $run, after: 0)", "(run: $run)", "(run: $run, after: $after)"])
async def test_the_last_events_id_resumes_whatever_the_document_says(server: Server, begin: str) -> None:
    run = await server.start(await server.pipeline({"step": PRINTS}))
    await server.finish(run["id"])
    takes = "$run: ID!, $after: Int64 = 0" if "$after" in begin else "$run: ID!"
    query = f"subscription ({takes}) {{ metrics{begin} {{ __typename ... on FeedEvent {{ seq }} }} }}"
    whole = [e.id for e in await take(server, query, {"run": run["id"]}, Last_Event_ID="0") if e.id]
    middle = len(whole) // 2
    resumed = await take(server, query, {"run": run["id"]}, Last_Event_ID=str(whole[middle]))
    assert [event.id for event in resumed if event.id] == whole[middle + 1 :]


async def test_an_operation_that_ends_at_once_is_one_event(server: Server) -> None:
    told, over = await take(server, "{ viewer { kind } }")
    assert (told.told, over.kind) == ({"kind": "ADMINISTRATOR"}, "complete")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "INVALID"),
        ("subscription { nothing }", "INVALID"),
        ('subscription { run(id: "run_00000000000000000000000000") { __typename } }', "NOT_FOUND"),
        ('subscription { run(id: "x", after: -1) { __typename } }', "NOT_FOUND"),
    ],
)
async def test_what_is_refused_is_told_and_then_complete(server: Server, query: str, code: str) -> None:
    told, over = await take(server, query)
    (error,) = orjson.loads(told.data)["errors"]
    assert (error["extensions"]["code"], told.id, over.kind) == (code, None, "complete")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Bearer nobody", "Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Last_Event_ID": "-1"}, 400),
        ({"Last_Event_ID": "x"}, 400),
        ({"Last_Event_ID": "9" * 5000}, 400),
    ],
)
async def test_what_is_no_request_of_ours_is_refused_as_any_other(
    server: Server, headers: dict[str, str], status: int
) -> None:
    async with streaming(server, "{ viewer { kind } }", **headers) as answer:
        assert answer.status_code == status
        assert orjson.loads(await answer.aread())["errors"]


async def test_a_document_without_a_query_is_a_bad_request(server: Server) -> None:
    for body in ("{}", "[]", "no", '{"query": 7}'):
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        answer = await server.http.post(
            "/graphql", content=body, headers={**headers, "Authorization": server.bearer}
        )
        assert answer.status_code == 400, body


@pytest.mark.parametrize(
    ("accept", "events"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*", True),
        ("application/json;q=0.9, text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("*/*", False),
        ("", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("application/json, text/event-stream", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=much", False),
    ],
)
async def test_events_are_for_who_prefers_them(accept: str, events: bool) -> None:
    assert sse.is_preferred(accept) is events


async def test_a_quiet_stream_shows_that_it_lives(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.02)
    query = "subscription { runs { __typename } }"
    async with streaming(server, query) as answer:
        beats = 0
        async for line in answer.aiter_lines():
            assert line in (":", "")
            beats += line == ":"
            if beats == 4:
                break


async def test_a_server_that_stops_cuts_streams_off_so_that_they_are_resumed(server: Server) -> None:
    async with streaming(server, "subscription { runs { __typename } }") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == ":"
        endpoint(server).end_streams()
        assert [line async for line in lines if line] == []
