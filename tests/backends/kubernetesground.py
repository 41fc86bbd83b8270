"""A namespace of a disposable cluster as a ground, and proof that nothing is left in it.

The cluster is the one of RUNGRAPH_TEST_KUBECONFIG. What pods fetch, the server's listener gives them; here it is
given by a stand-in that knows jobs by their token, for no database stands behind these tests.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from backends import carrying
from backends.base import JobSpec
from backends.kubernetes.adapter import Kubernetes
from backends.kubernetes.cluster import Cluster, Refused
from backends.kubernetes.options import KubernetesOptions
from tests.backends.grounds import DEADLINE_SECONDS, Ground, eventually
from tests.backends.standins import answering
from tests.conftest import absent

VARIABLE = "RUNGRAPH_TEST_KUBECONFIG"


def kubeconfig() -> str:
    """Of the disposable cluster; without one the test is skipped, or fails where CI says that there is one."""
    return os.environ.get(VARIABLE) or absent("kubernetes", f"{VARIABLE} names no cluster")


@dataclass
class Listener:
    """Gives pods what the server would."""

    url: str = ""
    jobs: dict[str, JobSpec] = field(default_factory=dict)

    def _job(self, request: Request) -> JobSpec | None:
        return self.jobs.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    async def source(self, request: Request) -> Response:
        job = self._job(request)
        if job is None:
            return Response("no such job", 401)
        return StreamingResponse(carrying.archive(job.source, job.client))

    async def input(self, request: Request) -> Response:
        job = self._job(request)
        found = [file for file in job.inputs if file.name == request.path_params["name"]] if job else []
        return FileResponse(found[0].content) if found else Response("no such file", 404)


@dataclass
class KubernetesGround(Ground):
    """A ground whose jobs bear what lets their pods fetch them."""

    listener: Listener = field(default_factory=lambda: Listener(""))
    cluster: Cluster = field(default_factory=lambda: Cluster(None, None, None))
    names: "itertools.count[int]" = field(default_factory=itertools.count)

    def command(self, *command: str, **more: Any) -> JobSpec:
        spec = super().command(*command, **more)
        token = secrets.token_hex(8)
        told = {"RUNGRAPH_URL": self.listener.url, "RUNGRAPH_TOKEN": token}
        spec = replace(spec, environment={**spec.environment, **told})
        self.listener.jobs[token] = spec
        return spec

    async def pods(self) -> list[dict[str, Any]]:
        """Every pod of the namespace."""
        found: list[dict[str, Any]] = (await self.cluster.json("GET", self.cluster.path("pods")))["items"]
        return found


@contextlib.asynccontextmanager
async def stand(folder: Path, *, config: str | None = None, **more: Any) -> AsyncIterator[KubernetesGround]:
    """A namespace of its own, gone at the end with all that is in it."""
    whole = kubeconfig()
    namespace = f"rungraph-test-{secrets.token_hex(4)}"
    cluster = Cluster(whole, None, namespace)
    await cluster.open()
    source = folder / "source"
    source.mkdir()
    numbers = itertools.count()
    options = KubernetesOptions(owner="tests", kubeconfig=config or whole, namespace=namespace, **more)
    await cluster.json("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    try:
        async with _listening(await own_address(cluster)) as listener:
            ground = KubernetesGround(
                lambda: Kubernetes(folder / f"home-{next(numbers)}", options),
                source,
                listener=listener,
                cluster=cluster,
            )
            try:
                yield ground
            finally:
                for adapter in ground.opened:
                    await adapter.close()
    finally:
        await clear(cluster, namespace)
        await cluster.close()


async def clear(cluster: Cluster, namespace: str) -> None:
    """Remove everything, finalizers too, and see that it went."""
    for pod in (await cluster.json("GET", cluster.path("pods")))["items"]:
        path = cluster.path("pods", pod["metadata"]["name"])
        with contextlib.suppress(Refused):
            await cluster.patch(path, {"metadata": {"finalizers": None}})
            await cluster.json("DELETE", path, body={"gracePeriodSeconds": 0})
    await cluster.json("DELETE", f"/api/v1/namespaces/{namespace}")

    async def gone() -> bool:
        return not (await cluster.json("GET", cluster.path("pods")))["items"]

    await eventually(gone)


async def nothing_is_left(ground: KubernetesGround) -> None:
    """Wait until no pod is there, and no Secret but the namespace's own; who does not listen has 30 s to end."""
    await eventually(lambda: has_no_pods(ground), seconds=30 + 2 * DEADLINE_SECONDS)
    secrets = (await ground.cluster.json("GET", ground.cluster.path("secrets")))["items"]
    assert [each["metadata"]["name"] for each in secrets if each["type"] == "Opaque"] == []


async def has_no_pods(ground: KubernetesGround) -> bool:
    """A moment later."""
    await asyncio.sleep(0.1)
    return not await ground.pods()


async def own_address(cluster: Cluster) -> str:
    """This machine's address as the cluster's nodes see it."""
    nodes = (await cluster.json("GET", "/api/v1/nodes"))["items"]
    addresses = [each["address"] for each in nodes[0]["status"]["addresses"] if each["type"] == "InternalIP"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((addresses[0], 9))
        own: str = probe.getsockname()[0]
    return own


@contextlib.asynccontextmanager
async def _listening(address: str) -> AsyncIterator[Listener]:
    listener = Listener()
    routes = [
        Route("/attempt/source.tar", listener.source),
        Route("/attempt/inputs/{name}", listener.input),
    ]
    async with answering(Starlette(routes=routes), address) as port:
        listener.url = f"http://{address}:{port}"
        yield listener
