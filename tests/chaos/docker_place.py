"""A Docker engine as a place of chaos: who listens to its events counts every start of every worker."""

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

from backends import containers
from tests.backends import dockerground, enginehouse
from tests.chaos.places import Place, forever


class Docker(Place):
    """The engine of DOCKER_HOST; containers of an owner of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.owner = f"chaos-{secrets.token_hex(4)}"
        options = {"owner": self.owner, "scope": "cluster", "build_network": "host", "usage_seconds": 0}
        super().__init__(folder, "docker", options)
        self._starts: Counter[str] = Counter()
        self.starved: set[str] = set()
        """The runs of which the engine has said that the kernel ended their container for its memory."""
        self._stack = contextlib.AsyncExitStack()

    def arguments(self) -> dict[str, Any]:
        return {}

    async def open(self) -> None:
        self.engine = await self._stack.enter_async_context(enginehouse.running())
        self._listening = asyncio.create_task(forever(self._listen))

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait([self._listening])
        for container in await self.containers():
            await self.engine.json("DELETE", f"containers/{container['Id']}", {"force": True, "v": True})
        await self._stack.aclose()

    async def containers(self) -> list[dict[str, Any]]:
        """Every container of ours."""
        ours = {"all": True, "filters": {"label": [f"{containers.OWNER}={self.owner}"]}}
        found: list[dict[str, Any]] = await self.engine.json("GET", "containers/json", ours)
        return found

    async def workers(self) -> list[dict[str, Any]]:
        """Those of them that are workers."""
        return [each for each in await self.containers() if containers.RANK in each["Labels"]]

    def launches(self) -> Counter[str]:
        return self._starts

    async def left(self) -> list[str]:
        return await dockerground.left(self.engine, self.owner)

    async def _listen(self) -> None:
        """Take note of starts, and of ends for memory, for as long as the engine tells them."""
        wanted = {
            "type": ["container"],
            "event": ["start", "oom"],
            "label": [f"{containers.OWNER}={self.owner}", containers.RANK],
        }
        async with self.engine.stream("GET", "events", {"filters": wanted}) as response:
            async for line in response.content:
                event = json.loads(line)
                labels = event["Actor"]["Attributes"]
                if event["Action"] == "oom":
                    self.starved.add(labels[f"{containers.LABEL}.run"])
                else:
                    self._starts[f"{labels[containers.ATTEMPT]}.{labels[containers.RANK]}"] += 1
