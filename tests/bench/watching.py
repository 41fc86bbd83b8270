"""Watching: points written to one run, a hundred or a thousand watchers, beside bare WebSockets; and a soak.

A delay is the time from before a point is sent to the server until its bytes have come to a watcher's socket
(listeners.py), with what both clients need for themselves kept small, and equal for the bare ones. The cost is the
server's whole process, the writing included; `alone` is what that takes with one watcher.

The goals were set where bare WebSockets took 1.1 and 2.2 ms, and 12 ms for a thousand. Elsewhere it is the ratio to
them that says how far the server is from its goal, so each goal has a row of that beside it. Bare, the writer is
answered when all sockets have been written to, so that a machine without time to spare slows the writer down; the
server answers meanwhile, the writer goes on at its rate, and delays are of frames that queue.

Where a point's time goes on its way (medians of 300 points in microseconds, of a server that marks each step, with
nothing else at work):

    from the writer's clock to the resolver: sockets, HTTP, token, JSON, coercion         690
    the batch judged, and the task that commits begun                                     130
    the transaction opened                                                                185
    its statements                                                                        330
    its commit, of which the write made durable is the row above                          625
    the followers told; the topic wakes, executes the event, encodes                      215
    the frames, of which the kernel's send is 9 each and Python 4                         1,600 for 100 watchers

Nothing in there waits for a clock: a lone writer's batch is committed at once. Two thirds of it are what a processor
takes that has slept: the same call costs the server 2.2 ms when 50 come a second, 1.3 ms when 200 come, 0.84 ms when
800 come. Of bare WebSockets that is as true, so the ratio to them stands for both. What is left above them is the
commit and what comes before it.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import orjson

from tests.bench.asked import asked
from tests.bench.ingest import LOG_POINT
from tests.bench.rows import Row, p
from tests.bench.server import Line, Server, limiting, serving

RATE = 50
SECONDS, ROUNDS = 2, 3
"""A turn of the server or of the bare one, and how many each has: whatever else the machine does, both meet it."""
SETTLE_SECONDS = 0.2
Goal = tuple[float | None, float | None]
SIZES: tuple[tuple[int, Goal, Goal], ...] = ((100, (3, 1.1), (10, 2.2)), (1000, (None, None), (50, 12)))
"""Watchers; of the delay's p50 and p99 the goal in milliseconds, and what bare WebSockets took where it was set."""
_LIMITED = "the same over bare WebSockets"


class Listeners:
    """The process of listeners.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def delays(self) -> list[float]:
        """End it; what it has noted, in order."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        found: list[float] = orjson.loads(await self._process.stdout.read())
        return found


@contextlib.asynccontextmanager
async def listening(
    count: int, url: str, token: str = "", run: str = "", *, stalled: int = 0
) -> AsyncIterator[Listeners]:
    """So many watchers, subscribed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.listeners", str(count), str(stalled)),
        *(url, *filter(None, (token, run))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield Listeners(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


class Side:
    """One of the two that are compared: what it is told, and what that has cost."""

    def __init__(
        self,
        listeners: Listeners,
        connect: Callable[[], Line],
        write: Callable[[Line], None],
        used: Callable[[], float],
    ) -> None:
        self.listeners = listeners
        self.points = 0
        self.cost = 0.0
        self._connect = connect
        self._write = write
        self._used = used

    async def play(self) -> None:
        """Write at the rate for a while; the cost is that until all has come."""
        with self._connect() as line:  # a server closes one that is idle for long
            before, began = self._used(), time.perf_counter()
            for number in range(RATE * SECONDS):
                self._write(line)
                await asyncio.sleep(max(0.0, began + (number + 1) / RATE - time.perf_counter()))
        await asyncio.sleep(SETTLE_SECONDS)
        self.points += RATE * SECONDS
        self.cost += self._used() - before


async def rows() -> list[Row]:
    """Delays and cost, of the server and of bare WebSockets, in turns."""
    found: list[Row] = []
    async with serving() as server:
        job, run = await server.running_job()
        durable = await asyncio.to_thread(_durable, server.home)
        work = (
            "a write made durable on this disk, of which each point on the way to the watchers waits for one"
        )
        found += [
            Row(f"{work}: p{percent}", p(durable, percent) * 1e3, "ms", None, None, "")
            for percent in (50, 99)
        ]
        async with _watched(server, job, run, 1) as alone:
            await alone.play()
        for watchers, *goals in SIZES:
            async with _watched(server, job, run, watchers) as ours, _bare(watchers) as bare:
                for _ in range(ROUNDS):
                    await bare.play()
                    await ours.play()
                found += _delays(
                    watchers, goals, await ours.listeners.delays(), await bare.listeners.delays()
                )
            found += _costs(watchers, *(side.cost / side.points for side in (ours, bare, alone)))
    return found


def _delays(watchers: int, goals: Sequence[Goal], ours: list[float], bare: list[float]) -> list[Row]:
    label = _label(watchers)
    found: list[Row] = []
    for at, (goal, there) in zip((50, 99), goals, strict=True):
        value, limit = p(ours, at) * 1e3, p(bare, at) * 1e3
        found.append(Row(f"{label}: delay p{at}", value, "ms", goal, limit, _LIMITED))
        if goal and there:
            found.append(Row("    times that of bare WebSockets", value / limit, "", goal / there, None, ""))
    return found


def _costs(watchers: int, ours: float, bare: float, alone: float) -> list[Row]:
    """Of CPU seconds that each point has cost, with so many watchers, bare, and with one."""
    label, deliveries = _label(watchers), watchers / 1000
    each, limit, pushing = ours / deliveries, bare / deliveries, (ours - alone) / deliveries
    return [
        Row(f"{label}: CPU s per 1,000 deliveries", each, "s", limit * 1.5, limit, _LIMITED),
        Row("    of which not for writing and one watcher", pushing, "s", None, limit, _LIMITED),
        Row(f"{label}: of a core", ours * RATE, "cores", 1, None, ""),
    ]


def _label(watchers: int) -> str:
    return f"{RATE} points/s to one run, {watchers:,} watchers"


def _durable(folder: Path) -> list[float]:
    """Seconds that fdatasync takes for as much as a commit of a point writes."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(100):
            file.write(bytes(12 << 10))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
            time.sleep(1 / RATE)
    return took


