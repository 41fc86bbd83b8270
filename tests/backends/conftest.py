"""Grounds for the suite that asks every kind of backend the same."""

import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.base import Backend
from tests.backends.grounds import Ground
from tests.backends.kinds import RUNNING


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
