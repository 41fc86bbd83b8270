"""The file of what a worker prints: it holds what nobody has stored yet, and only so much of that."""

import asyncio
import os
import select
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends import backlog
from backends.backlog import Backlog
from tests.backends import localground
from tests.backends.grounds import Witness
from tests.processes import until

MIB = 1 << 20


@dataclass
class Pipe:
    """A pipe whose end is watched, and the file that it fills."""

    end: int
    file: int


def test_what_is_freed_keeps_its_place(tmp_path: Path) -> None:
    if not backlog.can_free(str(tmp_path)):
        pytest.skip("this file system frees no parts of files")
    path = tmp_path / "0.frames"
    path.write_bytes(b"x" * 4 * MIB + b"the rest")
    before = path.stat().st_blocks
    assert backlog.free(str(path), 4 * MIB)
    assert path.stat().st_blocks < before / 100
    assert path.stat().st_size == 4 * MIB + 8
    assert path.read_bytes()[4 * MIB :] == b"the rest"
    assert [each.name for each in tmp_path.iterdir()] == ["0.frames"]


def test_a_file_that_is_gone_needs_no_freeing(tmp_path: Path) -> None:
    assert backlog.free(str(tmp_path / "0.frames"), MIB)


@pytest.mark.parametrize("most", [MIB, None])
def test_a_pipe_waits_while_its_file_is_too_large(tmp_path: Path, most: int | None) -> None:
    end, theirs = os.pipe()
    file = os.open(tmp_path / "0.frames", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    watched = Backlog(poll, most)
    os.write(theirs, b"a line\n")
    os.write(file, bytes(2 * MIB))
    os.fsync(file)
    watched.check(Pipe(end, file))
    assert watched.waits is (most is not None)
    assert bool(poll.poll(0)) is (most is None)
    os.ftruncate(file, 0)
    watched.look()
    assert not watched.waits
    assert poll.poll(0)
    watched.close(end)
    assert not poll.poll(0)
    for descriptor in (end, theirs, file):
        os.close(descriptor)


async def test_a_job_that_outruns_the_store_waits_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_BYTES", MIB)
    if not backlog.can_free(str(tmp_path)):
        pytest.skip("this file system frees no parts of files")
    count, offset, largest, seen = 100_000, 0, 0, 0
    async with localground.stand(tmp_path) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job(f"for n in range({count}): print(f'{{n:0100}}')"))
            frames = tmp_path / "home" / "jobs" / handle["name"] / "0.frames"
            await until(lambda: frames.exists() and frames.stat().st_size > MIB, "it is full")
            async with asyncio.timeout(60):
                while seen < count:
                    largest = max(largest, frames.stat().st_blocks * 512)
                    output = await adapter.read(handle, 0, offset)
                    for line in (line for piece in output.pieces for line in piece.data.split(b"\n")):
                        assert int(line) == seen
                        seen += 1
                    offset = output.next_offset
                    await adapter.stored(handle, 0, offset)
            assert (await witness.ended(handle)).exit_code == 0
    assert largest < 4 * MIB, f"of {offset} bytes that it printed"
