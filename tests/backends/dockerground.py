"""A real Docker engine as a ground, and proof that nothing of it is left there."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from backends.docker import Docker
from backends.docker_options import DockerOptions
from backends.engines import Engine
from tests.backends import enginehouse
from tests.backends.grounds import Ground


@contextlib.asynccontextmanager
async def stand(folder: Path, **options: Any) -> AsyncIterator[Ground]:
    """Jobs of an owner of this test's alone; every adapter opened here has a home and sees what the others launched."""
    async with enginehouse.running() as engine:
        source = folder / "source"
        source.mkdir()
        owner = f"test-{secrets.token_hex(6)}"
        told = DockerOptions(**{"owner": owner, "build_network": "host", "usage_seconds": 0.0, **options})
        ground = Ground(lambda: Docker(folder / "home", told), source)
        try:
            yield ground
        finally:
            for adapter in ground.opened:
                await adapter.close()
            sweeper = Docker(folder / "sweeper", told)
            await sweeper.open()
            for handle in await sweeper.held():
                await sweeper.remove(handle)
            await sweeper.close()
            assert not await left(engine, owner)


async def left(engine: Engine, owner: str) -> list[str]:
    """What is still on the engine of an owner: containers, volumes and networks."""
    ours = {"filters": {"label": [f"io.rungraph.owner={owner}"]}}
    containers = await engine.json("GET", "containers/json", {"all": True, **ours})
    volumes = (await engine.json("GET", "volumes", ours))["Volumes"] or []
    networks = await engine.json("GET", "networks", ours)
    return [str(each) for each in (*containers, *volumes, *networks)]
