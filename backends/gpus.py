"""NVIDIA's management library, by ctypes: how it is called, and what measures its devices.

So nothing need be installed where there are no GPUs: without the library there is none, and finding that out takes a
fraction of a millisecond. Standard library alone: the watcher uses this too, where its job has GPUs.
"""

import ctypes
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent of the last second or so."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Refused(Exception):
    """A call did not succeed: no driver is loaded, or a device has fallen off the bus."""


def call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function of the library; raises Refused."""
    if code := getattr(library, name)(*arguments):
        raise Refused(f"{name}: {code}")


class Gauges:
    """Measures devices by their number. Of one that does not answer nothing is known."""

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            found = ctypes.CDLL(library)
            call(found, "nvmlInit_v2")
        except (OSError, AttributeError, Refused):
            self._library = None
            return
        self._library = found

    def read(self, index: int) -> dict[str, float]:
        """`utilization` from 0 to 1, and `memory_bytes`."""
        if self._library is None:
            return {}
        handle, memory, utilization = ctypes.c_void_p(), Memory(), Utilization()
        try:
            call(self._library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            call(self._library, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
            call(self._library, "nvmlDeviceGetUtilizationRates", handle, ctypes.byref(utilization))
        except (AttributeError, Refused):
            return {}
        return {"utilization": utilization.gpu / 100, "memory_bytes": float(memory.used)}
