"""What a worker uses: cores, memory, disk, network and GPUs, looked at now and then. Runs inside the watcher.

Each look is a line of JSON as a job prints its metrics, in a stream of its own, so that usage is kept, followed and
read as any other series, and none is lost while the server is away. A process's own traffic cannot be told from the
machine's: network is the whole machine's, said by rank 0 alone. Standard library alone.
"""
# ruff: noqa: PTH123
# pathlib would cost every watcher memory.

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence

from backends.bounds import family, resident_bytes
from backends.gpus import Gauges

PREFIX = "system/"
FIRST_SECONDS = 1.0
"""When a worker is looked at first; then each time it is twice as old, and at last every so many seconds."""
_TICKS = os.sysconf("SC_CLK_TCK")
_DISK = {b"read_bytes": "disk_read_bytes_per_second", b"write_bytes": "disk_written_bytes_per_second"}
_NETWORK = ("network_received_bytes_per_second", "network_sent_bytes_per_second")

Totals = dict[str, float]


class Usage:
    """Looks at the workers of one attempt, every `seconds`; 0 never does. `devices` are their GPUs, by rank."""

    def __init__(self, seconds: float, devices: Sequence[Sequence[int]] = (), library: str = "") -> None:
        self._seconds = seconds
        self._devices = devices
        self._began = time.monotonic()
        self._due = self._began + min(FIRST_SECONDS, seconds) if seconds else float("inf")
        self._before: dict[int, tuple[float, Totals]] = {}
        self._gauges = Gauges(library) if seconds and any(devices) else None

    @property
    def patience(self) -> float:
        """How long to wait until the next look."""
        return max(0.0, self._due - time.monotonic())

    def begin(self, pids: Mapping[int, int]) -> None:
        """The workers exist: what they use is counted from here."""
        if self._seconds:
            now = time.monotonic()
            self._before = {rank: (now, _totals(rank, pid)) for rank, pid in pids.items()}

    def look(self, pids: Mapping[int, int]) -> Iterable[tuple[int, bytes]]:
        """A line for each worker that runs, when it is time; `pids` are theirs, by rank."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + min(self._seconds, now - self._began)
        for rank, pid in pids.items():
            values = self._rates(rank, _totals(rank, pid)) | {"memory_bytes": float(resident_bytes(pid))}
            if self._gauges is not None:
                for index in self._devices[rank]:
                    read = self._gauges.read(index)
                    values |= {f"gpu{index}_{name}": value for name, value in read.items()}
            metric = {f"{PREFIX}{name}": round(value, 6) for name, value in values.items()}
            yield rank, json.dumps({"metric": metric}, separators=(",", ":")).encode()

    def _rates(self, rank: int, totals: Totals) -> Totals:
        """What was used a second since the look before. What left with a process that ended is not owed."""
        now = time.monotonic()
        then, before = self._before.get(rank, (self._began, {}))
        self._before[rank] = now, totals
        passed = max(now - then, 1e-3)
        return {name: max(0.0, total - before.get(name, 0.0)) / passed for name, total in totals.items()}


def _totals(rank: int, pid: int) -> Totals:
    """What a worker and all that descends from it have used so far."""
    totals: Totals = {"cpu_cores": 0.0, **dict.fromkeys(_DISK.values(), 0.0)}
    for each in family(pid):
        with contextlib.suppress(OSError, ValueError):  # it may have ended, or not be ours to look at
            stat = _read(f"/proc/{each}/stat")
            # Its own, and that of the children it has waited for: utime, stime, cutime, cstime.
            used = stat[stat.rindex(b")") + 2 :].split()[11:15]
            totals["cpu_cores"] += sum(map(int, used)) / _TICKS
            for line in _read(f"/proc/{each}/io").splitlines():
                name, _, count = line.partition(b": ")
                if name in _DISK:
                    totals[_DISK[name]] += int(count)
    return totals | (_traffic(pid) if rank == 0 else {})


def _traffic(pid: int) -> Totals:
    received = sent = 0
    with contextlib.suppress(OSError, ValueError):
        for line in _read(f"/proc/{pid}/net/dev").splitlines()[2:]:
            name, _, counts = line.partition(b":")
            fields = counts.split()
            if name.strip() != b"lo":
                received += int(fields[0])
                sent += int(fields[8])
    return dict(zip(_NETWORK, (float(received), float(sent)), strict=True))


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall() or b""
