"""Grounds for the suite that asks every kind of backend the same."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from backends.base import Backend
from db.bus import Bus
from db.database import Database
from tests.backends.grounds import Ground
from tests.backends.kinds import RUNNING

D = TypeVar("D", bound=Database)


@asynccontextmanager
async def hinting(kind: type[D], url: str) -> AsyncIterator[D]:
    """A database of this kind, whose hints arrive."""
    bus = Bus("memory://")
    await bus.open()
    opened = kind(url, bus=bus)
    yield opened
    await opened.close()
    await bus.close()


@pytest.fixture(params=["fake", *RUNNING])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    """A place where jobs of a kind run."""
    kind = importlib.import_module(f"tests.backends.{request.param}ground")
    async with kind.stand(tmp_path) as ground:
        yield ground


@pytest.fixture
async def adapter(ground: Ground) -> Backend:
    """The backend there, open."""
    return await ground.open()
