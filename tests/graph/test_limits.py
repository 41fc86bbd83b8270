"""What an operation may cost, and what a credential is good for, however it is asked."""

import asyncio
import json
import time
from typing import Any

import pytest
from graphql import get_introspection_query
from graphql.validation.rules import overlapping_fields_can_be_merged
from websockets import ConnectionClosed

from graph import cost
from tests.graph.serving import Server
from tests.graph.test_sharing import event, rest, socket_of, subscribe

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEEP = "runs(first: 100) { nodes { jobs { run { jobs { run { jobs { run { jobs { id } } } } } } } } }"
MANY = "import os\nfor n in range(30): open(os.environ['RUNGRAPH_OUTPUT'] + f'/{n}', 'w').close()"
LINES = "import time\nfor n in range(40): print(n, flush=True); time.sleep(0.01)"
WATCH_LINES = """subscription Watch($run: ID!, $after: Int64) { run(id: $run, after: $after) {
  __typename ... on FeedEvent { seq } ... on LinesAdded { lines { text } } } }"""


async def codes(server: Server, query: str, **headers: str | None) -> list[str]:
    errors = (await server.post(query, **headers)).json().get("errors", [])
    return [error["extensions"]["code"] for error in errors]


@pytest.mark.parametrize("size", ["-100000000", "0", "9" * 5000])
async def test_no_size_of_another_page_makes_up_for_a_dear_one(server: Server, size: str) -> None:
    assert await codes(server, f"{{ {DEEP} }}") == ["LIMIT_EXCEEDED"]
    cheap = f"cheap: runs(first: {size}) @skip(if: true) {{ nodes {{ id }} }}"
    assert "LIMIT_EXCEEDED" in await codes(server, f"{{ {DEEP} {cheap} }}")


async def test_lists_that_only_the_data_knows_are_bounded_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await server.play(MANY)
    monkeypatch.setattr(cost, "COST", 20_000)  # less than 30 * 30 * 30, more than 30 * 30
    outputs = "outputs { job { outputs { job { outputs { __typename } } } } }"
    query = f'{{ job(id: "{run["jobs"][0]["id"]}") {{ {outputs} }} }}'
    async with asyncio.timeout(30):
        answer = (await server.post(query)).json()
    assert "more than 20,000 objects" in answer["errors"][0]["message"]  # counted while it was executed
    assert await server.is_well()


async def test_every_event_of_a_subscription_is_bounded_by_itself(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "COST", 38)
    run = await server.start(await server.pipeline({"step": LINES}))
    async with socket_of(server) as socket:
        await subscribe(socket, run["id"], 0, WATCH_LINES)
        told = [event(text) for text in await rest(socket)]
    lines = [line["text"] for one in told for line in one.get("lines", [])]
    assert lines == [str(n) for n in range(40)]


REPEATED = {
    "introspection": '__type(name: "Run") { name } ' * 450,
    "fields": "viewer { kind } " * 1200,
    "fragments": "... on Query { viewer { kind } } " * 500,
    "lists": "runs(first: 1) { nodes { " + "jobs { outputs { name } } " * 600 + "} }",
    "arguments": "".join(f'__type(name: "R{number}") {{ name }} ' for number in range(450)),
}


@pytest.mark.parametrize("selected", REPEATED.values(), ids=REPEATED)
async def test_what_is_selected_over_and_over_holds_nobody_up(server: Server, selected: str) -> None:
    began = time.thread_time()
    assert "LIMIT_EXCEEDED" in await codes(server, f"{{ {selected} }}")
    assert time.thread_time() - began < 0.5


async def test_what_the_explorer_asks_is_far_from_the_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlapping_fields_can_be_merged, "MAX_COMPLEXITY_BUDGET", cost.COMPARED // 10)
    asked = get_introspection_query(descriptions=True, specified_by_url=True, input_value_deprecation=True)
    assert await codes(server, asked) == []


async def test_nobody_is_read_only_as_much_as_an_introspection_takes(server: Server) -> None:
    padded = f"{{ __typename }} # {'x' * (64 << 10)}"
    assert (await server.post(padded, Authorization=None)).status_code == 413
    assert (await server.post(padded)).json() == {"data": {"__typename": "Query"}}


async def test_a_socket_is_good_no_longer_than_its_token(server: Server, tmp_path: Any) -> None:
    told = tmp_path / "token"
    code = f"import os; open({str(told)!r}, 'w').write(os.environ['RUNGRAPH_TOKEN']); print('up')"
    run = await server.start(await server.pipeline({"step": f"{code}; import time; time.sleep(1)"}))
    await server.until(run["id"], "LinesAdded")
    asked = {"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { kind } }"}}
    async with socket_of(server, told.read_text()) as socket:
        await socket.send(json.dumps(asked))
        assert json.loads(await socket.recv())["payload"] == {"data": {"viewer": {"kind": "JOB"}}}
        await server.finish(run["id"])
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send(json.dumps({**asked, "id": "2"}))
            while True:
                await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401
