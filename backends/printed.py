"""What a job prints, told apart: metrics and log lines. Pure.

A line of standard output that is a JSON object with a "metric" of names and numbers is a batch of points;
every other line, also one that only nearly is, stays a line of the log, so nothing a job prints is lost.
Pieces without a sign of a metric are passed on as they are, however many lines they hold.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from backends.base import Piece, Stream
from db import points, texts
from db.lines import Block
from db.points import Column

_MARK = b'"metric"'
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Printed:
    """Blocks of lines and batches of points, each in the order printed."""

    blocks: list[Block] = field(default_factory=list)
    points: list[list[Column]] = field(default_factory=list)


def parse(pieces: Iterable[Piece]) -> Printed:
    """Tell metrics from log lines; what a series gets is in the order printed."""
    blocks: list[Block] = []
    gathered = _Gathered()
    broken = {Stream.STDOUT: False, Stream.STDERR: False}
    for piece in pieces:
        stream, time_us, data, continued = piece.stream, piece.time_us, piece.data, piece.continued
        if stream is Stream.USAGE:
            gathered.take(data, time_us)
            continue
        ends = broken[stream]
        broken[stream] = continued
        if ends and (not continued or b"\n" in data):
            # It ends a line that has been told in pieces, which is no line of its own when nothing is left.
            end, newline, data = data.partition(b"\n")
            if end:
                blocks.append(Block(time_us, int(stream), end))
            if not newline:
                continue
            ends = False
        if _MARK not in data or ends or stream is not Stream.STDOUT:
            blocks.append(Block(time_us, int(stream), data))
        else:
            kept = _without_metrics(data, time_us, gathered, cut=continued)
            if kept is not None:
                blocks.append(Block(time_us, int(stream), kept))
    return Printed(blocks, gathered.batches())


def _without_metrics(data: bytes, time_us: int, gathered: "_Gathered", *, cut: bool) -> bytes | None:
    """The lines of a piece that are no metrics; of one that is `cut`, the last goes on in the next piece."""
    lines = data.split(b"\n")
    whole = lines[:-1] if cut else lines
    kept = [line for line in whole if _MARK not in line or not gathered.take(line, time_us)]
    if cut:
        kept.append(lines[-1])
    return b"\n".join(kept) if kept else None


class _Gathered:
    """Points in the order printed, in batches that have each series once.

    A series whose points begin or cease to tell their step begins another batch: without a step, a point goes
    on where the series stands.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, _Series]] = []
        self._series: dict[str, _Series] = {}

    def take(self, line: bytes, time_us: int) -> bool:
        """Take a line's points; False when it is no line of metrics."""
        document = _document(line)
        if document is None:
            return False
        values, step = document.get("metric"), document.get("step")
        if not isinstance(values, dict) or not values or len(values) > points.MOST_SERIES:
            return False
        if step is not None and (type(step) is not int or abs(step) > points.MAX_INT64):
            return False
        for name, value in values.items():
            if type(value) is not float and not (type(value) is int and abs(value) < 2**1023):
                return False
            if name not in self._series and not _is_name(name):
                return False
        series = self._room(values, stepped=step is not None)
        for name, value in values.items():
            series[name].add(value, step, time_us)
        return True

    def batches(self) -> list[list[Column]]:
        """What was taken."""
        return [[series.column(name) for name, series in batch.items()] for batch in self._batches]

    def _room(self, values: dict[str, Any], *, stepped: bool) -> "dict[str, _Series]":
        """The series to add to, those that are new among them."""
        known = self._series
        new = [name for name in values if name not in known]
        fits = len(known) + len(new) <= points.MOST_SERIES
        if not self._batches or not fits or any(known[n].stepped != stepped for n in values if n in known):
            known = self._series = {}
            self._batches.append(known)
            new = list(values)
        for name in new:
            known[name] = _Series(stepped=stepped)
        return known


class _Series:
    """Points of one metric."""

    def __init__(self, *, stepped: bool) -> None:
        self.stepped = stepped
        self._values: list[float] = []
        self._steps: list[int] = []
        self._times: list[int] = []

    def add(self, value: float, step: int | None, time_us: int) -> None:
        self._values.append(value)
        self._times.append(time_us)
        if step is not None:
            self._steps.append(step)

    def column(self, name: str) -> Column:
        steps = np.array(self._steps, np.int64) if self.stepped else None
        return Column(name, np.array(self._times, np.int64), np.array(self._values, np.float64), steps)


def _document(line: bytes) -> dict[str, Any] | None:
    text = line.strip()
    if not text.startswith(b"{") or len(text) > _MOST_BYTES:
        return None
    try:
        found = orjson.loads(text)
    except ValueError:
        try:
            found = json.loads(text)  # for NaN and Infinity
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 250 and texts.is_storable(name)
