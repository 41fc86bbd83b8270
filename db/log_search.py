"""Finding lines in a log: by worker, stream, level, time, substring and regular expression, from either end.

Lines lie deflated in chunks and have no index: a search reads the chunks in their order and takes the lines out.
So it is bounded: past so many bytes of text, or so long a sifting, it ends with the lines it has met, and says where
to go on. The reading (`chunks`) and the sifting, which is for a thread, take turns. Regular expressions are RE2's,
which are matched in time linear in the text, if up to ten microseconds a byte. What is searched is what a terminal
shows, without colours.
"""

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2
from sqlalchemy import select

from db import errors, lines, log_levels
from db.database import Session
from db.log_levels import LogLevel, level_of
from db.logs import Batch, LogChunk, Placed, batch_of
from db.paging import Page, Slice

MOST_SEARCHED_BYTES = 32 << 20
"""Of text in one search; a page then has fewer lines than were asked for, and `resume` says where it goes on."""
MOST_SECONDS = 2.0
"""Of a thread's time in one search, likewise: `(a|b)*a(a|b){400}c` takes a minute for as many bytes."""
MOST_PATTERN = 1000
_BYTES_AT_ONCE = 4 << 20
_CHUNKS_AT_ONCE = 256
_PROGRAM_BYTES = 8 << 20
"""RE2 refuses a pattern that needs more, as `(x{1000}){1000}` does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines of a job: every condition that is given holds. Times are microseconds since the epoch.

    `level` takes lines that say this level or a higher one; `patterns` must each be found in the line.
    """

    attempt: int | None = None
    ranks: frozenset[int] | None = None
    stream: int | None = None
    level: LogLevel | None = None
    since_us: int | None = None
    until_us: int | None = None
    patterns: tuple[Any, ...] = ()


def containing(text: str, *, ignore_case: bool = False) -> Any:
    """A pattern that is found where this text is; raises Invalid."""
    _check(text, "contains")
    return _compiled(re2.escape(text), "contains", ignore_case=ignore_case)


def matching(expression: str, *, ignore_case: bool = False) -> Any:
    """A regular expression in RE2's syntax, for one line; raises Invalid with what is wrong."""
    _check(expression, "matches")
    return _compiled(expression, "matches", ignore_case=ignore_case)


class Search:
    """One search of one job's lines for one page: `add` chunks, as `chunks` reads them, until it is `done`."""

    def __init__(self, wanted: Wanted, page: Page) -> None:
        self.wanted = wanted
        self.page = page
        self.at: int | None = None
        """The number of the chunk that was read last."""
        self.done = False
        self._found: list[Placed] = []
        self._searched = 0
        self._seconds = 0.0
        self._cut = False
        edge = page.after or page.before
        self._edge: int | None = edge[0] if edge else None

    def add(self, batches: Sequence[Batch], *, more: bool) -> None:
        """Sift chunks that follow those before, in the page's direction; `more` says that others follow."""
        for batch in batches:
            if self._is_long():
                more = True
                break
            self._add(batch)
            if len(self._found) > self.page.size:
                break
        self.done = not more or len(self._found) > self.page.size
        if not self.done and self._is_long():
            self.done = self._cut = True

    def slice(self) -> Slice[Placed]:
        """The page, in the order of the log."""
        page = self.page
        kept = self._found[: page.size]
        more = self._cut or len(self._found) > page.size
        resume: Any = None
        if self._cut and len(self._found) <= page.size:
            assert self.at is not None
            # Past, or before, every line of the chunk that was read last.
            resume = (self.at, 0) if page.backward else (self.at, 2**31 - 1)
        if page.backward:
            return Slice(
                kept[::-1],
                has_next=page.before is not None,
                has_previous=more,
                resume=resume,
                backward=True,
            )
        return Slice(kept, has_next=more, has_previous=page.after is not None, resume=resume)

    def _add(self, batch: Batch) -> None:
        begun = time.thread_time()
        self.at = batch.seq
        placed = [line for line in sift(batch, self.wanted) if self._is_inside(line)]
        self._found += placed[::-1] if self.page.backward else placed
        if (
            batch.seq != self._edge
        ):  # what the page before ended in is read again, and must not end this one too
            self._searched += batch.size
            self._seconds += time.thread_time() - begun

    def _is_long(self) -> bool:
        return self._searched >= MOST_SEARCHED_BYTES or self._seconds > MOST_SECONDS

    def _is_inside(self, line: Placed) -> bool:
        at = (line.seq, line.position)
        after, before = self.page.after, self.page.before
        return (after is None or at > tuple(after)) and (before is None or at < tuple(before))


async def chunks(session: Session, job_id: bytes, search: Search) -> tuple[list[Batch], bool]:
    """The chunks that a search looks at next, and whether others follow them."""
    return await stretch(session, job_id, search.wanted, search.page, search.at)


