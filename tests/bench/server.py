"""A real server process to measure, and a client that asks it."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import orjson
import psutil
from sqlalchemy import make_url

from db import schema

MODULE = """\
name: bench
functions:
  stamp:
    command: [python, -S, -E, stamp.py]
  wait:
    command: [python, -S, -E, wait.py]
  flood:
    command: [python, -S, -E, flood.py, paced]
  nowhere:
    command: [python, -S, -E, flood.py, paced, /dev/null]
  burst:
    command: [python, -S, -E, flood.py, burst]
  numbers:
    command: [python, -S, -E, flood.py, numbers]
"""
# The first line of user code tells when it runs; nothing is imported that the interpreter has not loaded.
STAMP = """\
import time; now = time.time_ns()
import os
with open(os.environ["RUNGRAPH_OUTPUT"] + "/stamp.txt", "w") as file: file.write(str(now))
print(now, flush=True)
"""
WAIT = """\
import time
print("waiting", flush=True)
time.sleep(600)
"""
# 100,000 lines a second for ten seconds, to the log or elsewhere; a million lines at once; 300,000 metrics at once.
FLOOD = """\
import os, sys, time
kind = sys.argv[1]
line = "2026-01-01 12:00:%02d INFO step %07d of the loop, loss %.6f and more\\n"
if kind == "numbers":
    line = '{"metric": {"loss": %.6f, "accuracy": 0.5}, "step": %d}\\n'
    texts = [line % (n * 0.37 % 1, n) for n in range(300_000)]
else:
    texts = [line % (n // 1000 % 60, n, n * 0.37 % 1) for n in range(1_000_000)]
blocks = ["".join(texts[n:n + 100]).encode() for n in range(0, len(texts), 100)]
os.write(1, b"begins\\n")
file = os.open(sys.argv[2], os.O_WRONLY) if len(sys.argv) > 2 else 1
begun = time.monotonic()
for number, block in enumerate(blocks):
    if kind == "paced":
        time.sleep(max(0.0, begun + number * 0.001 - time.monotonic()))
    os.write(file, block)
with open(os.environ["RUNGRAPH_OUTPUT"] + "/seconds.txt", "w") as file:
    file.write(str(time.monotonic() - begun))
"""
FILES = {"rungraph.yaml": MODULE, "stamp.py": STAMP, "wait.py": WAIT, "flood.py": FLOOD}


DATABASE: str | None = None
"""Where each server gets a database of its own: a PostgreSQL server's URL; SQLite in its home without one."""


class Server:
    """One server of a benchmark, with its module installed and one pipeline a function."""

    def __init__(self, home: Path, port: int, database: str = "") -> None:
        self.home = home
        self.database = database
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.pipelines: dict[str, str] = {}
        self.number = 0
        self.environment: dict[str, str] = {}
        self.client = httpx.AsyncClient(timeout=60, trust_env=False)

    async def start(self) -> float:
        """Start it; returns the seconds until its first answer."""
        environment = {**os.environ, "RUNGRAPH_HOME": str(self.home), "RUNGRAPH_SLOTS": "128"}
        environment |= self.environment
        environment["RUNGRAPH_DATABASE_URL"] = self.database
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "graph.serve", "--port", str(self.port)],
            env=environment,
            stderr=(self.home / "log").open("ab"),
        )
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            if self.process.poll() is not None:
                raise RuntimeError((self.home / "log").read_text())
            await asyncio.sleep(0.005)
        answer = await self.client.get(f"{self.url}/health")
        assert answer.status_code == 200, answer.text
        return time.perf_counter() - began

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the server process, and only it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()

    def resident_bytes(self) -> int:
        """The server's resident memory."""
        assert self.process is not None
        found: int = psutil.Process(self.process.pid).memory_info().rss
        return found

    def cpu_seconds(self) -> float:
        """What the server has used of a core."""
        assert self.process is not None
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.home / "token").read_text().strip()

    async def raw(self, query: str, **variables: Any) -> bytes:
        """The answer to an operation, unread."""
        body = orjson.dumps({"query": query, "variables": variables})
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        answer = await self.client.post(f"{self.url}/graphql", content=body, headers=headers)
        return answer.content

    async def wire(self) -> "Wire":
        """A bare connection, for what is measured: httpx takes longer to ask than the server to answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Wire(reader, writer, self.token)

    def line(self) -> "Line":
        """The least that a single client takes: where it waits for each answer, its own work slows the server's."""
        return Line(self.port, self.token)

    async def ask(self, query: str, **variables: Any) -> Any:
        """The data of an operation."""
        document = orjson.loads(await self.raw(query, **variables))
        if document.get("errors"):
            raise RuntimeError(document["errors"])
        return document["data"]

    async def prepare(self) -> None:
        """Install the benchmark's module, and make a pipeline of one step for each of its functions."""
        folder = self.home / "bench-module"
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text)
        install = "mutation($s: String!) { installModule(input: {source: $s}) { errors { message } } }"
        await self.ask(install, s=str(folder))
        while not (await self.ask("{ functions { nodes { id } } }"))["functions"]["nodes"]:
            await asyncio.sleep(0.05)
        create = """mutation($n: String!, $f: String!) {
            createPipeline(input: {name: $n, steps: [{name: "only", function: $f}]}) {
                pipeline { id } errors { message } } }"""
        for name in ("stamp", "wait", "flood", "nowhere", "burst", "numbers"):
            made = await self.ask(create, n=name, f=f"bench/{name}")
            self.pipelines[name] = made["createPipeline"]["pipeline"]["id"]

    async def start_run(self, name: str) -> str:
        """Start a run of a pipeline; returns its id."""
        started = await self.ask(START, p=self.pipelines[name])
        found: str = started["startRun"]["run"]["id"]
        return found

    async def running_job(self) -> tuple[str, str]:
        """A job that runs until the benchmark ends: its id and its run's."""
        run = await self.start_run("wait")
        query = "query($r: ID!) { run(id: $r) { jobs { id state } } }"
        while True:
            (job,) = (await self.ask(query, r=run))["run"]["jobs"]
            if job["state"] == "RUNNING":
                return job["id"], run
            await asyncio.sleep(0.01)

    async def ended(self, run: str) -> dict[str, Any]:
        """Wait for a run's end."""
        query = "query($r: ID!) { run(id: $r) { state endedAt jobs { state message } } }"
        while True:
            found: dict[str, Any] = (await self.ask(query, r=run))["run"]
            if found["endedAt"]:
                assert found["state"] == "SUCCEEDED", found
                return found
            await asyncio.sleep(0.005)


