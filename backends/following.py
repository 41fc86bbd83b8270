"""One `watch` over attempts on this machine: what is followed, and what is still to be told.

Three things say that something happened: a hint on the datagram socket (printed, started), the watcher's
pidfd (gone), and a look at every folder once a second for hints that were lost. All three only make us read
the attempt's folder, which is the truth. Part of `local.py`.
"""

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from backends import attempts, base, bounds

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 0.02


@dataclass(slots=True)
class Followed:
    """An attempt that has not been told to have ended."""

    name: str
    folder: Path
    claim: attempts.Record
    pidfd: int | None = None
    sizes: dict[int, int] | None = field(default=None)
    """Bytes of output already told, by rank; None until the start was told."""


class Following:
    """What one watcher of the adapter is told. Lives in one event loop."""

    def __init__(self, jobs: Path, machine: str) -> None:
        self._jobs = jobs
        self._machine = machine
        self._boot = attempts.boot_id()
        self._loop = asyncio.get_running_loop()
        self._followed: dict[str, Followed] = {}
        self._untold: OrderedDict[Hashable, base.Observation] = OrderedDict()
        self._news = asyncio.Event()
        self._closed = False
        self._losing: set[asyncio.Task[None]] = set()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    async def observations(self) -> AsyncIterator[base.Observation]:
        while not self._closed:
            while self._untold:
                yield self._untold.popitem(last=False)[1]
            self._news.clear()
            await self._news.wait()

    def add(self, handle: base.Handle) -> None:
        """Follow an attempt, and tell how it stands."""
        name, folder = handle["name"], self._jobs / handle["name"]
        if name in self._followed or self._closed:
            return
        if handle["machine"] != self._machine or not folder.is_dir():
            self._tell(base.Missing(name))
            return
        each = Followed(name, folder, dict(handle))
        if handle["boot"] == self._boot:
            each.pidfd = attempts.open_process(handle["pid"], handle["start"])
        self._followed[name] = each  # not before: without a descriptor to spare it can be added again
        if each.pidfd is None:
            self._gone(each)
        else:
            self._loop.add_reader(each.pidfd, self._gone, each)
            self._read(each)

    def hint(self, name: str) -> None:
        """Something happened to this attempt."""
        if (each := self._followed.get(name)) is not None:
            self._read(each)

    def close(self) -> None:
        """Stop following; whoever iterates ends."""
        self._closed = True
        self._timer.cancel()
        for task in self._losing:
            task.cancel()
        for each in self._followed.values():
            self._release(each)
        self._followed.clear()
        self._news.set()

    def _tell(self, observation: base.Observation) -> None:
        rank = getattr(observation, "rank", None)
        self._untold[type(observation), observation.name, rank] = observation
        self._news.set()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        for each in list(self._followed.values()):
            self._read(each)

    def _read(self, each: Followed) -> None:
        """Tell the start once, and whatever was printed since we looked last."""
        if each.sizes is None:
            self._read_start(each)
        for rank, told in (each.sizes or {}).items():
            with contextlib.suppress(FileNotFoundError):
                size = (each.folder / f"{rank}.frames").stat().st_size
                if each.sizes is not None and size > told:
                    each.sizes[rank] = size
                    self._tell(base.HasOutput(each.name, rank))

    def _read_start(self, each: Followed) -> None:
        record = attempts.read_record(str(each.folder / attempts.STARTED))
        if record is None:
            return
        each.sizes = {worker["rank"]: 0 for worker in record["workers"]}
        for worker in record["workers"]:
            at_us = worker["at_us"]
            self._tell(base.WorkerStarted(each.name, worker["rank"], record["node"], "127.0.0.1", at_us))

    def _gone(self, each: Followed) -> None:
        """The watcher is no more: it said how the attempt ended, or the attempt is lost."""
        self._release(each)
        with contextlib.suppress(OSError):  # too many open files, say: looked at again below
            record = attempts.read_record(str(each.folder / attempts.EXIT))
            if record is not None:
                self._ended(each, record)
                return
        task = self._loop.create_task(self._lose(each))
        self._losing.add(task)
        task.add_done_callback(self._losing.discard)

    def _release(self, each: Followed) -> None:
        if each.pidfd is not None:
            self._loop.remove_reader(each.pidfd)
            os.close(each.pidfd)
            each.pidfd = None

    def _ended(self, each: Followed, record: attempts.Record) -> None:
        self._read(each)
        del self._followed[each.name]
        codes = {int(rank): code for rank, code in record["exit_codes"].items()}
        reason = base.EndReason(record["reason"])
        self._tell(
            base.Ended(each.name, reason, record["exit_code"], codes, record["message"], record["at_us"])
        )

    async def _lose(self, each: Followed) -> None:
        """End what a dead watcher left behind, and write down for good that the attempt is lost."""
        while each.name in self._followed:
            with contextlib.suppress(OSError):  # too many open files, say: it is lost a little later
                record = attempts.read_record(str(each.folder / attempts.EXIT)) or await self._lost(each)
                if record is not None:
                    self._ended(each, record)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _lost(self, each: Followed) -> attempts.Record | None:
        """How it ended, when nobody else is finding that out just now."""
        try:
            folder = os.open(each.folder, os.O_RDONLY)
        except FileNotFoundError:
            del self._followed[each.name]
            self._tell(base.Missing(each.name))
            return None
        try:
            if not attempts.lock(folder):
                return None
            path = str(each.folder / attempts.EXIT)
            if (record := attempts.read_record(path)) is None:
                await self._end_survivors(each)
                bounds.release(str(each.folder))
                record = attempts.end_record("LOST", None, {}, self._why(each))
                with contextlib.suppress(OSError):  # a full disk must not hide what happened
                    attempts.write_record(path, record, durable=True)
            return record
        finally:
            os.close(folder)

    async def _end_survivors(self, each: Followed) -> None:
        while self._boot == each.claim["boot"]:
            left = await asyncio.to_thread(attempts.survivors, str(each.folder), each.claim)
            if not left:
                return
            attempts.kill(left)
            await asyncio.sleep(AGAIN_SECONDS)

    def _why(self, each: Followed) -> str:
        if self._boot != each.claim["boot"]:
            return "this machine was started anew while it ran"
        return "its watcher was killed"
