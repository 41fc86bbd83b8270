"""A real Docker engine to test against: whichever DOCKER_HOST names, or the usual sockets lead to."""

import contextlib
from collections.abc import AsyncIterator

from backends.base import BackendUnavailable
from backends.engines import Engine
from backends.images import Building, Images
from tests.conftest import absent

BASE = "python:3.11-slim"
BUILDING = Building(BASE, network="host")


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Engine]:
    """The engine, connected; skips where there is none, or it lacks the image that all tests stand on."""
    engine = Engine()
    try:
        await engine.open()
        if await Images(engine, BUILDING, "nobody").find(BASE) is None:
            absent("docker", f"the engine has no image {BASE}")
        yield engine
    except BackendUnavailable as error:
        absent("docker", str(error))
    finally:
        await engine.close()
