"""What answers in the place of an API server, an engine, or a server of ours: an app on a port of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette


@contextlib.asynccontextmanager
async def answering(app: Starlette, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve it until the end; the port."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server((address, 0)) as sock:
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def small_cluster(app: Starlette, folder: Path) -> AsyncIterator[str]:
    """Serve it as a cluster's API server; the path of a kubeconfig that leads there."""
    async with answering(app) as port:
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield str(path)
