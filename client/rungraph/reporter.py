"""One run that reports: what was logged goes from memory to disk in one thread, from disk to the server in another.

So a server that hangs keeps nothing from the disk, and a disk that hangs keeps nobody from logging. The caller
waits for neither, except in `flush` and `close`, and there no longer than it says. Both threads are daemons and
begin with the first point. A forked child begins anew, under a producer of its own.
"""

import atexit
import logging
import os
import queue
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from rungraph import spool
from rungraph.points import Batch, Intake, Wrong, pack
from rungraph.sender import Sender, Target
from rungraph.spool import Spool

TICK_SECONDS = 0.2
LINGER_SECONDS = 1.0
"""Batches are larger, and fewer, while the server does not keep up."""
EXIT_SECONDS, JOB_EXIT_SECONDS = 15.0, 60.0
"""What an ending process gives its last points; a fifth of it to a server that never answered. More in a job, whose
spool ends with it."""
TERMINATED_SECONDS = 4.0
"""After SIGTERM: less than the grace that is usual before SIGKILL."""
MOST_TOLD = 100

log = logging.getLogger("rungraph")


class Reporter:
    """Takes points of one run from any thread, and sees to the rest."""

    def __init__(self, target: Target, *, strict: bool = False, owns: bool = True) -> None:
        self.target = target
        self._strict = strict
        self._owns = owns
        self._told: set[str] = set()
        self._begin()
        _reporters.add(self)

    def _begin(self) -> None:
        self._intake = Intake(self._complain)
        self.add = self._intake.add
        self.sender = Sender(self.target, self._tell)
        self._spool = Spool(self.target.folder, lambda message: self._tell("disk", message))
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asked = self._answered = 0
        self._batch = Batch()
        self._batch_at = 0.0
        self._lost = 0
        self._closing = self._kept = self._closed = False
        self._ends = self._owns and self.target.create is not None
        """Whether its end is the run's: of one that is made here, or when somebody says so."""
        self._threads: list[threading.Thread] = []
        self._starting = threading.RLock()

    def log(self, metrics: Any, step: Any, values: dict[str, Any]) -> None:
        """Take these points; never raises unless strict."""
        if not self._threads:
            self.start()
        if metrics is not None:
            try:
                self.add({**metrics, **values} if values else metrics, step)
            except Wrong:
                raise
            except Exception as error:  # noqa: BLE001 - a stranger's mapping may raise anything
                self._complain("metrics", Wrong(f"metrics are a mapping of names to numbers ({error!r})"))
        elif values:
            self.add(values, step)

    def start(self) -> None:
        """Begin both threads, once."""
        with self._starting:
            if self._threads or self._closed:
                return
            self.sender.spools.append(self._spool)
            made = [
                threading.Thread(target=work, name=f"rungraph-{name}", daemon=True)
                for name, work in (("spool", self._keep), ("send", self._send))
            ]
            try:
                for thread in made:
                    thread.start()
            except RuntimeError as error:  # the interpreter is about to end
                self._tell("threads", f"nothing can be sent any more: {error}")
                self._closed = True
                return
            self._threads = made
        _listen()

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until the server has everything that was logged so far; False when it has not by then."""
        return self._settle(time.monotonic() + seconds)

    def end(self, ending: dict[str, Any], seconds: float | None = None) -> bool:
        """Close a run that nobody launched, as it ended; a job ends when its process does, and is only flushed."""
        if self.target.create is not None or self.target.heartbeat_seconds is not None:
            self._ends = self._owns
            return self.close(seconds, ending)
        return self.flush(self._patience() if seconds is None else seconds)

    def close(self, seconds: float | None = None, ending: dict[str, Any] | None = None) -> bool:
        """Send what is left, and how the run ended; False when the server did not get it all in time."""
        if self._closed:
            return True
        if ending is not None and self._ends:
            self.start()
        if not self._threads:
            self._closed = True
            return True
        if seconds is None:
            seconds = self._patience()
        deadline = time.monotonic() + seconds
        self.add = self._too_late
        self._drained(deadline)
        self._adopt()
        if self._ends:
            self.sender.ending = ending
        self._closing = True
        self._calls.put(None)
        while self._threads[1].is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._closed = True
        return self._tell_rest()

    def share(self, seconds: float = 10.0) -> tuple[str, str | None, str, int]:
        """What another process of this machine needs to report to the same run: targets.shared takes it."""
        if self.target.create is not None:
            self.start()
            deadline = time.monotonic() + seconds
            while self.sender.token is None and time.monotonic() < deadline and not self.sender.refused:
                time.sleep(0.005)
        return self.target.url, self.sender.token, str(self.target.folder), self.target.rank

    def forked(self) -> None:
        """In a forked child: what the parent has logged and opened is the parent's."""
        for each in list(self.sender.spools):
            each.abandon()
        self._spool.abandon()
        closed, self._owns = self._closed, False
        self.target = self.target._replace(heartbeat_seconds=None)
        self._begin()
        self._closed = closed

    def _too_late(self, metrics: Any, step: Any) -> None:
        self._tell("late", f"{', '.join(map(str, metrics))}: logged after the end, and left out")

    def _settle(self, deadline: float) -> bool:
        if not self._threads:
            return True
        self._drained(deadline)
        self.sender.hurry()
        while self.sender.pending() and not self.target.offline and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.sender.pending() and not self.sender.refused and not self._lost

    def _drained(self, deadline: float) -> None:
        """Wait until what was logged so far lies in the spool."""
        self._asked += 1
        asked = self._asked
        self._calls.put(None)
        while self._answered < asked and time.monotonic() < deadline and self._threads[0].is_alive():
            time.sleep(0.001)

    def _patience(self) -> float:
        seconds = JOB_EXIT_SECONDS if self._is_launched() else EXIT_SECONDS
        return seconds if self.sender.reached or not self._owns else seconds / 5

    def _is_launched(self) -> bool:
        return self.target.create is None and self.target.heartbeat_seconds is None and self._owns

    def _tell_rest(self) -> bool:
        left = sum(map(len, list(self.sender.spools)))
        unsaid = self.sender.ending is not None and not self.sender.finished
        if not self.sender.refused and not self.target.offline and (left or unsaid):
            if self.target.create is not None and self._owns:
                self.sender.keep()
            self._tell("left", f"{left} batches have not reached {self.target.url}: they wait in {self.target.folder}"
                       " for the next process of this run, or `rungraph run sync`")  # fmt: skip
        if self._lost or self._intake.dropped:
            self._tell("lost", f"{self._lost + self._intake.dropped} points were left out, for want of room")
        if not self._threads[1].is_alive():
            self._spool.close()
            self.sender.tidy()
        return not left and not unsaid and not self.sender.refused and not self._lost

    def _keep(self) -> None:
        """The first thread: from memory to the spool."""
        while True:
            asked, closing = self._asked, self._closing
            self._drain(asked != self._answered or closing)
            self._answered = asked
            if closing:
                self._kept = True
                self.sender.hurry()
                return
            with suppress(queue.Empty):
                self._calls.get(timeout=TICK_SECONDS)

    def _drain(self, whole: bool) -> None:
        waiting = self._intake.waiting
        for _ in range(len(waiting)):
            point = waiting.popleft()
            if not self._batch.takes(point):
                self._seal()
                self._batch.takes(point)
            if self._batch.size == 1:
                self._batch_at = time.monotonic()
        lingers = len(self._spool) > 1 and time.monotonic() - self._batch_at < LINGER_SECONDS
        if self._batch.size and (whole or not lingers):
            self._seal()
        if self._intake.dropped:
            self._tell("fast", "points come faster than they can be kept: some are left out")

    def _seal(self) -> None:
        batch, self._batch = self._batch, Batch()
        if self.sender.refused:
            return
        if not self._spool.append(pack(batch)):
            self._lost += batch.size
            self._tell(
                "full", f"{self.target.folder} is full: points are left out until the server answers again"
            )
        self.sender.wake()

    def _send(self) -> None:
        """The second thread: from the spools to the server."""
        self._adopt()
        if not self.target.offline:
            self.sender.work(lambda: self._kept)

    def _adopt(self) -> None:
        """Take over what processes of this run left that have ended, before it or among its children."""
        if self._owns:
            left = spool.orphans(self.target.folder, lambda message: self._tell("orphan", message))
            self.sender.spools.extendleft(reversed(list(left)))

    def _complain(self, about: str, wrong: Wrong) -> None:
        if self._strict:
            raise wrong
        self._tell(f"wrong {about}", f"{wrong}; it is left out")

    def _tell(self, about: str, message: str) -> None:
        """A warning, once for each thing."""
        if about in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(about)
        log.warning("rungraph: %s", message)


