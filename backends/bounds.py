"""What keeps an attempt within what it asked for, and still while it is suspended. Runs inside the watcher.

Memory and cores are the kernel's to enforce, by a control group a worker, where the server may make them.
Where it may not, the watcher adds up what each worker's processes hold five times a second and ends the
attempt that holds too much, and cores become a fixed set of them. Suspending freezes groups where the
kernel can, else stops every process, again and again until none runs.
"""
# ruff: noqa: PTH110, PTH118, PTH119, PTH123, PTH208

import contextlib
import fcntl
import math
import os
import signal
import time
from collections.abc import Callable, Iterable

from backends import attempts
from backends.cgroups import CPU, MEMORY, Group

SAMPLE_SECONDS = 0.2  # between two looks at what is used
CORES = "../../cores"
"""Which core is given out next, in the home of all attempts."""


class Bounds:
    """The limits of an attempt's workers. `limits` is what local.py wrote into the specification."""

    def __init__(self, limits: attempts.Record, name: str) -> None:
        self._memory: int | None = limits.get("memory_bytes")
        self._cpus: float | None = limits.get("cpus")
        self._nice: int = limits.get("nice", 0)
        self._places = {
            what: (folder, version) for what, (folder, version) in limits.get("places", {}).items()
        }
        self._prefix = f"{limits.get('tag', '')}-{name}"
        self._groups: dict[int, Group] = {}
        self._ranks: set[int] = set()
        self._next_sample = 0.0
        self._used: dict[int, int] = {}
        """What a worker held when it was found to hold too much."""
        self._signalled = False

    @property
    def patience(self) -> float:
        """How long the watcher may wait before it asks `starved` again."""
        return math.inf if self._memory is None else max(0.0, self._next_sample - time.monotonic())

    def enter(self, rank: int) -> Callable[[], None] | None:
        """What the worker of this rank does before it becomes the user's command; None when it is not limited."""
        self._ranks.add(rank)
        if self._memory is None and self._cpus is None:
            return None
        group = self._group(rank)
        cores = None if group and CPU in self._places else self._cores()

        def entering() -> None:
            if group is not None:
                group.join()
            if cores is not None:
                os.sched_setaffinity(0, cores)

        return entering

    def starved(self, pids: dict[int, int], *, at_once: bool = False) -> int | None:
        """The rank that wants more memory than it asked for, if one does. `pids` are those that run, by rank."""
        if self._memory is None or not (at_once or time.monotonic() >= self._next_sample):
            return next(iter(self._used), None)
        self._next_sample = time.monotonic() + SAMPLE_SECONDS
        for rank in self._ranks:
            group = self._groups.get(rank) if MEMORY in self._places else None
            if group is not None and group.oom_kills():
                self._used.setdefault(rank, group.peak_bytes())
            elif group is None and rank in pids and (held := resident_bytes(pids[rank])) > self._memory:
                self._used.setdefault(rank, held)
        return next(iter(self._used), None)

    def words(self, rank: int) -> str:
        """What became of a worker that wanted too much."""
        assert self._memory is not None
        used = self._used.get(rank, 0)
        return f"used {_size(used)} and wanted more than the {_size(self._memory)} of memory it asked for"

    def freeze(self) -> bool:
        """Stop everything; False as long as something may still run."""
        frozen = {rank for rank, group in self._groups.items() if group.freeze(True)}
        if frozen and frozen == self._ranks:
            return True
        self._signalled = True
        living = attempts.processes()
        running = [
            pid for pid in attempts.descendants([os.getpid()], living) if living[pid].state not in "Tt"
        ]
        _signal(running, signal.SIGSTOP)
        return not running

    def thaw(self) -> None:
        """Let everything go on."""
        for group in self._groups.values():
            group.freeze(False)
        if self._signalled:
            _signal(attempts.descendants([os.getpid()], attempts.processes()), signal.SIGCONT)
            self._signalled = False

    def remove(self) -> None:
        """Take the groups away, once nothing is in them."""
        for group in self._groups.values():
            group.remove()

    def _group(self, rank: int) -> Group | None:
        if not self._places.keys() & {MEMORY, CPU}:
            return None
        group = self.name_group(rank)
        try:
            group.make(self._memory, self._cpus, self._nice)
        except OSError:  # what was possible when the server started is not now
            group.remove()
            return None
        self._groups[rank] = group
        return group

    def name_group(self, rank: int) -> Group:
        """The group of a worker, made or not."""
        return Group(f"{self._prefix}-{rank}", self._places)

    def _cores(self) -> set[int] | None:
        """As many cores as were asked for, rounded up; every attempt begins where the one before it ended."""
        if self._cpus is None:
            return None
        there = sorted(os.sched_getaffinity(0))
        count = math.ceil(self._cpus)
        if count >= len(there):
            return None
        with open(CORES, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            first = int(file.read() or b"0")
            file.truncate(0)
            file.write(b"%d" % ((first + count) % len(there)))
        return {there[(first + i) % len(there)] for i in range(count)}


def resident_bytes(root: int) -> int:
    """What a process and its descendants hold: each its own, and what may be shared once."""
    own, shared = 0, 0
    for pid in family(root):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
                lines = (file.readall() or b"").splitlines()
            kib = {line[:8]: int(line.split()[1]) for line in lines if line.startswith(b"Rss")}
            own += kib.get(b"RssAnon:", 0) * 1024
            shared = max(shared, kib.get(b"RssShmem", 0) * 1024)
    return own + shared


def family(root: int) -> Iterable[int]:
    """A process and what descends from it; without looking at any other, where the kernel lists children."""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        yield root
        yield from attempts.descendants([root], attempts.processes())
        return
    new = [root]
    while new:
        pid = new.pop()
        yield pid
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                    new += map(int, (file.readall() or b"").split())


def release(folder: str) -> None:
    """Take away the groups of an attempt whose watcher could not."""
    spec = attempts.read_record(os.path.join(folder, attempts.SPEC))
    if spec is not None:
        left = Bounds(spec.get("limits", {}), os.path.basename(folder))
        for rank in range(spec["workers"]):
            left.name_group(rank).remove()


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.5g} MiB"
