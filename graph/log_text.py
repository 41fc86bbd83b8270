"""A job's log over plain HTTP: all its lines as text, or those that a filter takes, as they were printed.

GET /jobs/{id}/log, under the API's permissions. It is read a few chunks at a time, while the client takes them,
so that neither a long log nor a slow client costs memory.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from db import errors, jobs, log_search
from db.log_levels import LogLevel
from db.log_search import Wanted
from db.logs import Batch
from db.paging import Page
from db.viewers import Viewer
from graph import nodes
from graph.content import PRIVATE, Streamed, guarded
from graph.log_search import LogFilter, aside, wanted
from graph.logs import LogStream
from graph.scalars import Int64
from graph.surroundings import Surroundings

E = TypeVar("E", bound=Enum)

_ALL = Page(1)
_PARAMETERS = frozenset(
    ("attempt", "rank", "stream", "level", "since", "until", "contains", "matches", "ignoreCase", "times")
)


@guarded
async def log(request: Request, around: Surroundings, viewer: Viewer) -> Response:
    """GET of /jobs/{id}/log: text/plain in UTF-8; 422 for a parameter that cannot be meant."""
    job_id = nodes.key("job", request.path_params["id"], "id")
    conditions, times = _asked(request.query_params)
    async with around.database.read() as session:
        found = await jobs.find_jobs(session, viewer, [job_id])
    if not found:
        raise errors.NotFound("there is no such job")
    if request.method == "HEAD":
        return PlainTextResponse(headers=PRIVATE)
    several = found[0].workers > 1 and conditions.ranks is None
    lines = _lines(around, viewer, job_id, conditions, times=times, ranks=several)
    return Streamed(lines, media_type="text/plain; charset=utf-8", headers=PRIVATE)


def whole(
    around: Surroundings, viewer: Viewer, job_id: bytes, attempt: int, rank: int
) -> AsyncIterator[bytes]:
    """All that one worker of one attempt printed, as text."""
    conditions = Wanted(attempt=attempt, ranks=frozenset({rank}))
    return _lines(around, viewer, job_id, conditions, times=False, ranks=False)


async def _lines(
    around: Surroundings, viewer: Viewer, job_id: bytes, conditions: Wanted, *, times: bool, ranks: bool
) -> AsyncIterator[bytes]:
    at: int | None = None
    more = True
    while more:
        async with around.database.read() as session:
            batches, more = await log_search.stretch(session, job_id, conditions, _ALL, at, gaps=True)
            if not more and at is not None and not await jobs.find_jobs(session, viewer, [job_id]):
                raise errors.NotFound("the job was deleted while its log was read")  # this is not its end
        for batch in batches:
            at = batch.seq
            if text := await aside(partial(_text, batch, conditions, times=times, ranks=ranks)):
                yield text


def _text(batch: Batch, conditions: Wanted, *, times: bool, ranks: bool) -> bytes:
    if batch.dropped:
        last = batch.first_line + batch.dropped - 1
        return f"[lines {batch.first_line} to {last} are no longer kept]\n".encode()
    parts = []
    for placed in log_search.sift(batch, conditions):
        before = f"{_moment(placed.line.time_us)} " if times else ""
        before += f"[{placed.rank}] " if ranks else ""
        parts.append(f"{before}{placed.line.text}\n")
    return "".join(parts).encode("utf-8", "replace")


def _moment(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="milliseconds")


def _asked(given: Mapping[str, str]) -> tuple[Wanted, bool]:
    if unknown := sorted(set(given) - _PARAMETERS):
        known = ", ".join(sorted(_PARAMETERS))
        raise errors.Invalid(f"{unknown[0]} is no parameter here: there are {known}")
    rank = _number(given, "rank", digits=9)
    since, until = _number(given, "since"), _number(given, "until")
    conditions = LogFilter(
        attempt=_number(given, "attempt", digits=9),
        ranks=None if rank is None else [rank],
        stream=_one_of(given, "stream", LogStream),
        level=_one_of(given, "level", LogLevel),
        since=None if since is None else Int64(since),
        until=None if until is None else Int64(until),
        contains=given.get("contains"),
        matches=given.get("matches"),
        ignore_case=_flag(given, "ignoreCase"),
    )
    return wanted(conditions), _flag(given, "times")


def _number(given: Mapping[str, str], name: str, *, digits: int = 16) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= digits):
        raise errors.Invalid(f"{name} is a whole number, not {text[:40]!r}")
    return int(text)


def _one_of(given: Mapping[str, str], name: str, kind: type[E]) -> E | None:
    text = given.get(name)
    if text is None:
        return None
    if text.upper() not in kind.__members__:
        raise errors.Invalid(f"{name} is one of {', '.join(kind.__members__)}, not {text[:40]!r}")
    return kind[text.upper()]


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise errors.Invalid(f"{name} is true or false, not {text[:40]!r}")
    return text in ("true", "1")
