"""Finding GPUs, with a library of our own in the place of NVIDIA's: real calls, through a real dlopen."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from backends import nvml
from backends.base import Device, EndReason, Stream
from backends.local import Local
from tests.backends import localground
from tests.backends.grounds import Witness, lines, pieces

SOURCE = r"""
#include <stdio.h>
struct memory { unsigned long long total, free, used; };
static long handles[3] = {0, 1, 2};
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index == DEAD) return 15;
    *handle = &handles[index];
    return 0;
}
int nvmlDeviceGetName(long *handle, char *name, unsigned size) {
    return snprintf(name, size, "Imagined %ld", *handle) < 0;
}
int nvmlDeviceGetUUID(long *handle, char *uuid, unsigned size) {
    return snprintf(uuid, size, "GPU-%ldf", *handle) < 0;
}
int nvmlDeviceGetMemoryInfo(long *handle, struct memory *memory) {
    memory->total = (*handle + 1) << 30;
    memory->used = memory->total / 2;
    return 0;
}
struct utilization { unsigned gpu, memory; };
int nvmlDeviceGetUtilizationRates(long *handle, struct utilization *found) {
    found->gpu = 42;
    return 0;
}
"""
ALL = tuple(Device(index, f"Imagined {index}", (index + 1) << 30) for index in range(3))


def build(folder: Path, init: int = 0, dead: int = 9) -> str:
    """A library with three GPUs, of which one may be dead; its path."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = folder / "nvml.c", folder / f"libnvidia-ml-{init}-{dead}.so"
    source.write_text(SOURCE)
    command = [
        compiler,
        "-shared",
        "-fPIC",
        f"-DINIT={init}",
        f"-DDEAD={dead}",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run(command, check=True)
    return str(library)


def test_without_the_library_there_is_no_gpu() -> None:
    assert nvml.devices(library="libnvidia-ml-that-is-not-there.so.1") == ()


def test_a_library_without_a_driver_has_no_gpu(tmp_path: Path) -> None:
    assert nvml.devices(library=build(tmp_path, init=9)) == ()


def test_another_library_of_that_name_has_no_gpu() -> None:
    assert nvml.devices(library="libc.so.6") == ()


def test_gpus_are_named_and_measured(tmp_path: Path) -> None:
    assert nvml.devices(library=build(tmp_path)) == ALL


def test_a_gpu_that_does_not_answer_hides_no_other(tmp_path: Path) -> None:
    assert nvml.devices(library=build(tmp_path, dead=1)) == (ALL[0], ALL[2])


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("2,0", [2, 0]),
        ("GPU-1, GPU-2f", [1, 2]),
        ("", []),
        ("-1", []),
        ("1,7,2", [1]),
        ("GPU-", []),
        ("0,0", [0]),
    ],
)
def test_only_what_the_server_may_see_is_found(tmp_path: Path, visible: str, seen: list[int]) -> None:
    found = nvml.devices(visible, library=build(tmp_path))
    assert [device.index for device in found] == seen


async def test_where_there_are_gpus_a_job_sees_only_those_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", library=build(tmp_path))
        adapter = await ground.open()
        assert adapter.capabilities.devices == ALL[1:]
        async with Witness(adapter) as witness:
            for devices, seen in (((), b""), (((2,),), b"2")):
                handle = await adapter.launch(ground.job(code, devices=devices))
                assert (await witness.ended(handle)).reason is EndReason.COMPLETED
                assert lines(await pieces(adapter, handle), Stream.STDOUT) == [seen]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
