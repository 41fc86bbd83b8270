"""Starting runs: how soon user code runs, fifty at once, a restart with a hundred jobs, a cold start."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row, median
from tests.bench.server import STAMP, Server, serving

RUNS = 30


async def rows() -> list[Row]:
    """Everything about launching."""
    found = await _cold()
    async with serving() as server:
        found += await _one_by_one(server)
        found += await _at_once(server)
    async with serving() as server:
        found += await _restart(server)
    return found


async def _cold() -> list[Row]:
    limit = median([_import_seconds() for _ in range(3)])
    starts: list[float] = []
    for _ in range(3):
        async with serving(prepared=False) as server:
            server.kill(signal.SIGTERM)
            starts.append(await server.start())
            for _ in range(50):
                await server.ask("{ runs(first: 20) { nodes { id state jobs { state } } } }")
            memory = server.resident_bytes() / 2**20
    return [
        Row(
            "cold start to the first answer", median(starts), "s", 1.0, limit, "import strawberry, sqlalchemy"
        ),
        Row("resident memory after 50 queries", memory, "MB", 120, None, ""),
    ]


def _import_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import strawberry, sqlalchemy"], check=True)
    return time.perf_counter() - began


async def _one_by_one(server: Server) -> list[Row]:
    spawn = median([_spawn_seconds() for _ in range(RUNS)])
    answers: list[float] = []
    until_code: list[float] = []
    for _ in range(RUNS):
        began, clock = time.perf_counter(), time.time_ns()
        run = await server.start_run("stamp")
        answers.append(time.perf_counter() - began)
        await server.ended(run)
        until_code.append((await _stamp(server, run) - clock) / 1e9)
    answers, until_code = answers[5:], until_code[5:]
    return [
        Row("startRun, the mutation's answer, p50", median(answers) * 1e3, "ms", 5, None, ""),
        Row(
            "startRun to user code running, p50",
            median(until_code) * 1e3,
            "ms",
            30,
            spawn * 1e3,
            "spawning the same process",
        ),
    ]


async def _stamp(server: Server, run: str) -> int:
    query = "query($r: ID!) { run(id: $r) { jobs { logs(first: 1) { nodes { text } } } } }"
    found = await server.ask(query, r=run)
    return int(found["run"]["jobs"][0]["logs"]["nodes"][0]["text"])


def _spawn_seconds() -> float:
    """From the call to the first line of the same user code."""
    with tempfile.TemporaryDirectory() as folder:
        (script := Path(folder) / "stamp.py").write_text(STAMP)
        clock = time.time_ns()
        told = subprocess.run(
            [_interpreter(), "-S", "-E", script],
            env={"RUNGRAPH_OUTPUT": folder},
            stdout=subprocess.PIPE,
            check=True,
        )
        return (int(told.stdout) - clock) / 1e9


def _interpreter() -> str:
    return os.path.realpath(sys.executable)


async def _at_once(server: Server) -> list[Row]:
    limit = median([await _spawn_all(50) for _ in range(3)])
    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        runs = await asyncio.gather(*(server.start_run("stamp") for _ in range(50)))
        await _all_ended(server, runs)
        times.append(time.perf_counter() - began)
    return [
        Row(
            "50 runs started at once, all finished",
            median(times),
            "s",
            1.5,
            limit,
            "spawning the same processes",
        )
    ]


async def _all_ended(server: Server, runs: list[str]) -> None:
    query = "query($f: RunFilter) { runs(first: 100, filter: $f) { nodes { id } } }"
    states = ["QUEUED", "RUNNING", "CANCELLING"]
    while (await server.ask(query, f={"states": states}))["runs"]["nodes"]:
        await asyncio.sleep(0.02)
    for run in runs[:3]:
        await server.ended(run)


async def _spawn_all(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        (script := Path(folder) / "stamp.py").write_text(STAMP)
        began = time.perf_counter()
        started = [
            subprocess.Popen(
                [_interpreter(), "-S", "-E", script],
                env={"RUNGRAPH_OUTPUT": folder},
                stdout=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]
        for process in started:
            process.wait()
        return time.perf_counter() - began


async def _restart(server: Server) -> list[Row]:
    runs = await asyncio.gather(*(server.start_run("wait") for _ in range(100)))
    await _jobs_in(server, "RUNNING", 100)
    server.kill()
    seconds = await server.start()
    running = await _jobs_in(server, "RUNNING", 100)
    cancel = "mutation($r: ID!) { cancelRun(input: {id: $r, graceSeconds: 0}) { errors { message } } }"
    await asyncio.gather(*(server.ask(cancel, r=run) for run in runs))
    await _all_cancelled(server)
    return [
        Row(
            "killed with 100 jobs running, restarted: jobs adopted", running, "jobs", 100, None, "", more=True
        ),
        Row("the same: until the first answer", seconds, "s", None, None, ""),
    ]


async def _jobs_in(server: Server, state: str, count: int) -> int:
    query = "{ runs(first: 100) { nodes { jobs { state attempts { number } } } } }"
    for _ in range(600):
        nodes = (await server.ask(query))["runs"]["nodes"]
        found = [
            job for run in nodes for job in run["jobs"] if job["state"] == state and len(job["attempts"]) == 1
        ]
        if len(found) >= count:
            return len(found)
        await asyncio.sleep(0.1)
    return len(found)


async def _all_cancelled(server: Server) -> None:
    query = "{ runs(first: 1, filter: {states: [RUNNING, CANCELLING, QUEUED]}) { nodes { id } } }"
    while (await server.ask(query))["runs"]["nodes"]:
        await asyncio.sleep(0.05)
