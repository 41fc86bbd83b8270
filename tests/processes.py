"""A server in a process of its own, to be stopped, killed and started again, and what it must not leave behind.

It is the real one, forked off its imports (forged.py), with a home, a database and a port that stay the same from
one life to the next, so that whoever watches it finds it again. Its log goes to a file that a failing test shows.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from rungraph.api import Client
from rungraph.backoff import Backoff
from tests import forged
from tests.backends import localground

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
"""How long anything may take on a busy machine."""
PATIENT = Backoff(0.02, 0.2, SECONDS)


class Server:
    """One server, through all its lives."""

    def __init__(self, home: Path, database_url: str, **environment: str) -> None:
        self.home = home
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.with_name(f"{home.name}.log")
        self.lives = 0
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "RUNGRAPH_HOME": str(home),
            "RUNGRAPH_DATABASE_URL": database_url,
            **environment,
        }
        self._process: BaseProcess | None = None

    @property
    def jobs(self) -> Path:
        """Where its attempts have their folders."""
        return self.home / "local" / "jobs"

    def start(self) -> None:
        """Begin a life; does not wait for it to serve."""
        assert self._process is None
        arguments = self._arguments()
        self._process = forged.process(forged.server, arguments, environment=self._environment, log=self.log)
        self.lives += 1

    def _arguments(self) -> list[str]:
        return ["--port", str(self.port)]

    async def ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(SECONDS), httpx.AsyncClient(trust_env=False) as http:
            while not (self._listens() and await self._answers(http)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _listens(self) -> bool:
        """Whether somebody takes connections; a request in vain costs a hundred times as much."""
        assert self._process is not None
        code = self._process.exitcode
        assert code is None, f"the server ended with {code}:\n{self.told()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def _answers(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(f"{self.url}/health")).status_code == 200
        except httpx.TransportError:
            return False

    async def fails(self) -> int:
        """Begin a life that ends before it serves; its exit code."""
        self.start()
        assert self._process is not None
        await asyncio.to_thread(self._process.join, SECONDS)
        code, self._process = self._process.exitcode, None
        assert code is not None, f"the server does not end:\n{self.told()}"
        return code

    async def again(self) -> None:
        """Begin another life and wait until it serves."""
        self.start()
        await self.ready()

    def kill(self) -> None:
        """End it, and it alone, as a power cut would: it learns nothing of it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Have it stand still, as a paused machine would: it learns nothing of it."""
        assert self._process is not None
        self._send(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on as if no time had passed."""
        if self._process is not None:
            self._send(self._process, signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        self._send(process, number)
        process.join(SECONDS)
        assert process.exitcode is not None, f"the server does not end:\n{self.told()}"
        return process.exitcode

    @staticmethod
    def _send(process: BaseProcess, number: signal.Signals) -> None:
        assert process.pid is not None
        if process.exitcode is None:
            os.kill(process.pid, number)

    def told(self) -> str:
        """The last of what it logged."""
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def client(self) -> Client:
        """A client of it, as its administrator; as patient as a restart takes."""
        token = (self.home / "token").read_text().strip()
        return Client(self.url, token, for_requests=PATIENT, for_feeds=PATIENT)

    def left(self) -> list[str]:
        """What lives or lies there on behalf of its jobs, in words; it itself must have ended."""
        processes = [f"process {pid}" for pid in localground.left(self.home)]
        folders = [f"folder {path}" for path in _entries(self.jobs)]
        return processes + folders


class Alone(Server):
    """A supervisor without the API: `rungraph supervise`."""

    def _arguments(self) -> list[str]:
        return ["--alone"]

    def stop(self) -> int:
        """Ask it to end, also one that stands still."""
        if self._process is not None:
            self.thaw()
        return super().stop()

    async def ready(self) -> None:
        """Wait until it supervises."""
        await until(lambda: self._supervises(), f"{self.home} supervises", every_seconds=0.02)

    def _supervises(self) -> bool:
        assert self._process is not None
        code = self._process.exitcode
        assert code is None, f"the supervisor ended with {code}:\n{self.told()}"
        return self.told().count("event=supervising") >= self.lives


@asynccontextmanager
async def serving(home: Path, database_url: str, **environment: str) -> AsyncIterator[Server]:
    """A server that serves; at the end it is stopped, and whatever of its jobs still runs is ended."""
    server = Server(home, database_url, **environment)
    try:
        await server.again()
        yield server
    except BaseException:
        sys.stderr.write(server.told())
        raise
    finally:
        server.stop()
        for folder in _entries(server.jobs):
            localground.end(folder)
        await until(lambda: not localground.left(home), f"nothing of {home} runs")


async def until(condition: Callable[[], object], what: str, every_seconds: float = 0.005) -> None:
    """Wait until a condition holds, looked at so often or as often as it can be."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(every_seconds)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
