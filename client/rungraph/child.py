"""A server of our own for as long as it is wanted, or the one that listens already.

The child is a process of this one and is ended through its own handle, so nothing else on the machine can be
hit. What it prints goes to a file in RUNGRAPH_HOME.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from rungraph import settings
from rungraph.api import Client
from rungraph.backoff import Backoff
from rungraph.errors import ApiError, ClientError, Unreachable

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 5.0
LOG_NAME = "demo-server.log"

VIEWER = """query Viewer { viewer { kind } }"""

Process = asyncio.subprocess.Process


@asynccontextmanager
async def server_at(port: int) -> AsyncIterator[Process | None]:
    """A server at the port: None for one that was there, else our child, which ends with the block."""
    if await _listens(port):
        await _check_ours(port)
        yield None
        return
    log = settings.home() / LOG_NAME
    process = await _start(port, log)
    try:
        await _wait_healthy(process, port, log)
        yield process
    finally:
        await _stop(process)


def url_of(port: int) -> str:
    """The address of the server at a port of this machine."""
    return f"http://{HOST}:{port}"


def repository() -> Path:
    """The folder that the installed server's code stands in; raises ClientError without a server."""
    spec = importlib.util.find_spec("graph")
    if spec is None or spec.origin is None:
        raise ClientError("the server is not installed here: pip install rungraph-server")
    return Path(spec.origin).parent.parent


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _check_ours(port: int) -> None:
    """Raises ClientError unless what listens is a server that knows our token."""
    found = settings.find(url_of(port))
    once = Backoff(patience_seconds=0)
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            Client(found.url, found.token, for_requests=once) as client,
        ):
            await client.execute(VIEWER)
    except ApiError as error:
        if error.code in ("UNAUTHENTICATED", "FORBIDDEN"):
            raise ClientError(
                f"a server listens at port {port}, but the token here is not its own: "
                "set RUNGRAPH_HOME or RUNGRAPH_TOKEN to match it, or choose another --port"
            ) from error
        raise _taken(port) from error
    except (Unreachable, TimeoutError) as error:
        raise _taken(port) from error


def _taken(port: int) -> ClientError:
    return ClientError(f"port {port} is taken by something else: choose another with --port")


async def _start(port: int, log: Path) -> Process:
    repository()
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        command = [sys.executable, "-m", "graph.serve", "--host", HOST, "--port", str(port)]
        return await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    finally:
        os.close(sink)


async def _wait_healthy(process: Process, port: int, log: Path) -> None:
    """Returns when the child answers; raises ClientError with its last words when it ends first."""
    try:
        async with (
            asyncio.timeout(START_SECONDS),
            httpx.AsyncClient(base_url=url_of(port), trust_env=False) as http,
        ):
            while not await _is_healthy(http):
                if process.returncode is not None:
                    raise ClientError(f"the server ended at once ({log}):\n{_tail(log)}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ClientError(
            f"the server did not answer in {START_SECONDS:.0f} s ({log}):\n{_tail(log)}"
        ) from None


async def _is_healthy(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health")).is_success
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


async def _stop(process: Process) -> None:
    """Ends the child, by force when it does not end by itself."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
