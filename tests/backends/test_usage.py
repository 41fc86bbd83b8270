"""What workers use, as the adapter of this machine says it among what they print."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends import gpus, printed, usage
from backends.base import Backend, Handle, Piece, Stream
from backends.local import Local
from db import points
from tests.backends import localground, test_nvml
from tests.backends.grounds import Ground, Witness, eventually, pieces

# Uses half a core, a hundred mebibytes and writes to the disk, in a child too, until it is told to end.
BUSY = """
import os, sys, time
held = bytearray(os.urandom(1)) * (100 << 20)
child = os.fork()
while True:
    until = time.thread_time() + 0.02
    while time.thread_time() < until: pass
    time.sleep(0.06)
    if child == 0:
        with open(os.environ['RUNGRAPH_OUTPUT'] + '/written', 'wb') as file:
            file.write(held[:1 << 20]); file.flush(); os.fsync(file.fileno())
"""
NAMES = {
    "system/cpu_cores",
    "system/memory_bytes",
    "system/disk_read_bytes_per_second",
    "system/disk_written_bytes_per_second",
}
NETWORK = {"system/network_received_bytes_per_second", "system/network_sent_bytes_per_second"}


async def _used(adapter: Backend, handle: Handle, rank: int = 0) -> list[dict[str, float]]:
    found = await pieces(adapter, handle, rank=rank)
    return [json.loads(piece.data)["metric"] for piece in found if piece.stream is Stream.USAGE]


async def _play(ground: Ground, code: str, looks: int, **job: Any) -> list[list[dict[str, float]]]:
    """What each worker used, once all were looked at so often."""
    adapter = await ground.open()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, **job))
        ranks = range(job.get("workers", 1))

        async def enough() -> bool:
            return all([len(await _used(adapter, handle, rank)) >= looks for rank in ranks])

        await eventually(enough)
        await adapter.stop(handle, 0)
        await witness.ended(handle)
        return [await _used(adapter, handle, rank) for rank in ranks]


async def test_cores_memory_disk_and_network_are_told_of_all_that_descends(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", usage_seconds=0.3)
        (used,) = await _play(ground, BUSY, 3)
    assert all(each.keys() == NAMES | NETWORK for each in used)
    last = used[-1]
    # Two processes of a quarter of a core each, on a machine that may be busy with others.
    assert 0.02 < last["system/cpu_cores"] < 1.0
    assert 100 << 20 < last["system/memory_bytes"] < 400 << 20
    assert max(each["system/disk_written_bytes_per_second"] for each in used) > 1 << 16


async def test_each_worker_is_told_of_and_the_network_once(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", usage_seconds=0.2)
        first, second = await _play(ground, "import time; time.sleep(600)", 1, workers=2)
    assert first[0].keys() == NAMES | NETWORK and second[0].keys() == NAMES


async def test_the_gpus_of_a_worker_are_measured(tmp_path: Path) -> None:
    library = test_nvml.build(tmp_path)
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", usage_seconds=0.2, library=library)
        (used,) = await _play(ground, "import time; time.sleep(600)", 1, devices=((2,),))
    assert used[0]["system/gpu2_utilization"] == 0.42
    assert used[0]["system/gpu2_memory_bytes"] == 3 << 29
    assert not any(name.startswith("system/gpu0") for name in used[0])


def test_a_gpu_that_does_not_answer_is_not_told_of(tmp_path: Path) -> None:
    gauges = gpus.Gauges(test_nvml.build(tmp_path, dead=1))
    assert gauges.read(1) == {} and gauges.read(0)["utilization"] == 0.42
    assert gpus.Gauges("libnvidia-ml-that-is-not-there.so.1").read(0) == {}


async def test_usage_that_is_not_asked_for_is_not_told(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("import time; time.sleep(1.2)"))
            await witness.ended(handle)
        assert await _used(adapter, handle) == []


@pytest.mark.parametrize("stream", [Stream.STDOUT, Stream.STDERR])
def test_usage_becomes_points_and_no_line(stream: Stream) -> None:
    told = printed.parse(
        [
            Piece(stream, 1, b"half a line", continued=True),
            Piece(Stream.USAGE, 2, b'{"metric":{"system/cpu_cores":0.5}}'),
            Piece(stream, 3, b" and its end"),
        ]
    )
    assert b"".join(block.data for block in told.blocks) == b"half a line and its end"
    ((column,),) = told.points
    assert (column.name, column.values.tolist(), column.times.tolist()) == ("system/cpu_cores", [0.5], [2])


def test_usage_is_named_as_the_database_knows_it() -> None:
    assert usage.PREFIX == points.USAGE
