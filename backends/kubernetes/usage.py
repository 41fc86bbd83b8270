"""What jobs' pods use, looked at now and then: from the metrics server, or where there is none from the kubelets.

One question for all pods of the namespace, or one a node. What is seen is given to each pod's courier, which
keeps it among the job's output: so it is read, stored and resumed as exactly as that. Who gives us no right to
either has no such series.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from backends import base
from backends.base import BackendUnavailable
from backends.kubernetes import template
from backends.kubernetes.cluster import Cluster, Refused
from backends.kubernetes.companions import Companion
from backends.kubernetes.nodes import amount

log = structlog.get_logger(__name__)

Running = tuple[base.Handle, int, Mapping[str, Any]]
Values = dict[str, float]

PREFIX = "system/"
_METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
_RATES = {
    "rxBytes": "network_received_bytes_per_second",
    "txBytes": "network_sent_bytes_per_second",
}


class Usage:
    """Looks at the pods that run."""

    def __init__(
        self, cluster: Cluster, selector: str, companion: Callable[[base.Handle, int], Awaitable[Companion]]
    ) -> None:
        self._cluster = cluster
        self._selector = selector
        self._companion = companion
        self._by_nodes = False
        self._traffic = Traffic()

    async def watch(self, running: Callable[[], Sequence[Running]], seconds: float) -> None:
        """Look every so often, until there is no right to."""
        while True:
            await asyncio.sleep(seconds)
            found = running()
            names = {pod["metadata"]["name"] for _, _, pod in found}
            self._traffic.keep(names)
            if not found:
                continue
            try:
                values = await self._values(found)
            except Refused as error:
                log.info("what pods use cannot be seen", error=str(error))
                return
            except BackendUnavailable:
                continue
            looks = (self._give(each, values) for each in found)
            await asyncio.gather(*looks)

    async def _give(self, each: Running, values: Mapping[str, Values]) -> None:
        handle, rank, pod = each
        used = values.get(pod["metadata"]["name"])
        if not used:
            return  # too young to have been looked at
        metric = {f"{PREFIX}{name}": round(value, 6) for name, value in used.items()}
        try:
            companion = await self._companion(handle, rank)
            await companion.use([json.dumps({"metric": metric}, separators=(",", ":"))])
        except (BackendUnavailable, Refused) as error:
            log.debug("a look is lost", pod=pod["metadata"]["name"], error=str(error))

    async def _values(self, running: Sequence[Running]) -> dict[str, Values]:
        """What the jobs' containers use, by the names of their pods."""
        if not self._by_nodes:
            try:
                return await self._of_metrics_server()
            except Refused:
                self._by_nodes = True
        nodes = {str(pod["spec"].get("nodeName")) for _, _, pod in running}
        found = await asyncio.gather(*(self._of_node(node) for node in sorted(nodes)))
        return {name: values for each in found for name, values in each.items()}

    async def _of_metrics_server(self) -> dict[str, Values]:
        path = _METRICS.format(namespace=self._cluster.namespace)
        told = await self._cluster.json("GET", path, query=[("labelSelector", self._selector)])
        return {
            pod["metadata"]["name"]: {
                "cpu_cores": amount(each["usage"]["cpu"]),
                "memory_bytes": amount(each["usage"]["memory"]),
            }
            for pod in told["items"] or ()
            for each in pod["containers"]
            if each["name"] == template.MAIN
        }

    async def _of_node(self, node: str) -> dict[str, Values]:
        told = await self._cluster.json("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")
        ours = [
            pod for pod in told["pods"] or () if pod["podRef"].get("namespace") == self._cluster.namespace
        ]
        return {pod["podRef"]["name"]: self._of_pod(pod) for pod in ours}

    def _of_pod(self, pod: Mapping[str, Any]) -> Values:
        """Cores and memory of the job's container; the network is the pod's."""
        main: Mapping[str, Any] = next(
            (each for each in pod.get("containers") or () if each["name"] == template.MAIN), {}
        )
        values: Values = {}
        if (cores := (main.get("cpu") or {}).get("usageNanoCores")) is not None:
            values["cpu_cores"] = cores / 1e9
        if (memory := (main.get("memory") or {}).get("workingSetBytes")) is not None:
            values["memory_bytes"] = float(memory)
        network = pod.get("network") or {}
        return values | self._traffic.rates(pod["podRef"]["name"], network, time.monotonic())


class Traffic:
    """What pods have sent and received so far, each by its name, to tell how much that is a second."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, Values]] = {}

    def rates(self, name: str, network: Mapping[str, Any], now: float) -> Values:
        """Since the last look at this pod; nothing at the first."""
        totals = {told: float(network[native]) for native, told in _RATES.items() if native in network}
        then, before = self._seen.get(name, (now, {}))
        self._seen[name] = now, totals
        if now == then:
            return {}
        return {
            told: max(0.0, total - before.get(told, total)) / (now - then) for told, total in totals.items()
        }

    def keep(self, names: Collection[str]) -> None:
        """Forget all other pods."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
