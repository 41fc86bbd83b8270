"""Log lines as the API shows them, and pages of them."""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, repeat
from typing import Any

import orjson
import strawberry

from db import lines, logs
from db.log_levels import LogLevel, level_of
from db.paging import Slice
from graph import enums, paging
from graph.paging import Connection
from graph.scalars import Int64, Records


class LogStream(Enum):
    """The two streams of a process."""

    STDOUT = 1
    STDERR = 2


enums.show(
    LogLevel,
    "How much a line matters, by what it says of itself.",
    DEBUG="For whoever looks for a fault.",
    INFO="All is as it should be.",
    WARNING="Something to know about.",
    ERROR="Something failed.",
    CRITICAL="It cannot go on.",
)
enums.show(LogStream, "Where a line came from.", STDOUT="Standard output.", STDERR="Standard error.")


@strawberry.type(description="A line that a job or a preparation printed.")
class LogLine:
    """A line."""

    time: Int64 = strawberry.field(description="When it was read, in microseconds since the epoch.")
    stream: LogStream = strawberry.field(description="Where it came from.")
    text: str = strawberry.field(
        description="The line without its newline; bytes that are no UTF-8 are escaped."
    )
    level: LogLevel | None = strawberry.field(
        description="What the line says of itself, in the formats of common loggers; null where it says nothing."
    )
    number: Int64 = strawberry.field(description="Which line of what its worker printed it is, from 1.")
    rank: int = strawberry.field(description="The worker's rank.")
    attempt: int = strawberry.field(description="The attempt's number; 0 for a preparation.")
    seq: Int64 = strawberry.field(description="The number of the feed under which it stands.")

    @classmethod
    def of(cls, placed: logs.Placed) -> "LogLine":
        return cls(
            time=Int64(placed.line.time_us),
            stream=LogStream(placed.line.stream),
            text=placed.line.text,
            level=level_of(placed.line.text),
            number=Int64(placed.number),
            rank=placed.rank,
            attempt=placed.attempt,
            seq=Int64(placed.seq),
        )


class _Levels:
    """The names of the levels of lines, found when they are asked for: few ask."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __iter__(self) -> Iterator[str | None]:
        for text in self._texts:
            level = level_of(text)
            yield None if level is None else level.name


_STREAMS = {stream.value: stream.name for stream in LogStream}


_CUT = "\uffff"
"""Stands between two lines while a text is made JSON, which leaves it as it is; no character at all (Unicode 23.7)."""
_FEW = 4
"""Lines that were read at once, on average: with fewer, writing them together saves nothing."""


class Lines(Records):
    """The lines of a batch from its `first` on: LogLines for the contract, completed as a whole.

    Where many were read at once, as of a flood, they are written as JSON without an object a line.
    """

    def __init__(self, batch: logs.Batch, first: int) -> None:
        super().__init__(max(batch.count - first, 0), {})
        self._batch = batch
        self._first = first

    def answers(self, kind: str, fields: Sequence[tuple[str, str]]) -> Any:
        """The same lines either way."""
        spans, text = lines.read(self._batch.data)
        if not fields or len(spans) * _FEW > self._batch.count or _CUT in text:
            return Records(len(self), self._columns()).answers(kind, fields)
        return orjson.Fragment(self._json(kind, fields, spans, text))

    def _columns(self) -> dict[str, Iterable[Any]]:
        times, streams, texts = lines.spread(self._batch.data)
        first, count = self._first, len(self)
        begin = self._batch.first_line + first
        return {
            "time": times[first:],
            "stream": [_STREAMS[stream] for stream in streams[first:]],
            "text": texts[first:],
            "level": _Levels(texts[first:]),
            "number": range(begin, begin + count),
            "rank": [self._batch.rank] * count,
            "attempt": [self._batch.attempt] * count,
            "seq": [self._batch.seq] * count,
        }

    def _json(
        self, kind: str, fields: Sequence[tuple[str, str]], spans: Sequence[lines.Span], text: str
    ) -> bytes:
        batch = self._batch
        asked = any(name == "level" for _, name in fields)
        levels = [orjson.dumps(level) for level in _Levels(text.split("\n"))] if asked else []
        texts = orjson.dumps(text.replace("\n", _CUT))[1:-1].split(_CUT.encode())
        numbers = orjson.dumps(list(range(batch.first_line, batch.first_line + batch.count)))[1:-1].split(
            b","
        )
        parts: list[bytes] = []
        end = 0
        for span in spans:
            begin, end = max(end, self._first), end + span.lines
            if begin < end:
                same = {
                    **{"__typename": kind, "time": span.time_us, "stream": _STREAMS[span.stream]},
                    **{"rank": batch.rank, "attempt": batch.attempt, "seq": batch.seq},
                }
                varied = {
                    **{"text": texts[begin:end], "number": numbers[begin:end]},
                    "level": levels[begin:end],
                }
                parts.append(_objects(fields, same, varied, end - begin))
        return b"[" + b",".join(parts) + b"]"


def _objects(
    fields: Sequence[tuple[str, str]], same: dict[str, Any], varied: dict[str, list[bytes]], count: int
) -> bytes:
    """JSON of so many objects: what they have in common is written once, and repeated around the rest."""
    fixed: list[bytes] = []
    columns: list[list[bytes]] = []
    between = b"{"
    for at, (key, name) in enumerate(fields):
        between += (b"," if at else b"") + orjson.dumps(key) + b":"
        if name in same:
            between += orjson.dumps(same[name])
            continue
        quote = b'"' if name == "text" else b""
        fixed.append(between + quote)
        columns.append(varied[name])
        between = quote
    end = between + b"}"
    if len(columns) == 1:
        return fixed[0] + (end + b"," + fixed[0]).join(columns[0]) + end
    parts: list[Iterable[bytes]] = []
    for before, column in zip(fixed, columns, strict=True):
        parts += [repeat(before, count), column]
    return b"".join(chain.from_iterable(zip(*parts, repeat(end + b",", count), strict=True)))[:-1]


def records(batch: logs.Batch, first: int) -> list[LogLine]:
    """The lines of a batch from its `first` on."""
    return Lines(batch, first) if batch.data else []


@strawberry.type(description="Lines of a worker that are no longer kept: of much, the first and last are.")
class LogGap:
    """A gap in the middle."""

    attempt: int = strawberry.field(description="The attempt's number.")
    rank: int = strawberry.field(description="The worker's rank.")
    from_line: Int64 = strawberry.field(description="The first line that is missing.")
    to_line: Int64 = strawberry.field(description="The last line that is missing, by now.")
    size_bytes: Int64 = strawberry.field(description="How much text is missing.")
    seq: Int64 = strawberry.field(description="The number of the feed under which it stands.")

    @classmethod
    def of(cls, batch: logs.Batch) -> "LogGap":
        return cls(
            attempt=batch.attempt,
            rank=batch.rank,
            from_line=Int64(batch.first_line),
            to_line=Int64(batch.first_line + batch.dropped - 1),
            size_bytes=Int64(batch.size),
            seq=Int64(batch.seq),
        )


def connect(rows: Slice[logs.Placed]) -> Connection[LogLine]:
    """A page of lines, oldest first."""
    return paging.connect(rows, lambda line: (line.seq, line.position), LogLine.of)
