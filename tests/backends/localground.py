"""This machine as a ground, and proof that nothing is left on it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from backends import attempts
from backends.local import Local
from tests.backends.grounds import Ground, eventually


@contextlib.asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Ground]:
    source, home = folder / "source", folder / "home"
    source.mkdir()
    ground = Ground(lambda: Local(home), source)
    try:
        yield ground
    finally:
        for adapter in ground.opened:
            await adapter.close()
        for each in (home / "jobs").glob("*"):
            end(each)

        async def nothing_left() -> bool:
            return not left(folder)

        await eventually(nothing_left)


def end(attempt: Path) -> None:
    """Have a watcher end its attempt at once."""
    claim = attempts.read_record(str(attempt / attempts.CLAIM))
    if claim is not None and not (attempt / attempts.EXIT).exists():
        attempts.write_record(str(attempt / attempts.STOP), {"grace_seconds": 0})
        attempts.wake(claim["pid"], claim["start"])


def left(folder: Path) -> set[int]:
    """Processes that were started for this folder: zygotes, watchers, and all that jobs started."""
    return {pid for pid in attempts.processes() if pid != os.getpid() and os.fsencode(folder) in _told(pid)}


def _told(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() + b"".join(attempts.environment(pid))
    return b""


async def is_still(watcher: int) -> bool:
    """Whether every process below a watcher is stopped, or in a frozen group."""
    living = attempts.processes()
    family = attempts.descendants([watcher], living)
    return bool(family) and all(living[pid].state == "T" or _is_frozen(pid) for pid in family)


def _is_frozen(pid: int) -> bool:
    """Whether the group of version 2 that a process is in is frozen."""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        (mounted,) = [line.split()[4] for line in mounts if " - cgroup2 " in line]
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        (path,) = [line.removeprefix("0::") for line in groups if line.startswith("0::")]
        return "frozen 1" in Path(f"{mounted}{path}/cgroup.events").read_text()
    return False


async def gone(pid: int, start: int) -> None:
    """Return when this very process has ended."""
    descriptor = attempts.open_process(pid, start)
    if descriptor is None:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(60):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
