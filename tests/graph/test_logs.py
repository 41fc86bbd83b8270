"""What jobs print, paged both ways."""

import contextlib
from typing import Any

import pytest

from rungraph.errors import ApiError
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { job(id: $id) {
  logs(first: $first, after: $after, last: $last, before: $before) { edges { cursor node { text stream time } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


async def test_lines_are_paged_forward_and_backward(server: Server) -> None:
    code = "import sys\nfor n in range(25): print(n, flush=True)\nprint('é', file=sys.stderr)"
    (job,) = (await server.play(code))["jobs"]
    forward: list[str] = []
    backward: list[str] = []
    at: str | None = None
    while at is not None or not forward:
        page = (await server.ask(PAGE, id=job["id"], first=10, after=at))["logs"]
        forward += [edge["node"]["text"] for edge in page["edges"]]
        at = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    while at is not None or not backward:
        page = (await server.ask(PAGE, id=job["id"], last=10, before=at))["logs"]
        backward = [edge["node"]["text"] for edge in page["edges"]] + backward
        at = page["pageInfo"]["startCursor"] if page["pageInfo"]["hasPreviousPage"] else None
    assert forward == backward
    assert sorted(forward, key=lambda text: (len(text), text)) == sorted(
        [*map(str, range(25)), "é"], key=lambda text: (len(text), text)
    )


async def test_a_line_says_where_it_came_from(server: Server) -> None:
    (job,) = (
        await server.play("import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)")
    )["jobs"]
    told = {(line["text"], line["stream"], line["rank"], line["attempt"]) for line in job["logs"]["nodes"]}
    assert told == {("out", "STDOUT", 0, 1), ("err", "STDERR", 0, 1)}


async def test_following_tells_of_each_line_what_a_page_does(server: Server) -> None:
    fields = "time stream text number rank attempt seq"
    run = await server.play(
        "import sys\nfor n in range(700): print(n, file=(sys.stdout, sys.stderr)[n % 7 == 0])"
    )
    job = run["jobs"][0]["id"]
    watch = f"""subscription ($job: ID!, $after: Int64) {{ logs(job: $job, after: $after) {{
      ... on LinesAdded {{ lines {{ {fields} }} }} }} }}"""
    async with contextlib.aclosing(server.client.subscribe(watch, {"job": job, "after": 0})) as events:
        followed = [line async for event in events for line in event["logs"].get("lines", ())]
    page = "query ($id: ID!, $after: String) { job(id: $id) { logs(first: 500, after: $after) {"
    paged: list[Any] = []
    at: str | None = None
    while at is not None or not paged:
        found = await server.ask(
            f"{page} nodes {{ {fields} }} pageInfo {{ hasNextPage endCursor }} }} }} }}", id=job, after=at
        )
        paged += found["logs"]["nodes"]
        at = found["logs"]["pageInfo"]["endCursor"] if found["logs"]["pageInfo"]["hasNextPage"] else None
    assert len(followed) == 700 and followed == paged


ODD = r"""
import os, time
os.write(1, b"\n".join([b"back\\slash \"quoted\"\t\xff\xc3\xa9", b"", b"\\", b"\x00", b"\xef\xbf\xbe"] * 30) + b"\n")
time.sleep(0.1)
os.write(2, b"many\n" * 350 + b"ERROR: many\n" * 350)
time.sleep(0.1)
os.write(1, b"no character: \xef\xbf\xbf\n" * 30)
"""


@pytest.mark.parametrize(
    "names", ["text", "number", "rank", "text number again: text kind: __typename time", "level text"]
)
async def test_lines_that_were_read_at_once_are_told_as_they_are_kept(server: Server, names: str) -> None:
    (job,) = (await server.play(ODD))["jobs"]
    watch = f"""subscription ($job: ID!) {{ logs(job: $job, after: 0) {{
      ... on LinesAdded {{ lines {{ {names} }} }} }} }}"""
    async with contextlib.aclosing(server.client.subscribe(watch, {"job": job["id"]})) as events:
        followed = [line async for event in events for line in event["logs"].get("lines", ())]
    page = await server.ask(
        f"query ($id: ID!) {{ job(id: $id) {{ logs(last: 500) {{ nodes {{ {names} }} }} }} }}", id=job["id"]
    )
    assert len(followed) == 880
    assert followed[-500:] == page["logs"]["nodes"]


async def test_a_job_that_prints_nothing_has_an_empty_page(server: Server) -> None:
    (job,) = (await server.play("pass"))["jobs"]
    page = (await server.ask(PAGE, id=job["id"], first=1))["logs"]
    information = {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}
    assert page == {"edges": [], "pageInfo": information}


TAIL = """subscription ($job: ID!, $last: Int, $after: Int64) { logs(job: $job, last: $last, after: $after) {
  __typename ... on FeedEvent { seq } ... on LinesAdded { lines { number text stream kind: __typename } }
  ... on LinesDropped { step gap { fromLine toLine sizeBytes attempt rank } } } }"""
GAPS = """query ($id: ID!) { job(id: $id) { logGaps { fromLine toLine sizeBytes attempt rank }
  first: logs(first: 1) { nodes { number text } } last: logs(last: 1) { nodes { number text } } } }"""


async def _follow(server: Server, **variables: Any) -> list[dict[str, Any]]:
    """Everything that a subscription to a job's lines tells until it ends."""
    async with contextlib.aclosing(server.client.subscribe(TAIL, variables)) as answers:
        return [answer["logs"] async for answer in answers]


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [line["number"] for event in events for line in event.get("lines", [])]


async def test_following_begins_at_the_last_lines(server: Server) -> None:
    (job,) = (await server.play("for n in range(1, 1201): print(n)"))["jobs"]
    for last in (1, 3, 700, 1000):
        events = await _follow(server, job=job["id"], last=last)
        assert _numbers(events) == list(range(1201 - last, 1201))
    line = events[-2]["lines"][-1]
    assert line == {"number": 1200, "text": "1200", "stream": "STDOUT", "kind": "LogLine"}
    assert events[-1]["__typename"] == "FeedEnded"


async def test_a_job_that_has_not_printed_is_followed_from_now_on(server: Server) -> None:
    (job,) = (await server.play("pass"))["jobs"]
    assert [event["__typename"] for event in await _follow(server, job=job["id"], last=5)] == ["FeedEnded"]


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": 1001}, {"last": 5, "after": 0}])
async def test_a_tail_that_cannot_be_meant_is_refused(server: Server, wrong: dict[str, int]) -> None:
    (job,) = (await server.play("print()"))["jobs"]
    with pytest.raises(ApiError, match="last"):
        await _follow(server, job=job["id"], **wrong)


async def test_of_much_the_head_and_the_tail_are_kept_and_the_gap_is_told(serve: Serve) -> None:
    code = 'for n in range(60_000): print(f"line {n:06}")\nprint(\'{"metric": {"loss": 1.5}}\')'
    async with serve(log_head_bytes=50_000, log_tail_bytes=100_000) as server:
        (job,) = (await server.play(code))["jobs"]
        asked = await server.ask(GAPS, id=job["id"])
        (gap,) = asked["logGaps"]
        events = await _follow(server, job=job["id"], after=0)
    assert (asked["first"]["nodes"], asked["last"]["nodes"]) == (
        [{"number": 1, "text": "line 000000"}],
        [{"number": 60_000, "text": "line 059999"}],
    )
    missing = gap["toLine"] - gap["fromLine"] + 1
    assert gap["sizeBytes"] == missing * 12
    assert 0 < 60_000 * 12 - gap["sizeBytes"] - 150_000 < 2 * 500 * 12
    told = [event for event in events if event["__typename"] == "LinesDropped"]
    assert [event["gap"] for event in told] == [gap]
    head, tail = range(1, gap["fromLine"]), range(gap["toLine"] + 1, 60_001)
    assert _numbers(events) == [*head, *tail]
