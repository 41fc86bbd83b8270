"""How an attempt of the fake backend stands at a moment: computed, never kept.

What its workers do follows from their scripts (`scripts.py`), when from the moment of its launch, and what came
between from the asks that were noted since: to stop, to stand still, or that fate took it. So everybody who
reads the same notes sees the same output, the same times and the same end. Nothing here touches a disk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from backends import base, scripts
from backends.base import EndReason, Piece, Stream

HELD_BYTES = 1 << 16
"""A line longer than this goes on in another piece."""
NODE = "nowhere"


@dataclass
class Asks:
    """What was asked of an attempt since its launch. Moments are seconds since the epoch."""

    stops: list[tuple[float, float]] = field(default_factory=list)
    """When, and the grace in seconds."""
    pauses: list[tuple[float, float | None]] = field(default_factory=list)
    """From when until when it stood still; None: still."""
    strikes: list[tuple[float, str, str]] = field(default_factory=list)
    """When, the reason it ends with, and in what words."""

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Asks":
        return cls(
            [(at, grace) for at, grace in record.get("stops", ())],
            [(since, until) for since, until in record.get("pauses", ())],
            [(at, reason, words) for at, reason, words in record.get("strikes", ())],
        )


class Clock:
    """A script's seconds and the world's: they stand still when it does, and may run faster."""

    def __init__(self, began: float, speed: float, asks: Asks) -> None:
        self._began = began
        self._speed = speed
        self._pauses: list[tuple[float, float]] = []
        for since, until in sorted(asks.pauses, key=lambda pause: pause[0]):
            # Who is asked to end goes on to hear of it.
            ends = [until if until is not None else math.inf, *(at for at, _ in asks.stops if at >= since)]
            if min(ends) > max(since, began):
                self._pauses.append((max(since, began), min(ends)))

    def inside(self, moment: float) -> float:
        """The script's second at a moment; negative before it has begun."""
        stood = sum(max(0.0, min(until, moment) - since) for since, until in self._pauses if since < moment)
        return (moment - self._began - stood) * self._speed

    def outside(self, second: float) -> float:
        """The moment of a script's second."""
        moment = self._began + second / self._speed
        for since, until in self._pauses:
            if since >= moment:
                break
            moment += until - since
        return moment


@dataclass(frozen=True)
class Notes:
    """A launch as it was noted."""

    name: str
    at: float
    speed: float
    before: scripts.Before
    plays: tuple[scripts.Play, ...]


@dataclass(frozen=True)
class Ending:
    """How and in which second of its script an attempt ends, with the second of each worker's end."""

    at: float
    reason: str
    code: int | None
    message: str | None
    seconds: tuple[float, ...]
    codes: tuple[int | None, ...]


