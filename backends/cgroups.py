"""Control groups of this machine: where the server may make some, and one for each worker with limits.

The kernel keeps the worker of such a group, and all that descends from it, to its memory and cores. A group
stands below the server's own, of version 2 where the controller is there, else of version 1, as both may be
mounted. Its name begins with what tells one home's from another's, so that a later server can sweep what a
crash has left. Standard library alone: the watcher uses this too.
"""
# ruff: noqa: PTH102, PTH106, PTH112, PTH118, PTH123, PTH208
# pathlib would cost every watcher memory.

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

Place = tuple[str, int]
"""A folder in which groups can be made, and the version of its hierarchy."""

MEMORY, CPU, FREEZE = "memory", "cpu", "freeze"
PERIOD_US = 100_000
LEAST_QUOTA_US = 1_000
_LEAF = "-server-0"


def places(tag: str) -> dict[str, Place]:
    """Where groups that limit memory, limit cores or freeze can be made; what is missing cannot be had."""
    found: dict[str, Place] = {}
    for version, controllers, folder in _own():
        if version == 2:
            found |= dict.fromkeys(_second(folder, tag), (folder, 2))
        else:
            found |= {
                what: (folder, 1) for what in (MEMORY, CPU) if what in controllers and what not in found
            }
    return {what: place for what, place in found.items() if _can_make(place[0], tag)}


def sweep(tag: str, where: Mapping[str, Place], lives: Callable[[str], bool]) -> None:
    """Remove the groups of attempts that are over; `lives` says whether the one of a name is not."""
    for folder in {folder for folder, _ in where.values()}:
        for name in os.listdir(folder):
            job = name.removeprefix(f"{tag}-").rpartition("-")[0]
            if name.startswith(f"{tag}-") and not lives(job):
                _remove(os.path.join(folder, name))


class Group:
    """The group of one worker: a folder of this name in each of these places."""

    def __init__(self, name: str, where: Mapping[str, Place]) -> None:
        self._paths = {
            what: (os.path.join(folder, name), version) for what, (folder, version) in where.items()
        }

    def make(self, memory_bytes: int | None, cpus: float | None, nice: int = 0) -> None:
        """Make the folders and set the limits; raises OSError where that is not possible any more.

        Where cores are short it gets as much of them as a process so `nice`: each step is worth a fifth.
        """
        for path in self._folders():
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
        if memory_bytes is not None and MEMORY in self._paths:
            self._limit_memory(*self._paths[MEMORY], memory_bytes)
        if cpus is not None and CPU in self._paths:
            path, version = self._paths[CPU]
            quota = max(LEAST_QUOTA_US, round(cpus * PERIOD_US))
            if version == 2:
                _write(path, "cpu.max", f"{quota} {PERIOD_US}")
            else:
                _write(path, "cpu.cfs_period_us", str(PERIOD_US))
                _write(path, "cpu.cfs_quota_us", str(quota))

        if nice and CPU in self._paths:
            path, version = self._paths[CPU]
            name, usual = ("cpu.weight", 100) if version == 2 else ("cpu.shares", 1024)
            _write(path, name, str(max(2, round(usual / 1.25**nice))))

    def join(self) -> None:
        """Enter it, with all that will descend from the caller."""
        for path in self._folders():
            _write(path, "cgroup.procs", "0")

    def oom_kills(self) -> int:
        """How often the kernel has ended a process of it for memory."""
        if MEMORY not in self._paths:
            return 0
        path, version = self._paths[MEMORY]
        counts = _read(path, "memory.events" if version == 2 else "memory.oom_control")
        return next((int(line[9:]) for line in counts.splitlines() if line.startswith("oom_kill ")), 0)

    def peak_bytes(self) -> int:
        """The most memory it has held; 0 where the kernel does not say."""
        if MEMORY not in self._paths:
            return 0
        path, version = self._paths[MEMORY]
        return int(_read(path, "memory.peak" if version == 2 else "memory.max_usage_in_bytes") or 0)

    def freeze(self, frozen: bool) -> bool:
        """Stop or continue everything in it; False where the kernel has no way to."""
        if FREEZE not in self._paths:
            return False
        try:
            _write(self._paths[FREEZE][0], "cgroup.freeze", str(int(frozen)))
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Take it away; one that is not empty yet stays for the sweep."""
        for path in self._folders():
            _remove(path)

    def _folders(self) -> set[str]:
        return {path for path, _ in self._paths.values()}

    def _limit_memory(self, path: str, version: int, limit: int) -> None:
        if version == 2:
            _write(path, "memory.max", str(limit))
            with contextlib.suppress(OSError):  # a kernel without swap
                _write(path, "memory.swap.max", "0")
            _write(path, "memory.oom.group", "1")
        else:
            _write(path, "memory.limit_in_bytes", str(limit))
            with contextlib.suppress(OSError):
                _write(path, "memory.memsw.limit_in_bytes", str(limit))


def _own() -> Iterator[tuple[int, list[str], str]]:
    """The groups this process is in: version, controllers, folder."""
    paths: dict[str, str] = {}
    for line in _read("/proc/self", "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    for line in _read("/proc/self", "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            yield 2, [], _base(_below(mounted, root, paths.get("", "/")))
        elif kind == "cgroup":
            for controllers, path in paths.items():
                if controllers and set(controllers.split(",")) <= set(options.split(",")):
                    yield 1, controllers.split(","), _below(mounted, root, path)


def _below(mounted: str, root: str, path: str) -> str:
    """The folder of a group; a container sees a part of the tree, and may be told its path in the whole."""
    inside = path[len(root) :] if root != "/" and path.startswith(root) else path
    folder = os.path.normpath(f"{mounted}/{inside}")
    return folder if os.path.isdir(folder) else mounted


def _base(folder: str) -> str:
    """Where ours of version 2 belong: beside our own group, if that is one made for the server alone."""
    parent, name = os.path.split(folder)
    if name.startswith("rungraph-") and name.endswith(_LEAF):
        return parent
    for attribute in ("user.delegate", "trusted.delegate"):  # systemd marks what it has handed over
        with contextlib.suppress(OSError):
            if os.getxattr(parent, attribute) == b"1":
                return parent
    return folder


def _second(folder: str, tag: str) -> list[str]:
    """What a group of version 2 below this one could do, once its controllers are handed down."""
    there = _read(folder, "cgroup.controllers").split()
    can = [what for what in (MEMORY, CPU) if what in there and _hand_down(folder, what, tag)]
    return [*can, FREEZE]


def _hand_down(folder: str, controller: str, tag: str) -> bool:
    """Hand a controller down; a group that does so holds no process, so we step into one below it first."""
    if controller in _read(folder, "cgroup.subtree_control").split():
        return True
    leaf = os.path.join(folder, f"{tag}{_LEAF}")
    for step in (False, True):
        try:
            if step:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(leaf)
                _write(leaf, "cgroup.procs", "0")
            _write(folder, "cgroup.subtree_control", f"+{controller}")
        except OSError:
            continue
        return True
    with contextlib.suppress(OSError):  # others are in it too: back to them
        _write(folder, "cgroup.procs", "0")
    _remove(leaf)
    return False


def _can_make(folder: str, tag: str) -> bool:
    probe = os.path.join(folder, f"{tag}-probe-{os.getpid()}")
    try:
        os.mkdir(probe)
    except OSError:
        return False
    _remove(probe)
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _write(folder: str, name: str, value: str) -> None:
    file = os.open(os.path.join(folder, name), os.O_WRONLY)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            return (file.readall() or b"").decode(errors="replace")
    except OSError:
        return ""
