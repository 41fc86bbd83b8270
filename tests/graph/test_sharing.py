"""Equal subscriptions: computed once, the same bytes to all, and every watcher still sees each event once."""

import asyncio
import contextlib
import gc
import random
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from strawberry.schema import Schema
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from graph import remembered
from graph.http import Endpoint
from graph.sharing import shareable
from tests.backends.grounds import eventually
from tests.graph.serving import PATIENCE_SECONDS, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

WATCH = """subscription Watch($run: ID!, $after: Int64) { run(id: $run, after: $after) {
  __typename ... on FeedEvent { seq } ... on PointsAdded { series { steps values } } } }"""
FIELDS = ("run", "metrics", "logs")
PRINTS = """
import json, time
for step in range(60):
    print(json.dumps({"metric": {"loss": step / 7}, "step": step}), flush=True)
    time.sleep(0.005)
"""


@contextlib.asynccontextmanager
async def socket_of(server: Server, token: str = "") -> AsyncIterator[ClientConnection]:
    url = server.url.replace("http", "ws") + "/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    headers = {"Authorization": f"Bearer {token}" if token else server.bearer}
    # The goodbye of a socket left in mid-stream waits behind what nobody reads any more.
    leaving: Any = {"close_timeout": 0.1, "proxy": None}
    async with connect(url, subprotocols=protocols, additional_headers=headers, **leaving) as socket:
        await socket.send('{"type": "connection_init"}')
        assert orjson.loads(await socket.recv())["type"] == "connection_ack"
        yield socket


async def subscribe(socket: ClientConnection, run: str, after: int | None, query: str = WATCH) -> None:
    payload = {"query": query, "variables": {"run": run, "after": after}}
    await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())


async def rest(socket: ClientConnection) -> list[str]:
    """Every payload until the subscription is complete, as it was sent."""
    texts: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for text in socket:
            message = orjson.loads(text)
            if message["id"] != "1":
                continue
            if message["type"] == "complete":
                return texts
            texts.append(str(text))
    raise AssertionError("the connection ended before the subscription")


def event(text: str) -> dict[str, Any]:
    message = orjson.loads(text)
    assert "errors" not in message["payload"], text
    found: dict[str, Any] = message["payload"]["data"]["run"]
    return found


def endpoint(server: Server) -> Endpoint:
    found: Endpoint = server.app.state.endpoint
    return found


async def test_watchers_of_one_run_share_one_computation_and_its_bytes(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": PRINTS}))
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(socket_of(server)) for _ in range(8)]
        for socket in sockets:
            await subscribe(socket, run["id"], run["seq"])

        async def shared() -> bool:
            return endpoint(server).topics.count == 1

        await eventually(shared)
        told = await asyncio.gather(*(rest(socket) for socket in sockets))
    assert all(texts == told[0] for texts in told)
    assert event(told[0][-1])["__typename"] == "FeedEnded"
    assert endpoint(server).topics.count == 0


async def test_who_asks_first_is_told_as_those_are_who_ask_what_was_asked_before(server: Server) -> None:
    query = f"{WATCH} # {random.random()}"
    schema = endpoint(server).schema
    assert isinstance(schema, Schema)
    assert not remembered.is_known(schema, query)
    run = await server.start(await server.pipeline({"step": PRINTS}))
    async with socket_of(server) as socket:
        await subscribe(socket, run["id"], run["seq"], query)
        (first, *_, last) = await rest(socket)
    assert remembered.is_known(schema, query)
    assert event(first)["seq"] == run["seq"] + 1 and event(last)["__typename"] == "FeedEnded"
    assert endpoint(server).topics.count == 0 and server.around.hub.readers == 0


async def test_what_was_held_for_watchers_is_free_when_the_last_has_gone_without_a_search_for_garbage(
    server: Server,
) -> None:
    run = await server.start(await server.pipeline({"step": "import time; time.sleep(600)"}))
    gc.disable()
    try:
        async with socket_of(server) as socket:
            await subscribe(socket, run["id"], run["seq"])
            await socket.recv()
            held = [*endpoint(server).topics._topics.values(), *server.around.hub._readers.values()]
            left = [weakref.ref(each) for each in held]
            assert len(left) == 2
            del held

        async def free() -> bool:
            return [each() for each in left] == [None, None]

        await eventually(free)
    finally:
        gc.enable()
        await server.change("cancelRun", "run { id }", id=run["id"])


