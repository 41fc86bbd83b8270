"""A way to a cluster's API server that can be cut and mended: a relay of bytes, and a kubeconfig that leads there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml


@dataclass
class Relay:
    """What stands between."""

    host: str
    port: int
    config: str = ""
    own: int = 0
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def mend(self) -> None:
        """Let everything through."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.own)
        self.own = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End what goes through, and let nothing through any more."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.port)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            writer.transport.abort()
            back.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def relay(config: str, folder: Path) -> AsyncIterator[Relay]:
    """A relay to the cluster of this kubeconfig."""
    told = yaml.safe_load(Path(config).read_text())
    cluster = told["clusters"][0]["cluster"]
    url = urlsplit(cluster["server"])
    made = Relay(url.hostname or "", url.port or 443)
    await made.mend()
    cluster |= {"server": f"https://127.0.0.1:{made.own}", "tls-server-name": url.hostname}
    path = folder / "relayed"
    path.write_text(yaml.safe_dump(told))
    made.config = str(path)
    try:
        yield made
    finally:
        await made.cut()
