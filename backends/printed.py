"""What a job prints, told apart: metrics and log lines. Pure.

A line of standard output that is a JSON object with a "metric" of names and numbers is a batch of points;
every other line, also one that only nearly is, stays a line of the log, so nothing a job prints is lost.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from backends.base import Piece, Stream
from db import logs, points
from db.logs import Line
from db.points import Column

_MARK = b'"metric"'
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines and batches of points, each in the order printed."""

    lines: list[Line] = field(default_factory=list)
    points: list[list[Column]] = field(default_factory=list)


def parse(pieces: Iterable[Piece]) -> Printed:
    """Tell metrics from log lines; lines of metrics that follow one another in one shape make one batch."""
    printed = Printed()
    gathered: list[_Point] = []
    broken = {Stream.STDOUT: False, Stream.STDERR: False}
    for piece in pieces:
        goes_on = broken[piece.stream]
        broken[piece.stream] = piece.continued
        lines = piece.data.split(b"\n")
        for index, line in enumerate(lines):
            ends = index == 0 and goes_on
            if ends and not line and not (piece.continued and len(lines) == 1):
                continue  # it only ends a line that has been told in pieces
            part = ends or (piece.continued and index == len(lines) - 1)
            point = _point(line, piece) if not part and piece.stream is Stream.STDOUT else None
            if point is not None:
                gathered.append(point)
            else:
                printed.lines.append(Line(piece.time_us, int(piece.stream), logs.text_of(line)))
    printed.points.extend(_batches(gathered))
    return printed


@dataclass(frozen=True, slots=True)
class _Point:
    values: dict[str, float]
    step: int | None
    time_us: int


def _point(line: bytes, piece: Piece) -> _Point | None:
    text = line.strip()
    if not text.startswith(b"{") or _MARK not in text or len(text) > _MOST_BYTES:
        return None
    try:
        # The standard library's reader, for NaN and Infinity.
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values, step = document.get("metric"), document.get("step")
    if not isinstance(values, dict) or not values or len(values) > points.MOST_SERIES:
        return None
    if step is not None and (type(step) is not int or abs(step) > points.MAX_INT64):
        return None
    if not all(_is_metric(name, value) for name, value in values.items()):
        return None
    return _Point({name: float(value) for name, value in values.items()}, step, piece.time_us)


def _is_metric(name: str, value: object) -> bool:
    if not 1 <= len(name) <= 250 or "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        return False
    if type(value) is int:
        return abs(value) < 2**1023
    return type(value) is float


def _batches(points: list[_Point]) -> Iterable[list[Column]]:
    """Points in the order printed; a run of points of one shape becomes one batch."""
    group: list[_Point] = []
    for point in points:
        if group and _shape(group[0]) != _shape(point):
            yield _columns(group)
            group = []
        group.append(point)
    if group:
        yield _columns(group)


def _shape(point: _Point) -> tuple[object, ...]:
    return (point.step is None, *point.values)


def _columns(group: list[_Point]) -> list[Column]:
    times = np.array([point.time_us for point in group], np.int64)
    stepped = group[0].step is not None
    steps = np.array([point.step for point in group], np.int64) if stepped else None
    return [
        Column(name, times, np.array([point.values[name] for point in group], np.float64), steps)
        for name in group[0].values
    ]
