"""The logs of an engine's workers that are being read: a stream each, kept between two reads. Part of `docker.py`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from backends.base import BackendUnavailable, Output
from backends.container_logs import Log
from backends.docker_native import Native

Key = tuple[str, int]


class Logs:
    """By attempt and rank. Of what runs and is watched, what is printed comes by itself; the past is read beside."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._live: dict[Key, Log] = {}
        self._past: dict[Key, Log] = {}
        self._ended: set[Key] = set()
        self._turns: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told: Callable[[str, int], None] | None = None

    def follow(self, told: Callable[[str, int], None] | None) -> None:
        """Say from now on what has more; None to nobody."""
        self._told = told

    def run(self, name: str, rank: int) -> None:
        """A worker runs: what it prints is to come by itself."""
        key = name, rank
        if key not in self._live or self._live[key].is_over:
            self._live[key] = self._open(key, follows=True)

    def end(self, name: str, rank: int) -> None:
        """A worker has ended: all of its log is there to be read."""
        self._ended.add((name, rank))

    async def read(self, key: Key, offset: int, limit: int) -> Output:
        """From an offset, by the stream that is there or by a new one."""
        async with self._turns[key]:
            if key in self._ended:
                # The engine ends a stream that follows before the last lines have come.
                await self._close(self._live, key)
            elif (live := self._live.get(key)) is not None:
                output = await self._read(self._live, key, live, offset, limit)
                if output is not None:
                    return output
            while True:
                kept = self._past.get(key)
                past = self._past[key] = kept or self._open(key, follows=False)
                output = await self._read(self._past, key, past, offset, limit)
                if output is not None:
                    return output
                await self._close(self._past, key)
                if kept is None:  # it was opened for this, and has no more
                    return Output((), offset)

    async def close(self, name: str | None = None) -> None:
        """Let go of an attempt's, or of all."""
        for logs in (self._live, self._past):
            for key in [key for key in logs if name in (None, key[0])]:
                await self._close(logs, key)
        self._ended = {key for key in self._ended if name not in (None, key[0])}
        for key in [key for key in self._turns if name in (None, key[0])]:
            if not self._turns[key].locked():
                del self._turns[key]

    async def _read(self, logs: dict[Key, Log], key: Key, log: Log, offset: int, limit: int) -> Output | None:
        try:
            return await log.read(offset, limit)
        except BackendUnavailable:
            await self._close(logs, key)
            raise

    def _open(self, key: Key, *, follows: bool) -> Log:
        name, rank = key

        def told() -> None:
            if follows and self._told is not None:
                self._told(name, rank)

        worker, ended = self._native.names(name).worker(rank), key in self._ended
        return Log(self._native.engine, worker, follows=follows, ended=ended, told=told)

    async def _close(self, logs: dict[Key, Log], key: Key) -> None:
        if (log := logs.pop(key, None)) is not None:
            await log.close()
