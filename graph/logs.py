"""Log lines as the API shows them, and pages of them."""

from enum import Enum

import strawberry

from db import logs
from db.paging import Slice
from graph import paging
from graph.paging import Connection
from graph.scalars import Int64


@strawberry.enum(description="Where a line came from.")
class LogStream(Enum):
    """The two streams of a process."""

    STDOUT = 1
    STDERR = 2


@strawberry.type(description="A line that a job or a preparation printed.")
class LogLine:
    """A line."""

    time: Int64 = strawberry.field(description="When it was read, in microseconds since the epoch.")
    stream: LogStream = strawberry.field(description="Where it came from.")
    text: str = strawberry.field(
        description="The line without its newline; bytes that are no UTF-8 are escaped."
    )
    rank: int = strawberry.field(description="The worker's rank.")
    attempt: int = strawberry.field(description="The attempt's number; 0 for a preparation.")
    seq: Int64 = strawberry.field(description="The number of the feed under which it stands.")

    @classmethod
    def of(cls, placed: logs.Placed) -> "LogLine":
        return cls(
            time=Int64(placed.line.time_us),
            stream=LogStream(placed.line.stream),
            text=placed.line.text,
            rank=placed.rank,
            attempt=placed.attempt,
            seq=Int64(placed.seq),
        )


def connect(rows: Slice[logs.Placed]) -> Connection[LogLine]:
    """A page of lines, oldest first."""
    return paging.connect(rows, lambda line: (line.seq, line.position), LogLine.of)
