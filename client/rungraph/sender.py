"""Sends what a reporting run has: makes the run if it is to be made, batches in order, heartbeats, and its end.

A batch goes under the number it got in its spool, as often as it takes, so that the server keeps it once. A
server that is away is asked again, less and less often; one that refuses for good is not asked again.
"""

import json
import os
import queue
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rungraph import points
from rungraph.spool import Spool
from rungraph.wire import Away, Refused, TooMuch, Wire

CREATE = """mutation CreateRun($input: CreateRunInput!) {
  createRun(input: $input) { run { id } job { id } token errors { code message path retryable } } }"""
LOG = """mutation LogMetrics($input: LogMetricsInput!) {
  logMetrics(input: $input) { seq errors { code message path retryable } } }"""
HEARTBEAT = """mutation Heartbeat {
  heartbeat(input: {}) { cancelRequested errors { code message path retryable } } }"""
FINISH = """mutation FinishRun($input: FinishRunInput!) {
  finishRun(input: $input) { run { id } errors { code message path retryable } } }"""

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_HURRIED = 0.2, 30.0, 0.5
MOST_FAULTS = 30
"""How often one batch may make the server stumble until it is put aside; a quarter of an hour."""
CHANCE = random.Random()
"""Our own: training is repeatable only while nobody else draws from the numbers that it has seeded."""
ABOUT = "run.json"


class Target(NamedTuple):
    """Where reports go, and what is kept of them beside the spools."""

    url: str
    token: str | None
    folder: Path
    rank: int = 0
    heartbeat_seconds: float | None = None
    """None: nothing waits for a sign of life, because the job is launched by the server."""
    create: dict[str, Any] | None = None
    """The input of createRun, where the run is made here; `token` is then that of a person."""
    offline: bool = False
    """There is no network to it: what is kept in the folder is sent by whoever launched us."""