START = "mutation($p: ID!) { startRun(input: {pipeline: $p}) { run { id } errors { message } } }"


class Wire:
    """One connection over which operations are asked, one after the other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, path: str = "/graphql"
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = _head(token, path)

    async def raw(self, query: str, **variables: Any) -> bytes:
        """The answer to an operation, unread."""
        return await self.post(orjson.dumps({"query": query, "variables": variables}))

    async def post(self, body: bytes) -> bytes:
        """The answer to some JSON, unread."""
        self._writer.write(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(length)

    def close(self) -> None:
        """Let go."""
        self._writer.close()


class Line:
    """A connection that blocks, over which bodies are posted that are written already."""

    def __init__(self, port: int, token: str, path: str = "/graphql") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = _head(token, path)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, body: bytes) -> bytes:
        """The answer, with its head."""
        self._socket.sendall(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        answer = b""
        while True:
            part = self._socket.recv(1 << 16)
            assert part, "the server has closed the connection"
            answer += part
            head, end, rest = answer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if end and len(rest) >= int(length):
                return answer


def _head(token: str, path: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: "
    ).encode()


@dataclass(frozen=True, slots=True)
class Limit:
    """The limits' server."""

    url: str
    process: psutil.Process

    def line(self, path: str) -> Line:
        """A connection to one of its routes."""
        port = urlsplit(self.url).port
        assert port is not None
        return Line(port, "-", path)


@asynccontextmanager
async def limiting() -> AsyncIterator[Limit]:
    """The server of limits.py on a free port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.limits", str(port)])
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            await asyncio.sleep(0.01)
        yield Limit(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def serving(
    *, prepared: bool = True, config: str = "", environment: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """A server on a free port with a home and a database of its own, gone afterwards with all its jobs.

    `config` is the text of its RUNGRAPH_CONFIG, if it is to have one.
    """
    async with AsyncExitStack() as stack:
        database = "" if DATABASE is None else await stack.enter_async_context(fresh_database(DATABASE))
        if database:
            await asyncio.to_thread(asyncio.run, schema.upgrade(database))
        home = Path(tempfile.mkdtemp(prefix="rungraph-bench-"))
        server = Server(home, free_port(), database)
        server.environment |= environment or {}
        if config:
            (home / "config.yaml").write_text(config)
            server.environment["RUNGRAPH_CONFIG"] = str(home / "config.yaml")
        await server.start()
        try:
            if prepared:
                await server.prepare()
            yield server
        finally:
            server.kill(signal.SIGTERM)
            await server.client.aclose()
            _end_jobs(home)
            shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def fresh_database(url: str) -> AsyncIterator[str]:
    """A new database of a PostgreSQL server, dropped afterwards; its URL."""
    name = f"bench_{secrets.token_hex(4)}"
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE DATABASE {name}")
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def _end_jobs(home: Path) -> None:
    """End what jobs a benchmark left, by the home that their environment names."""
    for process in psutil.process_iter():
        try:
            output = process.environ().get("RUNGRAPH_OUTPUT", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if output.startswith(str(home)):
            process.kill()