class History:
    """One attempt, as its notes have it."""

    def __init__(self, notes: Notes, asks: Asks) -> None:
        self.notes = notes
        self.began = notes.at + notes.before.late_seconds / notes.speed
        self._clock = Clock(self.began if self.began < math.inf else notes.at, notes.speed, asks)
        self._over = self._before_start(asks)
        self._ending = None if self._over else self._end(asks)

    def started(self, now: float) -> bool:
        """Whether its workers have been there by now."""
        return self.began <= now and not (self._over is not None and self._over.at_us <= _us(self.began))

    def ended(self, now: float) -> base.Ended | None:
        """How it ended, if it has by now."""
        if self._over is not None:
            return self._over if self._over.at_us <= _us(now) else None
        ending = self._ending
        assert ending is not None
        if math.inf in (self.began, ending.at) or (moment := self._clock.outside(ending.at)) > now:
            return None
        codes = {rank: code for rank, code in enumerate(ending.codes) if code is not None}
        return base.Ended(
            self.notes.name, EndReason(ending.reason), ending.code, codes, ending.message, _us(moment)
        )

    def waits(self, now: float) -> base.Waiting | None:
        """Why it has not started by now, if it is to."""
        words = self.notes.before.words
        if words is None or self.began <= now or self._over is not None:
            return None
        return base.Waiting(self.notes.name, words)

    def workers(self) -> list[base.WorkerStarted]:
        """Its workers, each as it is told to have started."""
        return [
            base.WorkerStarted(self.notes.name, rank, NODE, f"{self.notes.name}-{rank}", _us(self.began))
            for rank in range(len(self.notes.plays))
        ]

    def next_change(self, now: float) -> float:
        """The moment of whatever happens next after now; `math.inf` if nothing will."""
        if self.began > now:
            return min(self.began, self._over.at_us / 1e6 if self._over else math.inf)
        if self._ending is None:
            return math.inf
        inside = self._clock.inside(now)
        seconds = [said.at for play in self.notes.plays for said in play.said if said.at > inside]
        return min(
            (self._clock.outside(at) for at in (*seconds, self._ending.at) if at < math.inf), default=math.inf
        )

    def pieces(self, rank: int, now: float) -> list[Piece]:
        """All that a worker has printed by now, in whole pieces: a later answer begins with an earlier one."""
        if not self.started(now) or self._ending is None or rank >= len(self.notes.plays):
            return []
        inside, ends = self._clock.inside(now), self._ending.seconds[rank]
        assembled = _Assembly()
        for (at, stream), said in groupby(self.notes.plays[rank].said, lambda said: (said.at, said.stream)):
            if at > min(inside, ends):
                break
            data = b"".join(each.data for each in said)
            assembled.take(stream, _us(self._clock.outside(at)), data)
        if ends <= inside:
            assembled.finish(_us(self._clock.outside(ends)))
        return assembled.pieces

    def wrote(self) -> list[scripts.Wrote]:
        """The outputs of all its workers, until each ended."""
        if self._ending is None:
            return []
        found = zip(self.notes.plays, self._ending.seconds, strict=True)
        return [each for play, ends in found for each in play.wrote if each.at <= ends]

    def _before_start(self, asks: Asks) -> base.Ended | None:
        """How it ends if it never starts."""
        image, at = self.notes.before.image, min((at for at, _ in asks.stops), default=math.inf)
        struck = min(asks.strikes, default=(math.inf, "", ""))
        if struck[0] < min(at, self.began):
            return base.Ended(self.notes.name, EndReason(struck[1]), None, {}, struck[2], _us(struck[0]))
        if at < self.began:
            words = "stopped before it started"
            return base.Ended(self.notes.name, EndReason.EXIT_CODE, None, {}, words, _us(at))
        if image is None or self.began == math.inf:
            return None
        words = f"the image {image} cannot be had"
        return base.Ended(self.notes.name, EndReason.IMAGE_UNAVAILABLE, None, {}, words, _us(self.began))

    def _end(self, asks: Asks) -> Ending:
        own = [_alone(play, self._stops(asks)) for play in self.notes.plays]
        struck = [(self._clock.inside(at), reason, words) for at, reason, words in asks.strikes]
        first = min(
            (at for at, reason, _ in own if reason != scripts.COMPLETED),
            default=max(at for at, _, _ in own),
        )
        if struck and min(struck)[0] < first:
            at, reason, words = min(struck)
            return Ending(
                at, reason, None, words, tuple(min(at, each) for each, _, _ in own), (None,) * len(own)
            )
        if all(reason == scripts.COMPLETED for _, reason, _ in own):
            return Ending(first, scripts.COMPLETED, 0, None, tuple(at for at, _, _ in own), (0,) * len(own))
        decided = next(
            rank for rank, (at, reason, _) in enumerate(own) if at == first and reason != scripts.COMPLETED
        )
        _, reason, code = own[decided]
        codes = tuple(
            code if at <= first else play.polite if play.polite is not None else -scripts.SIGKILL
            for play, (at, _, code) in zip(self.notes.plays, own, strict=True)
        )
        at = max(min(at, first) for at, _, _ in own)
        return Ending(
            at, reason, code, self._words(decided, code), tuple(min(at, first) for at, _, _ in own), codes
        )

    def _stops(self, asks: Asks) -> list[tuple[float, float]]:
        """When it is asked to end and when it is forced, in its own seconds."""
        inside = self._clock.inside
        return [(inside(at), inside(at + grace)) for at, grace in asks.stops]

    def _words(self, rank: int, code: int | None) -> str | None:
        """As a process's end is told on this machine."""
        many = len(self.notes.plays) > 1
        where = f"rank {rank}: " if many else ""
        if code is None:
            return f"{where}taken away" if many else "taken away"
        if code < 0:
            return f"{where}killed by signal {-code}"
        return f"{where}exited with {code}" if many else None


def _alone(play: scripts.Play, stops: Sequence[tuple[float, float]]) -> tuple[float, str, int | None]:
    """When and how a worker ends if the others let it."""
    reason = play.reason or scripts.COMPLETED
    if not stops:
        return play.at, reason, play.code
    if play.polite is None:
        ends, code = min(forced for _, forced in stops), -scripts.SIGKILL
    else:
        ends, code = min(asked for asked, _ in stops), play.polite
    if play.at <= ends:
        return play.at, reason, play.code
    return ends, scripts.EXIT_CODE if code else scripts.COMPLETED, code


class _Assembly:
    """Makes pieces of whole lines from what was printed."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._held = {scripts.STDOUT: b"", scripts.STDERR: b""}

    def take(self, stream: int, time_us: int, data: bytes) -> None:
        data = self._held[stream] + data
        while (end := data.rfind(b"\n", 0, HELD_BYTES)) >= 0 or len(data) > HELD_BYTES:
            cut = end if end >= 0 else HELD_BYTES
            self.pieces.append(Piece(Stream(stream), time_us, data[:cut], end < 0))
            data = data[cut + 1 :] if end >= 0 else data[cut:]
        self._held[stream] = data

    def finish(self, time_us: int) -> None:
        for stream, data in self._held.items():
            if data:
                self.pieces.append(Piece(Stream(stream), time_us, data))


def _us(moment: float) -> int:
    return round(moment * 1e6)
