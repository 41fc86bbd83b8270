"""What running containers use, asked of the engine now and then and told as lines of metrics.

As on any machine (usage.py): cores, memory, disk and network, the same names, a look after a second, then each
time it is twice as old, and at last every so many seconds. A container's network is its own.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from backends.base import Piece, Stream
from backends.usage import FIRST_SECONDS, PREFIX

Stats = Callable[[str, int], Awaitable[dict[str, Any] | None]]
Use = Callable[[str, int, Piece], None]
_NOT_IN_USE = ("inactive_file", "total_inactive_file")
"""Of memory: what the kernel keeps of files and gives up when it is wanted; in version 2 and 1."""


class Looks:
    """Looks at each worker that was begun with, until it ends; `seconds` 0 never does."""

    def __init__(self, stats: Stats, use: Use, seconds: float) -> None:
        self._stats = stats
        self._use = use
        self._seconds = seconds
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._paused: set[tuple[str, int]] = set()

    def begin(self, name: str, rank: int, *, paused: bool) -> None:
        """A worker runs, or stands still, when there is nothing to look at."""
        (self._paused.add if paused else self._paused.discard)((name, rank))
        if self._seconds and (name, rank) not in self._tasks:
            self._tasks[name, rank] = asyncio.create_task(self._look(name, rank))

    def end(self, name: str, rank: int) -> None:
        self._paused.discard((name, rank))
        if (task := self._tasks.pop((name, rank), None)) is not None:
            task.cancel()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _look(self, name: str, rank: int) -> None:
        began = time.monotonic()
        before: tuple[float, dict[str, float]] | None = None
        wait = min(FIRST_SECONDS, self._seconds)
        while True:
            stats = None if (name, rank) in self._paused else await self._stats(name, rank)
            now = time.monotonic()
            if stats and stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage"):
                totals, level = read(stats)
                if before is not None:
                    passed = max(now - before[0], 1e-3)
                    rates = {
                        key: max(0.0, total - before[1].get(key, 0.0)) / passed
                        for key, total in totals.items()
                    }
                    self._use(name, rank, line(rates | level))
                before = now, totals
            await asyncio.sleep(wait)
            wait = min(self._seconds, max(wait, now - began))


def line(values: Mapping[str, float]) -> Piece:
    """A look, as a job prints its metrics."""
    metric = {f"{PREFIX}{name}": round(value, 6) for name, value in values.items()}
    data = json.dumps({"metric": metric}, separators=(",", ":")).encode()
    return Piece(Stream.USAGE, time.time_ns() // 1000, data)


def read(stats: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """What was used so far, and what is used now."""
    networks = (stats.get("networks") or {}).values()
    blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    totals = {
        "cpu_cores": stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        "disk_read_bytes_per_second": _sum(each["value"] for each in blocks if each["op"].lower() == "read"),
        "disk_written_bytes_per_second": _sum(
            each["value"] for each in blocks if each["op"].lower() == "write"
        ),
        "network_received_bytes_per_second": _sum(each["rx_bytes"] for each in networks),
        "network_sent_bytes_per_second": _sum(each["tx_bytes"] for each in networks),
    }
    memory = stats.get("memory_stats") or {}
    kept = next((memory["stats"][name] for name in _NOT_IN_USE if name in memory.get("stats", {})), 0)
    return totals, {"memory_bytes": float(max(0, memory.get("usage", 0) - kept))}


def _sum(values: Any) -> float:
    return float(sum(values))
