"""A thousand queued runs drained: how long that takes, and what an API client feels of it.

On the fake backend, which runs nothing, it is the server's own work alone; on this machine the jobs are processes
beside it. The same page of twenty runs is asked fifty times a second, first while the queue is full and nothing
happens, then while it is drained. A limit of no jobs holds the queue until all runs are in it: else some are drained
while others are started, by a server that answers starts sooner fewer of them.

A thousand processes take cores from the server, whoever starts them. So for this machine there is a second limit: as
many of the same processes, in the same time and as nice, are started by one that does nothing else (spawning.py), while
the server has nothing to do but answer the page. The goal is twice the larger of the two.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter
from statistics import median

import orjson

from tests.bench.rows import Row, p
from tests.bench.server import Server, Wire, serving

RUNS = 1_000
ROUNDS = {"fake": 3, "local": 1}
"""How often they are drained: in the few seconds that jobs without processes take, two or three pages make a p99."""
IDLE_SECONDS = 10.0
"""In all rounds together."""
PAUSE_SECONDS = 0.02
JOB_NICE = 10
"""As RUNGRAPH_JOB_NICE has it by default."""
CONFIG = """\
backends:
  - {name: local, kind: local, slots: 16}
  - {name: fake, kind: fake, slots: 64}
"""
PAGE = "{ runs(first: 20) { nodes { id name state createdAt jobs { id step state attempts { number } } } } }"
START = """mutation($p: ID!, $b: String!) {
  startRun(input: {pipeline: $p, backend: $b}) { run { id } errors { message } } }"""
HOLD = "mutation { setLimit(input: {allProjects: true, jobs: 0}) { limit { id } errors { message } } }"
RELEASE = "mutation($l: ID!) { removeLimit(input: {id: $l}) { errors { message } } }"
LEFT = """{ runs(first: 1, filter: {states: [QUEUED, RUNNING, CANCELLING]}) { nodes { id } } }"""


async def rows() -> list[Row]:
    """The drain of each, and the page meanwhile."""
    found: list[Row] = []
    for backend in ("fake", "local"):
        async with serving(config=CONFIG) as server:
            found += await _drained(server, backend)
    return found


async def _drained(server: Server, backend: str) -> list[Row]:
    await server.ended(await _start(server, backend))  # what is prepared is prepared
    idle, busy, took, used, rounds = list[float](), list[float](), list[float](), 0.0, ROUNDS[backend]
    for _ in range(rounds):
        held = (await server.ask(HOLD))["setLimit"]["limit"]["id"]
        for _ in range(RUNS // 20):
            await asyncio.gather(*(_start(server, backend) for _ in range(20)))
        async with _asking(server, idle):
            await asyncio.sleep(IDLE_SECONDS / rounds)
        began, before = time.perf_counter(), server.cpu_seconds()
        async with _asking(server, busy):
            await _drain(server, held)
            took.append(time.perf_counter() - began)
        used += server.cpu_seconds() - before
    seconds = median(took)
    limits = {"idle server": idle}
    if backend == "local":
        limits["the same processes, bare"] = await _beside_bare(server, seconds)
    return [
        Row(f"{RUNS:,} queued runs drained, {backend}", seconds, "s", None, None, ""),
        Row(f"the same: the server's CPU a run, {backend}", used / RUNS / rounds * 1e3, "ms", None, None, ""),
        *(_page(percent, backend, busy, limits) for percent in (50, 99)),
    ]


async def _drain(server: Server, held: str) -> None:
    """Let them go, and wait until none is left."""
    wire = await server.wire()
    await wire.raw(RELEASE, l=held)
    while not await _is_drained(wire):
        await asyncio.sleep(0.2)
    wire.close()


def _page(percent: int, backend: str, busy: list[float], limits: dict[str, list[float]]) -> Row:
    limited_by, limit = max(((name, p(found, percent)) for name, found in limits.items()), key=itemgetter(1))
    goal = 2 * limit * 1e3 if percent == 99 else None
    work = f"a page meanwhile, p{percent}, {backend}"
    return Row(work, p(busy, percent) * 1e3, "ms", goal, limit * 1e3, limited_by)


async def _beside_bare(server: Server, seconds: float) -> list[float]:
    """The page while somebody else starts the processes that the runs were."""
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        given = (str(RUNS), str(seconds), str(JOB_NICE), folder)
        command = (sys.executable, "-m", "tests.bench.spawning", *given)
        async with _asking(server, found):
            spawning = await asyncio.create_subprocess_exec(*command, start_new_session=True)
            assert await spawning.wait() == 0
    return found


async def _start(server: Server, backend: str) -> str:
    started = await server.ask(START, p=server.pipelines["stamp"], b=backend)
    found: str = started["startRun"]["run"]["id"]
    return found


async def _is_drained(wire: Wire) -> bool:
    """Whether nothing is left; a machine at its limit may refuse to say."""
    answer = orjson.loads(await wire.raw(LEFT))
    return not answer.get("errors") and not answer["data"]["runs"]["nodes"]


@asynccontextmanager
async def _asking(server: Server, seconds: list[float]) -> AsyncIterator[None]:
    """Ask for the page so often, each time as it is due, and note how long each answer took."""
    wire = await server.wire()

    async def ask() -> None:
        due = time.perf_counter()
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            await wire.raw(PAGE)
            seconds.append(time.perf_counter() - began)
            due = max(due + PAUSE_SECONDS, began)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        wire.close()