async def stretch(
    session: Session, job_id: bytes, wanted: Wanted, page: Page, at: int | None, *, gaps: bool = False
) -> tuple[list[Batch], bool]:
    """Some chunks of a page past the number `at`, and whether others follow; with `gaps` also what is missing."""
    seq = LogChunk.seq
    statement = select(LogChunk).where(LogChunk.job_id == job_id)
    if not gaps:
        statement = statement.where(LogChunk.lines > 0)
    if wanted.attempt is not None:
        statement = statement.where(LogChunk.attempt == wanted.attempt)
    if wanted.ranks is not None:
        statement = statement.where(LogChunk.rank.in_(wanted.ranks))
    if at is not None:
        statement = statement.where(seq < at if page.backward else seq > at)
    elif page.after is not None:
        statement = statement.where(seq >= page.after[0])
    elif page.before is not None:
        statement = statement.where(seq <= page.before[0])
    ordered = statement.order_by(seq.desc() if page.backward else seq.asc())
    sized = ordered.with_only_columns(seq, LogChunk.size, LogChunk.lines).limit(_CHUNKS_AT_ONCE + 1)
    rows = (await session.execute(sized)).all()
    taken, size = 0, 0
    while taken < min(len(rows), _CHUNKS_AT_ONCE) and size < _BYTES_AT_ONCE:
        size += rows[taken].size if rows[taken].lines else 0
        taken += 1
    numbers = [row.seq for row in rows[:taken]]
    found = await session.all(LogChunk, ordered.where(seq.in_(numbers)))
    return [batch_of(row) for row in found], taken < len(rows)


def sift(batch: Batch, wanted: Wanted) -> list[Placed]:
    """The lines of a chunk that are wanted, in order."""
    times, streams, texts = lines.spread(batch.data)
    left: Iterable[int] = range(len(texts))
    if wanted.stream is not None:
        left = [at for at in left if streams[at] == wanted.stream]
    if wanted.since_us is not None:
        left = [at for at in left if times[at] >= wanted.since_us]
    if wanted.until_us is not None:
        left = [at for at in left if times[at] < wanted.until_us]
    shown = "\n".join(texts)
    if wanted.patterns and "\x1b" in shown:
        shown = log_levels.ANSI.sub("", shown)
    for pattern in wanted.patterns if left else ():
        hit = set(_hit(pattern, shown.encode("utf-8", "replace")))
        left = [at for at in left if at in hit]
    if (least := wanted.level) is not None:
        left = [at for at in left if (level_of(texts[at]) or 0) >= least]
    return [
        Placed(
            batch.seq,
            at,
            batch.attempt,
            batch.rank,
            batch.first_line + at,
            lines.Line(times[at], streams[at], texts[at]),
        )
        for at in left
    ]


def _hit(pattern: Any, text: bytes) -> Iterator[int]:
    """Which lines of a text a pattern is found in. The text is searched as a whole, not a line at a time."""
    at = 0
    ends: list[int] | None = None
    while at <= len(text) and (found := pattern.search(text, at)) is not None:
        if ends is None:
            ends = _ends(text)
        line = bisect_right(ends, found.start() - 1)
        if line >= len(ends):
            return
        yield line
        at = ends[line] + 1


def _ends(text: bytes) -> list[int]:
    ends, at = [], -1
    while (at := text.find(b"\n", at + 1)) >= 0:
        ends.append(at)
    return [*ends, len(text)]


def _check(text: str, path: str) -> None:
    if not 1 <= len(text) <= MOST_PATTERN:
        raise errors.Invalid(f"{path} has 1 to {MOST_PATTERN} characters, not {len(text)}", path=(path,))
    if "\n" in text:
        raise errors.Invalid(
            f"{path}: lines are searched one by one, without their line breaks", path=(path,)
        )


def _compiled(expression: str, path: str, *, ignore_case: bool) -> Any:
    # In a text of many lines `^` and `$` are a line's own; \A and \z would be the whole text's.
    options = re2.Options()
    options.log_errors = False
    options.never_nl = True
    options.case_sensitive = not ignore_case
    options.max_mem = _PROGRAM_BYTES
    try:
        re2.compile(expression.encode(), options)  # alone, so that it is whole in itself
        if _ABSOLUTE.search(expression):
            raise errors.Invalid(f"{path}: a line's ends are ^ and $, not \\A, \\z or (?-m)", path=(path,))
        return re2.compile(f"(?m:{expression})".encode(), options)
    except re2.error as error:
        words = error.args[0] if error.args else error
        words = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise errors.Invalid(f"{path} is no regular expression of RE2's: {words}", path=(path,)) from error


_ABSOLUTE = re2.compile(r"(?:^|[^\\])(?:\\\\)*(?:\\[Az]|\(\?[a-zA-Z]*-[a-zA-Z]*m)")
