"""Points on their way: checked as they are logged, packed into columns, and shown as logMetrics takes them.

What `rungraph.log` costs its caller is `Intake.add`: a tuple a point, put at the end of a deque, which needs no
lock, so that neither a signal handler nor a fork can find one taken. Everything else happens in threads of
reporter.py.
"""

import json
import operator
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MOST_WAITING = 200_000
"""Points that wait in memory; 30 MB of it."""
BATCH_POINTS = 5_000
BATCH_SERIES = 500
LONGEST_NAME = 250
MOST_EXACT = 2**53 - 1
"""Steps travel as JSON numbers, which are exact up to here."""
MOST_NAMES = 10_000
"""Names that are remembered as sound."""

NON_FINITE = {"inf": "POSITIVE_INFINITY", "-inf": "NEGATIVE_INFINITY", "nan": "NAN"}
_LENGTH = struct.Struct("<I")

Point = tuple[str, float, int | None, int]
"""Name, value, step (None: the series goes on), microseconds since the epoch."""


class Wrong(ValueError):
    """Something that cannot be logged: which metric, what it is, and the rule."""


class Intake:
    """What was logged and waits for a thread to take it, bounded."""

    def __init__(self, complain: Callable[[str, Wrong], None], most: int = MOST_WAITING) -> None:
        self.waiting: deque[Point] = deque()
        self.dropped = 0
        self._most = most
        self._complain = complain
        self._sound: set[str] = set()

    def add(self, metrics: Mapping[str, Any], step: Any) -> None:
        """Take values as they are now; what cannot be taken is complained of, and the rest is."""
        now = time.time_ns() // 1000
        if step is not None and (type(step) is not int or not -MOST_EXACT <= step <= MOST_EXACT):
            try:
                step = whole(step)
            except Wrong as wrong:
                self._complain("step", wrong)
                return
        sound, append = self._sound, self.waiting.append
        if len(self.waiting) + len(metrics) > self._most:
            self.dropped += len(metrics)
            return
        for name, value in metrics.items():
            if type(value) is not float or name not in sound:
                try:
                    name, value = self._checked(name, value)
                except Wrong as wrong:
                    self._complain(str(name), wrong)
                    continue
            append((name, value, step, now))

    def _checked(self, name: Any, value: Any) -> tuple[str, float]:
        if name not in self._sound:
            check_name(name)
            if len(self._sound) < MOST_NAMES:
                self._sound.add(name)
        return name, value if type(value) is float else number(name, value)


def check_name(name: Any) -> None:
    """Raise Wrong unless the server will take this as a metric's name."""
    if not isinstance(name, str):
        raise Wrong(f"a metric's name is a string, not {shown(name)}")
    if not 1 <= len(name) <= LONGEST_NAME:
        raise Wrong(f"{shown(name)}: a metric's name has 1 to {LONGEST_NAME} characters")
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise Wrong(f"{shown(name)}: this name has characters that cannot be stored")


def number(name: str, value: Any) -> float:
    """A value as a float: Python's numbers, and scalars of numpy, torch and the like; raises Wrong."""
    plain = value
    try:
        if not isinstance(value, (int, float)) and callable(item := getattr(value, "item", None)):
            plain = item()  # numpy, torch, JAX: whatever has exactly one element
        if not isinstance(plain, (str, bytes, bytearray, memoryview)):
            return float(plain)
    except Exception as error:
        raise Wrong(f"{name!r}: {shown(value)} is not one number ({error})") from error
    raise Wrong(f"{name!r}: {shown(value)} is not a number")


def whole(step: Any) -> int:
    """A step as an int; raises Wrong."""
    try:
        found = int(step) if isinstance(step, float) and step.is_integer() else operator.index(step)
    except Exception as error:
        raise Wrong(f"the step {shown(step)} is not a whole number") from error
    if not -MOST_EXACT <= found <= MOST_EXACT:
        raise Wrong("a step must be within ±(2^53−1)")
    return int(found)