class Sender:
    """One thread's work; `turn` is one piece of it."""

    def __init__(self, target: Target, tell: Callable[[str, str], None]) -> None:
        self.target = target
        self.spools: deque[Spool] = deque()
        self.ending: dict[str, Any] | None = None
        """The input of finishRun, once it is known and everything else has been handed over."""
        self.run_id: str | None = None
        self.cancel_requested = False
        self.refused = False
        self.reached = False
        self.finished = False
        self.token = None if target.create is not None else target.token
        """Of the run, once it is made."""
        self._heartbeat = target.heartbeat_seconds
        self._beat_at = 0.0
        self._tell = tell
        self._wire = Wire(target.url)
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._faults = 0
        self._away = 0
        self._hurried = False

    def wake(self) -> None:
        """There is something to send."""
        if self._wake.empty():
            self._wake.put(None)

    def hurry(self) -> None:
        """Somebody waits: ask a server that was away again at once. May be called from a signal handler."""
        self._hurried = True
        self._wake.put(None)

    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return not self.refused and any(map(len, list(self.spools)))

    def work(self, is_over: Callable[[], bool]) -> None:
        """Send, until it is over and everything is sent, or refused for good."""
        while not self.refused:
            try:
                busy = self.turn()
                self._away = 0
            except Away as away:
                self._rest(away, LONGEST_HURRIED if is_over() else LONGEST_PAUSE)
                continue
            except Refused as refused:
                self._give_up(refused)
                break
            if not busy:
                if is_over() and not self.pending() and (self.ending is None or self.finished):
                    break
                self._sleep(LONGEST_PAUSE if self._heartbeat is None else self._beat_at - time.monotonic())
        self._wire.close()

    def turn(self) -> bool:
        """The next thing to send, if there is one; raises Away, or Refused when there is no use in going on."""
        if self.token is None and self.target.create is not None:
            self._create(self.target.create)
        if self._heartbeat is not None and time.monotonic() >= self._beat_at:
            self._beat()
        while len(self.spools) > 1 and not len(self.spools[0]):
            self.spools.popleft().discard()
        for spool in list(self.spools):
            if (found := spool.first()) is not None:
                self._send(spool.producer, *found)
                spool.forget()
                return True
        if self.ending is not None and not self.finished:
            self._ask(FINISH, {"input": self.ending})
            self.finished = True
            return True
        return False

    def about(self) -> dict[str, Any]:
        """What another process needs to know to go on with this; no token of a person is among it."""
        target = self.target
        known = {"url": target.url, "token": self.token, "rank": target.rank, "create": target.create}
        return {**known, "heartbeatSeconds": target.heartbeat_seconds, "ending": self.ending}

    def keep(self) -> None:
        """Write that down beside the spools, readable by its owner alone."""
        path = self.target.folder / ABOUT
        with suppress(OSError):  # the spool has told already that nothing can be kept there
            self.target.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_name(f"{ABOUT}.{os.getpid()}")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
                json.dump(self.about(), file)
            new.replace(path)

    def tidy(self) -> None:
        """Leave no folder where nothing is left to send, unless another process of this run has something."""
        if not self.pending() and (self.ending is None or self.finished):
            with suppress(OSError):
                if not any(path.name != ABOUT for path in self.target.folder.iterdir()):
                    (self.target.folder / ABOUT).unlink(missing_ok=True)
                    self.target.folder.rmdir()

    def _create(self, wanted: dict[str, Any]) -> None:
        made = self._ask(CREATE, {"input": wanted}, token=self.target.token)
        self.run_id, self.token = made["run"]["id"], made["token"]
        self._beat_at = time.monotonic() + (self._heartbeat or 0.0)
        self.keep()

    def _beat(self) -> None:
        assert self._heartbeat is not None
        try:
            self.cancel_requested = self._ask(HEARTBEAT, {})["cancelRequested"]
        except Refused as refused:
            if refused.code != "INVALID":
                raise
            self._heartbeat = None  # the job is launched by the server, which needs none
            return
        self._beat_at = time.monotonic() + self._heartbeat

    def _send(self, producer: str, number: int, content: bytes) -> None:
        slices = points.unpack(content)
        try:
            self._log(producer, number, slices)
        except TooMuch:
            self._split(producer, number, slices)
        except Away as away:
            self._faults += away.fault
            if self._faults < MOST_FAULTS:
                raise
            self._tell(
                "fault", f"{points.count(slices)} points make the server stumble and are left out: {away}"
            )
        self._faults = 0

    def _split(self, producer: str, number: int, slices: list[points.Slice]) -> None:
        """Send half and half. The halves have numbers of a producer of their own, the same at each try."""
        if points.count(slices) < 2:
            self._tell("limit", f"{slices[0].column.name!r}: the server does not take even a single point")
            return
        parts = points.halves(slices)
        name = f"{producer}.{number}.{points.count(slices)}"
        for at, part in enumerate(parts, 1):
            try:
                self._log(name, at, part)
            except TooMuch:
                self._split(f"{producer}.{number}", at, part)

    def _log(self, producer: str, number: int, slices: list[points.Slice]) -> None:
        while slices:
            given = {"producer": producer, "number": number, "rank": self.target.rank}
            try:
                self._ask(LOG, {"input": {**given, "series": points.series(slices)}})
                return
            except Refused as refused:
                at = _series_of(refused.path)
                if refused.code not in ("INVALID", "LIMIT_EXCEEDED") or at is None or at >= len(slices):
                    raise
                # Nothing of the batch is kept; what is left of it may go under the same number.
                self._tell(
                    f"series {slices[at].column.name}", f"{slices[at].column.name!r} is refused: {refused}"
                )
                slices = slices[:at] + slices[at + 1 :]

    def _ask(self, query: str, variables: dict[str, Any], *, token: str | None = None) -> dict[str, Any]:
        answer = self._wire.ask(token or self.token, query, variables)
        self.reached = True
        return answer

    def _rest(self, away: Away, longest: float) -> None:
        """Pauses double and are jittered; only who waits for an answer cuts one short, not every new point."""
        self._away += 1
        if self._away == 3:
            self._tell("away", f"{away}; what is logged waits until it can be sent")
        ceiling = min(FIRST_PAUSE * 2 ** min(self._away, 20), longest)
        seconds = CHANCE.uniform(ceiling / 2, ceiling) if away.seconds is None else away.seconds
        until = time.monotonic() + min(seconds, LONGEST_PAUSE)
        while (left := until - time.monotonic()) > 0 and not self._hurried:
            self._sleep(left)
        self._hurried = False

    def _sleep(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._wake.get(timeout=max(0.0, min(seconds, LONGEST_PAUSE)))

    def _give_up(self, refused: Refused) -> None:
        self.refused = True
        for spool in list(self.spools):
            spool.discard()
        self._tell("refused", f"nothing more is sent: {refused}{_hint(refused)}")


def _series_of(path: list[str]) -> int | None:
    """Which series of the input a refusal is about."""
    if "series" not in path:
        return None
    after = path[path.index("series") + 1 :][:1]
    return int(after[0]) if after and after[0].isdecimal() else None


def _hint(refused: Refused) -> str:
    if refused.code == "INVALID" and refused.path[-1:] == ["job"]:
        return " (RUNGRAPH_TOKEN is a person's; make a run of this with `rungraph.run(name)`)"
    return ""
