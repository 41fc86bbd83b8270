"""Where the jobs of a test of chaos run: how the backend is configured, and what knows whether they ran twice."""

import asyncio
import contextlib
import importlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from backends.base import BackendUnavailable
from backends.fake_cluster import Cluster
from tests.backends.kinds import IN_CONTAINERS

LINES = 40


@dataclass
class Place:
    """A kind of backend. `folder` is the test's own."""

    folder: Path
    kind: str = "local"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def effects(self) -> Path:
        """Where a job that sees this machine leaves a line."""
        return self.folder / "effects"

    def command(self) -> list[str]:
        """What the jobs run."""
        return ["python", "work.py"]

    def arguments(self) -> dict[str, Any]:
        """What the jobs are told beside."""
        return {"effects": str(self.effects)}

    def environment(self) -> dict[str, str]:
        """What another server of its is told."""
        return {}

    async def open(self) -> None:
        self.effects.mkdir()

    async def close(self) -> None:
        """End what the test has left."""

    def launches(self) -> Counter[str]:
        """How often each job was started, by its id; a job that was tried again counts every attempt apart."""
        return Counter(path.read_text() and path.name for path in self.effects.iterdir())

    async def left(self) -> list[str]:
        """What is left of any job, in words, beside what the servers' folders hold."""
        return []


class Local(Place):
    """This machine: every start appends a line to a file of the attempt."""

    def launches(self) -> Counter[str]:
        return Counter({path.name: len(path.read_text().splitlines()) for path in self.effects.iterdir()})


class Fake(Place):
    """A cluster that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder / "cluster")
        super().__init__(folder, "fake", {"cluster": str(self.cluster.folder)})

    def command(self) -> list[str]:
        point = '{"metric": {"count": {n}}, "step": {n}}'
        return ["fake", f"every 0.02 {LINES} print {point}", f"every 0.02 {LINES} print out {{n}}"]

    def arguments(self) -> dict[str, Any]:
        return {}

    def launches(self) -> Counter[str]:
        return Counter(self.cluster.launched())

    async def left(self) -> list[str]:
        return [f"attempt {name}" for name in self.cluster.held()]


async def forever(listen: Callable[[], Awaitable[None]]) -> None:
    """Listen again whenever what is listened to has gone away."""
    while True:
        with contextlib.suppress(BackendUnavailable, OSError, aiohttp.ClientError):
            await listen()
        await asyncio.sleep(0.1)


def place(kind: str, folder: Path) -> Place:
    """A place of this kind."""
    match kind:
        case "local":
            return Local(folder)
        case "fake":
            return Fake(folder)
    module = importlib.import_module(f"tests.chaos.{kind}_place")
    made: Place = getattr(module, kind.capitalize())(folder)
    return made


CONTAINERS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in IN_CONTAINERS]
KINDS = ["local", "fake", *CONTAINERS]
