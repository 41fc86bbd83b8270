"""The logs of an engine's workers that are being read: a stream each, kept between two reads. Part of `docker.py`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from backends.base import BackendUnavailable, Output
from backends.container_logs import Log
from backends.docker_native import Native

Key = tuple[str, int]


class Logs:
    """By attempt and rank. Of what runs and is watched, what is printed comes by itself."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._logs: dict[Key, Log] = {}
        self._running: set[Key] = set()
        self._turns: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told: Callable[[str, int], None] | None = None

    def follow(self, told: Callable[[str, int], None] | None) -> None:
        """Say from now on what has more; None to nobody."""
        self._told = told
        if told is None:
            self._running.clear()

    def run(self, name: str, rank: int) -> None:
        """A worker runs: what it prints is to come by itself."""
        key = name, rank
        if key not in self._running:
            self._running.add(key)
            if key not in self._logs or self._logs[key].is_over:
                self._open(key)

    def end(self, name: str, rank: int) -> None:
        """A worker has ended: the end of its stream is the end of its log."""
        self._running.discard((name, rank))
        if (log := self._logs.get((name, rank))) is not None:
            log.end()

    async def read(self, key: Key, offset: int, limit: int) -> Output:
        """From an offset, by the stream that is there or by a new one."""
        async with self._turns[key]:
            while True:
                kept = self._logs.get(key)
                log = kept or self._open(key)
                try:
                    output = await log.read(offset, limit)
                except BackendUnavailable:
                    await self._close(key)
                    raise
                if output is not None:
                    return output
                await self._close(key)
                if kept is None and (log.follows or key not in self._running):
                    return Output((), offset)  # it was opened for this, and has no more

    async def close(self, name: str | None = None) -> None:
        """Let go of an attempt's, or of all."""
        for key in [key for key in self._logs if name in (None, key[0])]:
            await self._close(key)
        for key in [key for key in self._turns if name in (None, key[0])]:
            if not self._turns[key].locked():
                del self._turns[key]

    def _open(self, key: Key) -> Log:
        name, rank = key

        def told() -> None:
            if self._told is not None:
                self._told(name, rank)

        worker = self._native.names(name).worker(rank)
        log = Log(self._native.engine, worker, follows=key in self._running, told=told)
        self._logs[key] = log
        return log

    async def _close(self, key: Key) -> None:
        if (log := self._logs.pop(key, None)) is not None:
            await log.close()
