"""Finding lines in a job's log: the conditions as the API takes them, and a search that leaves the loop alone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import strawberry

from db import errors
from db import log_search as searching
from db.log_levels import LogLevel
from db.log_search import Search, Wanted
from db.logs import Placed
from db.paging import Page, Slice
from graph.context import Context
from graph.logs import LogStream
from graph.scalars import Int64

T = TypeVar("T")

_MOST_RANKS = 1000
AT_ONCE = 2
_threads = ThreadPoolExecutor(AT_ONCE, "search")


@strawberry.input(description="Which lines: those for which every condition that is given holds.")
class LogFilter:
    """Conditions on lines."""

    attempt: int | None = strawberry.field(default=None, description="Of this attempt.")
    ranks: list[int] | None = strawberry.field(default=None, description="Of these workers.")
    stream: LogStream | None = strawberry.field(default=None, description="Of this stream.")
    level: LogLevel | None = strawberry.field(
        default=None, description="That say of themselves this level or a higher one."
    )
    since: Int64 | None = strawberry.field(
        default=None, description="Read then or later, in microseconds since the epoch."
    )
    until: Int64 | None = strawberry.field(
        default=None, description="Read before, in microseconds since the epoch."
    )
    contains: str | None = strawberry.field(
        default=None, description="With this text in them, as a terminal shows it, without colours."
    )
    matches: str | None = strawberry.field(
        default=None,
        description="In which this regular expression is found (RE2's syntax), as a terminal shows them.",
    )
    ignore_case: bool = strawberry.field(
        default=False, description="Whether contains and matches take no notice of upper and lower case."
    )


def wanted(given: LogFilter) -> Wanted:
    """The conditions, checked; raises Invalid."""
    if given.ranks is not None and len(given.ranks) > _MOST_RANKS:
        raise errors.LimitExceeded(f"filter: at most {_MOST_RANKS} ranks", path=("filter", "ranks"))
    patterns = []
    if given.contains is not None:
        patterns.append(searching.containing(given.contains, ignore_case=given.ignore_case))
    if given.matches is not None:
        patterns.append(searching.matching(given.matches, ignore_case=given.ignore_case))
    return Wanted(
        attempt=given.attempt,
        ranks=None if given.ranks is None else frozenset(given.ranks),
        stream=None if given.stream is None else given.stream.value,
        level=given.level,
        since_us=given.since,
        until_us=given.until,
        patterns=tuple(patterns),
    )


async def search(context: Context, job_id: bytes, conditions: Wanted, page: Page) -> Slice[Placed]:
    """The page of the lines that are wanted; shorter where much was searched for little (Slice.resume)."""
    going = Search(conditions, page)
    while not going.done:
        async with context.database.read() as session:
            batches, more = await searching.chunks(session, job_id, going)
        await aside(partial(going.add, batches, more=more))
    return going.slice()


async def aside(sift: Callable[[], T]) -> T:
    """What comes of a sifting of lines, done in a thread for that: files and modules do not wait for patterns."""
    return await asyncio.get_running_loop().run_in_executor(_threads, sift)
