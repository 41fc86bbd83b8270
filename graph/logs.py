"""Log lines as the API shows them, and pages of them."""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

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


def records(batch: logs.Batch, first: int) -> list[LogLine]:
    """The lines of a batch from its `first` on: LogLines for the contract, completed as a whole."""
    if not batch.data:
        return []
    times, streams, texts = lines.spread(batch.data)
    count = len(texts) - first
    begin = batch.first_line + first
    columns: dict[str, Iterable[Any]] = {
        "time": times[first:],
        "stream": [_STREAMS[stream] for stream in streams[first:]],
        "text": texts[first:],
        "level": _Levels(texts[first:]),
        "number": range(begin, begin + count),
        "rank": [batch.rank] * count,
        "attempt": [batch.attempt] * count,
        "seq": [batch.seq] * count,
    }
    return Records(count, columns)


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
