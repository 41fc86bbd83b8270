"""Searching a job's log through the API, and the whole of it as text."""

import asyncio
import threading
from typing import Any

import pytest

from graph import log_search
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIND = """query ($id: ID!, $filter: LogFilter, $last: Int) { job(id: $id) { logs(filter: $filter, last: $last) {
  nodes { text level stream rank number } pageInfo { hasPreviousPage startCursor } } } }"""
CODE = """
import sys
print("INFO: begun")
print("loss 0.5", flush=True)
print("\\x1b[31mERROR\\x1b[0m: disk full", file=sys.stderr, flush=True)
print("WARNING: slow é")
"""


async def _job(server: Server, code: str = CODE) -> Any:
    return (await server.play(code))["jobs"][0]["id"]


async def _texts(server: Server, job: str, **conditions: Any) -> list[str]:
    found = (await server.ask(FIND, id=job, filter=conditions, last=100))["logs"]["nodes"]
    return sorted(line["text"] for line in found)


async def test_lines_are_found_by_each_condition(server: Server) -> None:
    job = await _job(server)
    error, info, warning = "\x1b[31mERROR\x1b[0m: disk full", "INFO: begun", "WARNING: slow é"
    assert await _texts(server, job, contains="ERROR: disk") == [error]
    assert await _texts(server, job, matches="^[A-Z]+: ", stream="STDOUT") == [info, warning]
    assert await _texts(server, job, level="WARNING") == [error, warning]
    assert await _texts(server, job, contains="LOSS", ignoreCase=True) == ["loss 0.5"]
    assert await _texts(server, job, contains="LOSS") == []
    assert await _texts(server, job, stream="STDERR", ranks=[0], attempt=1) == [error]
    assert await _texts(server, job, ranks=[1]) == await _texts(server, job, attempt=2) == []
    assert await _texts(server, job, since=0, until=1) == []
    assert len(await _texts(server, job)) == 4


async def test_a_line_says_its_level(server: Server) -> None:
    job = await _job(server)
    lines = (await server.ask(FIND, id=job, last=100))["logs"]["nodes"]
    levels = {line["text"].removeprefix("\x1b[31m")[:5]: line["level"] for line in lines}
    assert levels == {"INFO:": "INFO", "loss ": None, "ERROR": "ERROR", "WARNI": "WARNING"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"matches": "("}, "matches is no regular"),
        ({"contains": ""}, "contains has 1 to"),
        ({"ranks": [0] * 1001}, "ranks"),
    ],
)
async def test_a_condition_that_cannot_be_meant_is_refused(server: Server, wrong: Any, words: str) -> None:
    job = await _job(server, "print()")
    answer = (await server.post(FIND, {"id": job, "filter": wrong, "last": 1})).json()
    assert words in answer["errors"][0]["message"]


async def test_following_tells_levels_too(server: Server) -> None:
    job = await _job(server)
    watch = """subscription ($job: ID!) { logs(job: $job, after: 0) {
      ... on LinesAdded { lines { text level again: level } } } }"""
    told = [
        line
        async for event in server.client.subscribe(watch, {"job": job})
        for line in event["logs"].get("lines", ())
    ]
    assert {(line["level"], line["again"]) for line in told} == {
        (level, level) for level in ("INFO", None, "ERROR", "WARNING")
    }


async def _text(server: Server, job: str, **parameters: Any) -> Any:
    return await server.http.get(
        f"/jobs/{job}/log", params=parameters, headers={"Authorization": server.bearer}
    )


async def test_the_whole_log_is_text(server: Server) -> None:
    job = await _job(server, "for n in range(3000): print(f'line {n} \\x1b[1mbold\\x1b[0m')")
    answer = await _text(server, job)
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "".join(f"line {n} \x1b[1mbold\x1b[0m\n" for n in range(3000))
    assert (await _text(server, job, contains="line 17 bold")).text == "line 17 \x1b[1mbold\x1b[0m\n"
    (line,) = (await _text(server, job, matches="^line 5 ", times="true")).text.splitlines()
    assert line[10] == "T" and line.endswith("+00:00 line 5 \x1b[1mbold\x1b[0m")


async def test_a_log_that_is_too_long_says_where_lines_are_missing(serve: Any) -> None:
    async with serve(log_head_bytes=20_000, log_tail_bytes=20_000) as server:
        job = await _job(server, "for n in range(20_000): print(f'line {n:06}')")
        text = (await _text(server, job)).text.splitlines()
        (gap,) = [line for line in text if line.startswith("[lines ")]
        first, last = (int(word) for word in gap.split() if word.isdecimal())
        assert text.index(gap) == first - 1 and len(text) == 20_000 - (last - first + 1) + 1
        assert gap.endswith("are no longer kept]")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rank": "x"}, "rank is a whole number"),
        ({"attempt": "9999999999"}, "attempt is a whole number"),
        ({"since": "1" * 17}, "since is a whole number"),
        ({"level": "loud"}, "level is one of DEBUG"),
        ({"colour": "1"}, "colour is no parameter"),
        ({"times": "maybe"}, "times is true or false"),
        ({"matches": "("}, "matches is no regular"),
    ],
)
async def test_a_parameter_that_cannot_be_meant_is_refused(
    server: Server, parameters: Any, words: str
) -> None:
    job = await _job(server, "print()")
    answer = await _text(server, job, **parameters)
    assert answer.status_code == 422 and words in answer.json()["errors"][0]["message"]


async def test_a_log_is_for_who_may_see_its_job(server: Server) -> None:
    job = await _job(server, "print()")
    assert (await server.http.get(f"/jobs/{job}/log")).status_code == 401
    assert (await _text(server, "job_" + "0" * 26)).status_code == 404
    assert (await _text(server, "nonsense")).status_code in (404, 422)


async def test_searches_that_take_long_hold_up_nothing_else(server: Server) -> None:
    job = await _job(server)
    begun, over = threading.Semaphore(0), threading.Event()

    def takes_long() -> bool:
        begun.release()
        return over.wait(60)

    searches = [asyncio.create_task(log_search.aside(takes_long)) for _ in range(40)]
    try:
        for _ in range(log_search.AT_ONCE):
            await asyncio.to_thread(begun.acquire)
        file = await server.upload("beside")
        assert (await server.get(f"/files/{file}")).content == b"content"
        asked = asyncio.create_task(_texts(server, job, contains="loss"))
        await asyncio.to_thread(lambda: None)
        assert not begun.acquire(blocking=False) and not asked.done(), "no more than so many at once"
    finally:
        over.set()
    assert all(await asyncio.gather(*searches)) and await asked == ["loss 0.5"]