async def test_a_watcher_that_comes_back_anywhere_sees_every_event_once_in_order(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": PRINTS}))
    chance = random.Random(7)

    async def watch() -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["__typename"] != "FeedEnded":
            async with socket_of(server) as socket, asyncio.timeout(PATIENCE_SECONDS):
                await subscribe(socket, run["id"], seen[-1]["seq"] if seen else 0)
                for _ in range(chance.randint(1, 9)):
                    message = orjson.loads(await socket.recv())
                    if message["type"] == "complete":
                        break
                    seen.append(message["payload"]["data"]["run"])
        return seen

    histories = await asyncio.gather(*(watch() for _ in range(5)))
    last = histories[0][-1]["seq"]
    for seen in histories:
        assert [one["seq"] for one in seen] == [*range(1, last + 1), last]
        steps = [s for one in seen if one["__typename"] == "PointsAdded" for s in one["series"][0]["steps"]]
        assert steps == list(range(60))


async def test_a_watcher_from_now_on_is_told_only_what_comes(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waits = f"import os, time\nprint('before', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    run = await server.start(await server.pipeline({"step": waits + PRINTS}))
    async with socket_of(server) as early, socket_of(server) as late:
        await subscribe(early, run["id"], 0)
        await server.until(run["id"], "LinesAdded")
        await subscribe(late, run["id"], None)
        # Its answer shows that the server has begun the subscription that was sent before it.
        await late.send('{"id": "2", "type": "subscribe", "payload": {"query": "{ __typename }"}}')
        await late.recv()
        gate.touch()
        all_of_it, the_end = await asyncio.gather(rest(early), rest(late))
    told = [event(text) for text in all_of_it]
    assert 1 < len(the_end) < len(told)
    assert [event(text) for text in the_end] == told[-len(the_end) :]


async def test_a_run_that_has_ended_is_replayed_whole_to_its_end(server: Server) -> None:
    run = await server.play("print('over')")
    async with socket_of(server) as whole, socket_of(server) as end:
        await subscribe(whole, run["id"], 0)
        await subscribe(end, run["id"], run["seq"])
        told, last = await asyncio.gather(rest(whole), rest(end))
    assert [event(text)["seq"] for text in told] == [*range(1, run["seq"] + 1), run["seq"]]
    assert [event(text)["__typename"] for text in last] == ["FeedEnded"]


async def test_an_unknown_run_is_refused_and_leaves_nothing_behind(server: Server) -> None:
    async with socket_of(server) as socket:
        await subscribe(socket, "run_00000000000000000000000000", 0)
        (text,) = await rest(socket)
    (error,) = orjson.loads(text)["payload"]["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"
    assert endpoint(server).topics.count == 0


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query { viewer { kind } }", {}),
        ('subscription { run(id: 1, after: "0") { __typename } }', {}),
        ('subscription ($a: Int64 = "0") { run(id: 1, after: $a) { __typename } }', {}),
        ("subscription ($a: Int64) { logs(job: 1, after: $a, last: 3) { __typename } }", {}),
        ("subscription { runs { __typename } }", {}),
        (
            "subscription ($a: Int64) { a: run(id: 1, after: $a) { __typename } b: run(id: 2) { __typename } }",
            {},
        ),
        ("subscription ($a: Int64) { run(id: 1, after: $a) @skip(if: true) { __typename } }", {}),
        ("subscription ($a: Int64) { run(id: 1, after: $a) { __typename } }", {"a": "1"}),
        ("subscription ($a: Int64) { run(id: 1, after: $a) { __typename } }", {"a": -1}),
        ("subscription ($a: Int64) { run(id: 1, after: $a) { __typename } } query { __typename }", {}),
        ("subscription {", {}),
    ],
)
async def test_what_is_unusual_is_executed_by_itself(query: str, variables: dict[str, Any]) -> None:
    assert shareable(query, variables, None, FIELDS) is None


@pytest.mark.parametrize(
    ("query", "variables", "after"),
    [
        ("subscription { run(id: 1) { __typename } }", {}, None),
        ("subscription { run(id: 1, after: 7) { __typename } }", {}, 7),
        ("subscription ($a: Int64 = 7) { run(id: 1, after: $a) { __typename } }", {}, 7),
        ("subscription ($a: Int64 = 7) { run(id: 1, after: $a) { __typename } }", {"a": None}, None),
        ("subscription ($a: Int64 = 7) { run(id: 1, after: $a) { __typename } }", {"a": 8}, 8),
    ],
)
async def test_where_a_shared_one_begins_is_what_its_document_says(
    query: str, variables: dict[str, Any], after: int | None
) -> None:
    wanted = shareable(query, variables, None, FIELDS)
    assert wanted is not None
    assert wanted.after == after
