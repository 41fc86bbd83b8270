"""What a cluster's nodes have, for jobs together; and what jobs' pods use there, as the kubelets say.

Nodes are the cluster's, not the namespace's: who gives us no right to list them leaves capacity to the
configuration. A node that is cordoned or not ready counts for nothing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from backends.base import Capacity

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(n|u|m|[EPTGMk]i?|Ki)?")
_SCALES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    **{unit: 1000.0 ** (at + 2) for at, unit in enumerate("MGTPE")},
}
_SCALES |= {f"{unit}i": 1024.0 ** (at + 1) for at, unit in enumerate("KMGTPE")}


def amount(text: str) -> float:
    """A quantity as the API writes it: 2, 500m, 16Gi."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SCALES.get(found[2] or "", 1.0)


def capacity(nodes: Iterable[Mapping[str, Any]], selector: Mapping[str, str], gpu_resource: str) -> Capacity:
    """What the ready nodes that a selector chooses can hold together."""
    slots, cpus, memory, gpus = 0, 0.0, 0, 0
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if not _is_ready(node) or any(labels.get(name) != value for name, value in selector.items()):
            continue
        has = node["status"].get("allocatable") or {}
        slots += int(amount(has.get("pods", "0")))
        cpus += amount(has.get("cpu", "0"))
        memory += int(amount(has.get("memory", "0")))
        gpus += int(amount(has.get(gpu_resource, "0")))
    return Capacity(slots=slots, cpus=cpus, memory_bytes=memory, gpus=gpus)


def _is_ready(node: Mapping[str, Any]) -> bool:
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    conditions = node["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
