"""A Docker engine over aiodocker: one connection pool, and what goes wrong in our words.

Whatever says that the engine is not there, or not in its right mind just now, is BackendUnavailable; a refusal
is aiodocker's DockerError, with its status, for whoever asked to judge. aiodocker's own methods know neither a
build's network nor an archive that streams, so requests are made here by path. Where the engine is, if nobody
says, aiodocker finds out as the docker command does: DOCKER_HOST, a context, the usual sockets.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError

from backends.base import BackendUnavailable

Parameters = Mapping[str, Any]
"""Of a request: truths, numbers and words; anything else goes as JSON."""
PATIENCE = aiohttp.ClientTimeout(total=120.0, sock_connect=10.0)
"""For what is answered at once: a busy disk may take its time."""
ENDLESS = aiohttp.ClientTimeout(sock_connect=10.0)
_RETRY_SECONDS = 1.0
_UNREACHABLE = 900
"""What aiodocker has for a status when nobody answers."""


class Engine:
    """One engine, by its address; None finds it."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._docker: aiodocker.Docker | None = None

    async def open(self) -> None:
        """Connect, or raise BackendUnavailable."""
        if self._docker is None:
            try:
                self._docker = aiodocker.Docker(self._url, timeout=PATIENCE)
            except (AssertionError, ValueError, OSError) as error:
                raise BackendUnavailable(
                    f"no Docker engine at {self._url or 'DOCKER_HOST'}: {error}"
                ) from error
            # A job has a stream of its own for its log, and there is no bound for jobs here.
            self._docker.connector._limit = 0
        await self.json("GET", "_ping")

    async def knock(self) -> None:
        """Raise BackendUnavailable where nobody new is let in: it is away, or going down."""
        stranger = Engine(self._url)
        try:
            await stranger.open()
        finally:
            await stranger.close()

    async def close(self) -> None:
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()

    async def json(
        self,
        method: str,
        path: str,
        params: Parameters | None = None,
        *,
        given: Any = None,
        timeout: aiohttp.ClientTimeout = PATIENCE,
    ) -> Any:
        """What the engine answers, or None where it says nothing. Raises DockerError and BackendUnavailable."""
        data = None if given is None else json.dumps(given)
        async with self.stream(method, path, params, data=data, timeout=timeout) as response:
            with reachable():
                body = await response.read()
        kind = response.headers.get("Content-Type", "")
        try:
            return json.loads(body) if body and kind.startswith("application/json") else None
        except ValueError as error:
            words = f"what answers is not the Docker engine, or broke off: {error}"
            raise BackendUnavailable(words, retry_in_seconds=_RETRY_SECONDS) from error

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Parameters | None = None,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = ENDLESS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, to be read within; whoever reads translates what breaks by `reachable`."""
        if self._docker is None:
            raise BackendUnavailable("the Docker engine is not connected")
        told = {name: _parameter(value) for name, value in (params or {}).items() if value is not None}
        with reachable():
            response = await self._docker._do_query(
                path, method, params=told, data=data, headers=headers, timeout=timeout
            )
        try:
            yield response
        finally:
            response.close()


@contextlib.contextmanager
def reachable() -> Any:
    """What breaks below is an engine that cannot be reached."""
    try:
        yield
    except DockerError as error:
        if error.status in (_UNREACHABLE, 502, 503, 504):
            raise BackendUnavailable(f"Docker: {error.message}", retry_in_seconds=_RETRY_SECONDS) from error
        raise
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        words = f"the Docker engine does not answer: {error or type(error).__name__}"
        raise BackendUnavailable(words, retry_in_seconds=_RETRY_SECONDS) from error


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str | int) else json.dumps(value)  # type: ignore[return-value]