class Silence(Reporter):
    """Takes everything and keeps nothing: where there is no server, or another rank reports."""

    def __init__(self) -> None:
        super().__init__(Target("", None, Path(os.devnull)))

    def log(self, metrics: Any, step: Any, values: dict[str, Any]) -> None:
        """Nothing."""

    def start(self) -> None:
        """Nothing to start."""


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()
_listening: set[int] = set()


def close_all(seconds: float | None = None, ending: dict[str, Any] | None = None) -> None:
    """Send what every reporter of this process has."""
    for each in list(_reporters):
        each.close(seconds, ending or _ending())


def _ending() -> dict[str, Any]:
    """How a process ends that says nothing itself: failed when an exception has come through."""
    error = getattr(sys, "last_value", None)
    if error is None:
        return {"state": "SUCCEEDED"}
    return {"state": "FAILED", "message": f"{type(error).__name__}: {error}"[:10_000]}


def _listen() -> None:
    """Be told of the end of this process, however it ends, if it does so by itself or politely."""
    if os.getpid() in _listening:
        return
    if not _listening:
        atexit.register(close_all)
    _listening.add(os.getpid())
    processes, ends = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if processes is not None and ends is not None and processes.parent_process() is not None:
        ends.Finalize(None, close_all, exitpriority=100)  # these processes end without atexit
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: Any) -> None:
    """Send what there is, and end as if nobody had listened; leave that to others who listen too."""
    if signal.getsignal(signal.SIGTERM) is not _terminated:
        for each in list(_reporters):
            each.sender.hurry()
        return
    close_all(TERMINATED_SECONDS, {"state": "CANCELLED", "message": "ended by SIGTERM"})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _forked() -> None:
    for each in list(_reporters):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
