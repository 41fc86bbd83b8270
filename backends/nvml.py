"""The GPUs of this machine, as NVIDIA's management library has them.

Only the few calls that name devices (gpus.py has how they are made, and what measures them); the numbers are those
of the PCI bus, which jobs are told to count by (CUDA_DEVICE_ORDER).
"""

import ctypes

from backends.base import Device
from backends.gpus import LIBRARY, Memory, Refused, call

_TEXT_BYTES = 96


def devices(visible: str | None = None, *, library: str = LIBRARY) -> tuple[Device, ...]:
    """The GPUs there are, or those of them that `visible` names, as CUDA_VISIBLE_DEVICES does.

    It is a list of numbers or beginnings of UUIDs, and what follows one that names nothing does not count.
    """
    try:
        nvml = ctypes.CDLL(library)
        call(nvml, "nvmlInit_v2")
    except (OSError, AttributeError, Refused):
        return ()
    try:
        found = [_device(nvml, index) for index in range(_count(nvml))]
    except (AttributeError, Refused):
        return ()
    finally:
        nvml.nvmlShutdown()
    there = dict(each for each in found if each is not None)
    return tuple(there.values()) if visible is None else _chosen(there, visible)


def _count(nvml: ctypes.CDLL) -> int:
    count = ctypes.c_uint()
    call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    return count.value


def _device(nvml: ctypes.CDLL, index: int) -> tuple[str, Device] | None:
    """A device with its UUID; None for one that does not answer, which must not hide the others."""
    handle, memory = ctypes.c_void_p(), Memory()
    name, uuid = (ctypes.create_string_buffer(_TEXT_BYTES) for _ in range(2))
    try:
        call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        call(nvml, "nvmlDeviceGetName", handle, name, ctypes.c_uint(_TEXT_BYTES))
        call(nvml, "nvmlDeviceGetUUID", handle, uuid, ctypes.c_uint(_TEXT_BYTES))
        call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    except Refused:
        return None
    return uuid.value.decode(), Device(index, name.value.decode(), memory.total)


def _chosen(there: dict[str, Device], visible: str) -> tuple[Device, ...]:
    by_index = {str(device.index): device for device in there.values()}
    chosen: dict[int, Device] = {}
    for word in (each.strip() for each in visible.split(",")):
        named = [
            device for uuid, device in there.items() if word.startswith("GPU-") and uuid.startswith(word)
        ]
        device = by_index.get(word) or (named[0] if len(named) == 1 else None)
        if device is None or device.index in chosen:
            break
        chosen[device.index] = device
    return tuple(chosen.values())