def shown(value: Any) -> str:
    """A value in a message: short, with its type, whatever it is."""
    kind = type(value).__name__
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - as above
        return f"a {kind}"
    return f"{text if len(text) <= 80 else text[:77] + '…'} ({kind})"


class Column:
    """Points of one metric in parallel; no steps where the series counts by itself."""

    __slots__ = ("name", "steps", "times", "values")

    def __init__(self, name: str, stepped: bool) -> None:
        self.name = name
        self.times = array("q")
        self.values = array("d")
        self.steps = array("q") if stepped else None


class Batch:
    """Points of one call to the server, at most one column a name."""

    def __init__(self) -> None:
        self.columns: dict[str, Column] = {}
        self.size = 0

    def takes(self, point: Point) -> bool:
        """Add a point; False when it belongs into the next batch."""
        name, value, step, at = point
        column = self.columns.get(name)
        if column is None:
            if len(self.columns) >= BATCH_SERIES:
                return False
            column = self.columns[name] = Column(name, step is not None)
        if self.size >= BATCH_POINTS or (column.steps is None) is not (step is None):
            return False
        column.times.append(at)
        column.values.append(value)
        if column.steps is not None:
            column.steps.append(step)  # type: ignore[arg-type]  # None is told apart above
        self.size += 1
        return True


class Slice(NamedTuple):
    """Some points of one column."""

    column: Column
    first: int
    last: int


def pack(batch: Batch) -> bytes:
    """A batch as it lies in a spool: what it has, as JSON, and the columns as this machine keeps numbers."""
    columns = [column for column in batch.columns.values() if column.values]
    head = json.dumps([[c.name, len(c.values), c.steps is not None] for c in columns]).encode()
    parts = [_LENGTH.pack(len(head)), head]
    for column in columns:
        parts += [column.times.tobytes(), column.values.tobytes()]
        parts += [] if column.steps is None else [column.steps.tobytes()]
    return b"".join(parts)


def unpack(data: bytes) -> list[Slice]:
    """The columns of a packed batch, each whole."""
    (length,) = _LENGTH.unpack_from(data)
    at = _LENGTH.size + length
    found = []
    for name, count, stepped in json.loads(data[_LENGTH.size : at]):
        column = Column(name, stepped)
        for numbers in (column.times, column.values, column.steps):
            if numbers is not None:
                numbers.frombytes(data[at : at + 8 * count])
                at += 8 * count
        found.append(Slice(column, 0, count))
    return found


def halves(slices: list[Slice]) -> tuple[list[Slice], list[Slice]]:
    """The points in two lots of one size, in order."""
    size = count(slices)
    left: list[Slice] = []
    right: list[Slice] = []
    room = size // 2
    for one in slices:
        cut = min(one.last, one.first + room)
        room -= cut - one.first
        left += [one._replace(last=cut)] if cut > one.first else []
        right += [one._replace(first=cut)] if cut < one.last else []
    return left, right


def count(slices: list[Slice]) -> int:
    """How many points."""
    return sum(one.last - one.first for one in slices)


def series(slices: list[Slice]) -> list[dict[str, Any]]:
    """As the `series` of logMetrics."""
    return [_series(*one) for one in slices]


def _series(column: Column, first: int, last: int) -> dict[str, Any]:
    values: list[float | None] = list(column.values[first:last])
    given: dict[str, Any] = {"name": column.name, "times": column.times[first:last].tolist()}
    if column.steps is not None:
        given["steps"] = column.steps[first:last].tolist()
    # A sum is finite unless a part is not, or it overflows: what nearly every batch is spared is a look at each.
    if not -1e308 < sum(column.values[first:last]) < 1e308:
        odd = [(at, kind) for at, v in enumerate(values) if (kind := NON_FINITE.get(repr(v))) is not None]
        for at, _ in odd:
            values[at] = None
        given["nonFinite"] = [{"index": at, "kind": kind} for at, kind in odd]
    return {**given, "values": values}