@contextlib.asynccontextmanager
async def _watched(server: Server, job: str, run: str, watchers: int) -> AsyncIterator[Side]:
    def write(line: Line) -> None:
        server.number += 1
        variables = {"j": job, "p": "watched", "n": server.number, "v": time.time()}
        answer = line.post(orjson.dumps({"query": LOG_POINT, "variables": variables}))
        assert b'"errors":[]' in answer, answer

    async with listening(watchers, f"{server.url}/graphql", server.token, run) as listeners:
        await asyncio.sleep(0.5)
        yield Side(listeners, server.line, write, server.cpu_seconds)


@contextlib.asynccontextmanager
async def _bare(watchers: int) -> AsyncIterator[Side]:
    """The same messages by a server that does nothing else, at the same rate, to as many sockets."""
    async with limiting() as bare:

        def write(line: Line) -> None:
            line.post(orjson.dumps({"at": time.time(), "padding": "x" * 150}))

        async with listening(watchers, f"{bare.url}/listen") as listeners:
            yield Side(
                listeners, lambda: bare.line("/push"), write, lambda: sum(bare.process.cpu_times()[:2])
            )


def _held(pid: int) -> int:
    """Bytes that a process has to itself, without pages of files that it maps: SQLite reads so, now and then."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, kibibytes = line.partition(":")
        if name == "Anonymous":
            return int(kibibytes.removesuffix("kB")) << 10
    raise RuntimeError("this kernel does not tell what memory is a process's own")


async def soak() -> list[Row]:
    """The server's memory while it is written to and watched, also by ten that never read; a line a sample.

    A sample is taken every minute, and at the end; of less than ten minutes every tenth.
    """
    samples: list[tuple[float, float]] = []
    minutes = asked().minutes
    period = min(60.0, minutes * 6)
    async with serving() as server:
        job, run = await server.running_job()
        async with listening(100, f"{server.url}/graphql", server.token, run, stalled=10) as listeners:
            assert server.process is not None
            pid, began = server.process.pid, time.monotonic()

            def sample(now: float) -> None:
                samples.append((now, _held(pid) / 1e6))
                sys.stdout.write(f"{samples[-1][0]:6.0f} s  {samples[-1][1]:7.1f} MB\n")
                sys.stdout.flush()

            while (now := time.monotonic() - began) < minutes * 60:
                if now >= len(samples) * period:
                    sample(now)
                server.number += 1
                variables = {"j": job, "p": "watched", "n": server.number, "v": time.time()}
                await asyncio.gather(server.ask(LOG_POINT, **variables), asyncio.sleep(1 / RATE))
            sample(time.monotonic() - began)
            delays = await listeners.delays()
    half = [size for _, size in samples[len(samples) // 2 :]]
    label = f"soak of {minutes:g} minutes, 100 watchers and 10 that never read"
    return [
        Row(f"{label}: memory at the end", samples[-1][1], "MB", None, samples[1][1], f"after {period:g} s"),
        Row(f"{label}: growth in the second half", half[-1] - half[0], "MB", 5, None, ""),
        Row(f"{label}: deliveries", len(delays), "", None, None, ""),
        Row(f"{label}: delay p99", p(delays, 99) * 1e3, "ms", 10, None, ""),
    ]
