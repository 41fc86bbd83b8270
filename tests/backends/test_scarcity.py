"""This machine with nothing to spare: no descriptor when a watcher ends, no room on the disk."""

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backends import base
from backends.local import Local
from tests.backends import localground


@contextlib.contextmanager
def limited(what: int, least: int) -> Iterator[None]:
    """This process with less of something."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (least, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    """This machine, with nothing of the test left on it afterwards."""
    opened = Local(tmp_path / "home")
    await opened.open()
    yield opened
    for folder in (tmp_path / "home" / "jobs").iterdir():
        localground.end(folder)
    await opened.close()


def spec(folder: Path, script: str, *inputs: base.InputFile) -> base.JobSpec:
    return base.JobSpec("job-1", ("sh", "-c", script), folder, None, b"{}", inputs)


async def test_an_end_that_meets_a_want_of_descriptors_is_told_later(local: Local, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    handle = await local.launch(spec(tmp_path, "read word < pipe"))
    async with contextlib.aclosing(local.watch([handle])) as told, asyncio.timeout(60):
        assert isinstance(await anext(told), base.WorkerStarted)
        gone = asyncio.create_task(localground.gone(handle["pid"], handle["start"]))
        await asyncio.sleep(0)  # it has its descriptor
        with (tmp_path / "pipe").open("w") as pipe, limited(resource.RLIMIT_NOFILE, 0):
            pipe.write("go\n")
            pipe.flush()
            await gone
        assert any([isinstance(each, base.Ended) async for each in ending(told)])


async def ending(told: AsyncIterator[base.Observation]) -> AsyncIterator[base.Observation]:
    """What is told, up to an end."""
    async for each in told:
        yield each
        if isinstance(each, base.Ended):
            return


async def test_a_launch_without_room_leaves_nothing_half_made(local: Local, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(bytes(1 << 20))
    wanted = spec(tmp_path, "true", base.InputFile("large", content))
    with limited(resource.RLIMIT_FSIZE, 1 << 16), pytest.raises(base.BackendUnavailable):
        await local.launch(wanted)
    assert list((tmp_path / "home" / "new").iterdir()) == []
    assert await local.launch(wanted)


async def test_a_stop_without_room_can_be_asked_for_again(local: Local, tmp_path: Path) -> None:
    handle = await local.launch(spec(tmp_path, "sleep 1000"))
    with limited(resource.RLIMIT_FSIZE, 0), pytest.raises(base.BackendUnavailable):
        await local.stop(handle, 0)
    await local.stop(handle, 0)
    async with contextlib.aclosing(local.watch([handle])) as told, asyncio.timeout(60):
        assert any([isinstance(each, base.Ended) async for each in ending(told)])
