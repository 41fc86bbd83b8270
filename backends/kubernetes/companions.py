"""What is asked of a pod's courier, through the API server's proxy: news, output, folders, and a job's end."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from backends import base, container_files
from backends.kubernetes.cluster import PATIENCE, Cluster, Refused, reachable
from backends.kubernetes.ends import State

WAIT_SECONDS = 50
NOT_THERE = (400, 404)
"""What the API server's proxy says of a pod without an address yet, and of one that is gone."""
_ANOTHER = 421
"""What a courier says to who asks with the key of another: the API server knew an address that is somebody else's."""
_LONG = aiohttp.ClientTimeout(total=WAIT_SECONDS + 20.0, sock_connect=10.0)
_WHOLE = "complete"
"""The last entry of a folder's archive."""
_ENDLESS = aiohttp.ClientTimeout(sock_connect=10.0, sock_read=120.0)


class Companion:
    """The courier of one pod."""

    def __init__(self, cluster: Cluster, pod: str, port: int, key: str) -> None:
        self._cluster = cluster
        self._path = cluster.path("pods", f"{pod}:{port}", sub="proxy")
        self._headers = {"X-Rungraph-Key": key}

    async def state(self, known: int, wait_seconds: int) -> State:
        """What it says of its job, as soon as that is not what is known."""
        query = [("known", str(known)), ("wait", str(wait_seconds))]
        return State(**await self._json("GET", "state", query=query, timeout=_LONG))

    async def frames(self, offset: int, limit: int) -> bytes:
        """What was printed, from an offset of the journal."""
        query = [("offset", str(offset)), ("limit", str(limit))]
        asked = self._cluster.stream("GET", f"{self._path}/frames", query=query, headers=self._headers)
        with _found():
            async with asked as response:
                with reachable():
                    return await response.read()

    async def folder(self, name: str, into: Path, depth: int) -> None:
        """Copy one of the job's folders into one of ours; what is there already stays. Raises BackendUnavailable."""
        await container_files.unpack(self._archive(name), into, depth=depth, last=_WHOLE)

    async def go(self, peers: Mapping[str, str]) -> None:
        """Let the job begin, with these variables."""
        await self._json("POST", "go", body=dict(peers))

    async def stop(self, grace_seconds: float) -> None:
        """End the job politely, then by force."""
        await self._json("POST", "stop", body={"grace_seconds": grace_seconds})

    async def use(self, lines: Sequence[str]) -> None:
        """Add to the job's output what it is seen to use."""
        await self._json("POST", "usage", body={"lines": list(lines)})

    async def stored(self, offset: int) -> None:
        """Free the journal up to here."""
        await self._json("POST", "stored", body={"offset": offset})

    async def release(self) -> None:
        """Everything is taken: it may go."""
        await self._json("POST", "release", body={"released": True})

    async def _json(
        self, method: str, what: str, timeout: aiohttp.ClientTimeout = PATIENCE, **more: Any
    ) -> Any:
        with _found():
            return await self._cluster.json(
                method, f"{self._path}/{what}", headers=self._headers, timeout=timeout, **more
            )

    async def _archive(self, name: str) -> AsyncGenerator[bytes]:
        """A folder of the job's, as it comes."""
        asked = self._cluster.stream(
            "GET", f"{self._path}/folder/{name}", headers=self._headers, timeout=_ENDLESS
        )
        with _found():
            async with asked as response:
                with reachable():
                    async for chunk in response.content.iter_chunked(1 << 20):
                        yield chunk


@contextmanager
def _found() -> Iterator[None]:
    """Where another pod answers, ours is as little there as where nobody does: it ended, or has a new address."""
    try:
        yield
    except Refused as error:
        if error.status == _ANOTHER:
            raise base.BackendUnavailable(f"another pod answers at its address: {error}") from error
        raise
