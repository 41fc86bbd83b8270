"""A namespace of a cluster as a place of chaos: who watches its pods counts how many there were of each name.

What pods must reach stays at one address, whichever server lives: here stands what a load balancer would be.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from backends.kubernetes.cluster import Cluster
from backends.kubernetes.pods import LABEL_OWNER
from tests.backends import enginehouse, kubernetesground
from tests.chaos.places import Place, forever

PATIENCE_SECONDS = 3.0


class Kubernetes(Place):
    """A namespace of the test's own in the cluster of RUNGRAPH_TEST_KUBECONFIG."""

    def __init__(self, folder: Path) -> None:
        self.owner = f"chaos-{secrets.token_hex(4)}"
        self.direct = kubernetesground.kubeconfig()
        self._ports: list[int] = []
        self._pods: defaultdict[str, set[str]] = defaultdict(set)
        options = {
            "kubeconfig": self.direct,
            "namespace": f"rungraph-{self.owner}",
            "owner": self.owner,
            "builder": os.environ.get("DOCKER_HOST"),
            "build_network": enginehouse.BUILDING.network,
            "usage_seconds": 0,
        }
        super().__init__(folder, "kubernetes", options)

    def arguments(self) -> dict[str, Any]:
        return {}

    def environment(self) -> dict[str, str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._ports.append(probe.getsockname()[1])
        return {"RUNGRAPH_JOBS_LISTEN": f"127.0.0.1:{self._ports[-1]}"}

    async def open(self) -> None:
        self.cluster = Cluster(self.direct, None, self.options["namespace"])
        await self.cluster.open()
        metadata = {"name": self.options["namespace"]}
        await self.cluster.json("POST", "/api/v1/namespaces", body={"metadata": metadata})
        address = await kubernetesground.own_address(self.cluster)
        self._balancer = await asyncio.start_server(self._balance, address, 0)
        port = self._balancer.sockets[0].getsockname()[1]
        self.options["url"] = f"http://{address}:{port}"
        self._listening = asyncio.create_task(forever(self._listen))

    async def close(self) -> None:
        self._balancer.close()
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await kubernetesground.clear(self.cluster, self.options["namespace"])
        await self.cluster.close()

    def launches(self) -> Counter[str]:
        return Counter({name: len(made) for name, made in self._pods.items()})

    async def pods(self) -> list[dict[str, Any]]:
        """Every pod of ours."""
        return await self._ours("pods")

    async def left(self) -> list[str]:
        found = [each for kind in ("pods", "secrets", "services") for each in await self._ours(kind)]
        return [str(each["metadata"]["name"]) for each in found]

    async def _ours(self, kind: str) -> list[dict[str, Any]]:
        selector = [("labelSelector", f"{LABEL_OWNER}={self.owner}")]
        found = await self.cluster.json("GET", self.cluster.path(kind), query=selector)
        listed: list[dict[str, Any]] = found["items"]
        return listed

    async def _listen(self) -> None:
        """Note every pod for as long as the cluster tells them."""
        query = [("watch", "1"), ("labelSelector", f"{LABEL_OWNER}={self.owner}")]
        async with self.cluster.stream("GET", self.cluster.path("pods"), query=query) as response:
            async for line in response.content:
                about = json.loads(line)["object"]["metadata"]
                self._pods[about["name"]].add(about["uid"])

    async def _balance(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect whoever comes with a server that is there."""
        for port in self._ports:
            with contextlib.suppress(OSError):
                theirs, ours = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pass_on(reader, ours), _pass_on(theirs, writer))
                return
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
