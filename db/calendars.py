"""When a schedule is due: cron expressions in a time zone, and intervals. Pure: no table, no clock.

cronsim reads cron's syntax and finds wall-clock times; it is small, kept, and what a service of cron jobs
runs on. What a wall-clock time means in a zone is decided here, for it counts on neither missing nor
repeated hours at midnight. A cron whose minute or hour begins with `*` goes by elapsed time: it is due in both
passes of a repeated hour and not in a missing one. Any other is due once a wall-clock time: in the first pass
of a repeated hour, and at the end of a missing one that it falls into.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import islice
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from db import errors, ids, texts
from db.errors import Problem

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L or LW, and one that a chosen month has",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT, 5L or 5#2",
}
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 366 * 86400.0
_SECOND = timedelta(seconds=1)
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
"""Nothing is due later: arithmetic ends with the year 9999."""


class Calendar(Protocol):
    """What gives due times."""

    def after(self, moment: datetime) -> datetime | None:
        """The first due time later than this moment, in UTC; None when there is none."""


@dataclass(frozen=True)
class Cron:
    """Five fields in a time zone; made by `cron`, which checks both."""

    expression: str
    zone: ZoneInfo

    @cached_property
    def _fields(self) -> str:
        return ALIASES.get(self.expression.lower(), self.expression)

    @cached_property
    def _by_elapsed_time(self) -> bool:
        minute, hour = self._fields.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def after(self, moment: datetime) -> datetime | None:
        """See Calendar. Goes from one change of the zone's offset to the next, each stretch by its own offset."""
        local = moment.astimezone(self.zone)
        since, offset, wall = moment, _offset(local), local.replace(tzinfo=None)
        while (found := next(CronSim(self._fields, wall), None)) is not None:
            due = (found - offset).replace(tzinfo=UTC)
            if due > _LAST:
                return None
            there = due.astimezone(self.zone)
            if _offset(there) == offset:
                if self._by_elapsed_time or not there.fold:
                    return due
                wall = found
                continue
            since = self._change(since, due, offset)
            offset = _offset(since.astimezone(self.zone))
            begins = since.replace(tzinfo=None) + offset
            if found < begins and not self._by_elapsed_time:
                return since  # in a missing hour, which ends here
            wall = begins - _SECOND
        return None

    def _change(self, since: datetime, until: datetime, offset: timedelta) -> datetime:
        """The first moment with another offset, to the second."""
        low, high = int(since.timestamp()), int(until.timestamp())
        while high - low > 1:
            middle = (low + high) // 2
            if _offset(datetime.fromtimestamp(middle, self.zone)) == offset:
                low = middle
            else:
                high = middle
        return datetime.fromtimestamp(high, UTC)


@dataclass(frozen=True)
class Interval:
    """Every so many seconds of elapsed time, counted from an anchor in both directions."""

    every: timedelta
    anchor: datetime

    def after(self, moment: datetime) -> datetime | None:
        """See Calendar."""
        due = self.anchor + ((moment - self.anchor) // self.every + 1) * self.every
        return due if due < _LAST else None


def cron(expression: str, time_zone: str, *path: str) -> Cron:
    """A cron expression in an IANA zone; raises Invalid with the field that is wrong, and its rule."""
    problems = [*_zone_problems(time_zone, path), *_cron_problems(expression, path)]
    if problems:
        raise errors.Invalid(problems=problems)
    return Cron(" ".join(expression.split()), ZoneInfo(time_zone))


def interval(seconds: float, anchor: datetime, *path: str) -> Interval:
    """Every so many seconds; raises Invalid."""
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        days = LONGEST_SECONDS / 86400
        rule = f"an interval is {SHORTEST_SECONDS:g} second to {days:g} days, not {seconds:.10g} seconds"
        raise errors.Invalid(rule, path=(*path, "everySeconds"))
    return Interval(timedelta(seconds=seconds), anchor)


def upcoming(calendar: Calendar, after: datetime) -> Iterator[datetime]:
    """The due times later than a moment, one after the other."""
    while (due := calendar.after(after)) is not None:
        yield due
        after = due


def latest(calendar: Calendar, since: datetime, until: datetime, most: int) -> list[datetime]:
    """The last due times from `since` to `until`, both included, in order: at most `most`.

    Looks back from the end, twice as far each time, so that years of minutes cost no more than a day of them.
    """
    window = timedelta(minutes=1)
    while True:
        begins = max(since, until - window) - timedelta(microseconds=1)
        found: list[datetime] = []
        for due in upcoming(calendar, begins):
            if due > until:
                break
            found.append(due)
        if len(found) >= most or begins < since:
            return found[-most:]
        window *= 2


def preview(calendar: Calendar, after: datetime, count: int) -> list[datetime]:
    """The next `count` due times."""
    return list(islice(upcoming(calendar, after), count))


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime", "Factory"}  # whatever this machine's is, and none


def _zone_problems(name: str, path: tuple[str, ...]) -> Iterator[Problem]:
    if name not in _zones():
        near = sorted(zone for zone in _zones() if zone[:2].lower() == name[:2].lower())
        close = texts.suggestion(name, near)
        message = f"{ids.shorten(name)!r} is no IANA time zone, such as Europe/Berlin or UTC{close}"
        yield Problem((*path, "timeZone"), message)


def _cron_problems(text: str, path: tuple[str, ...]) -> Iterator[Problem]:
    at = (*path, "expression")
    fields = ALIASES.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(fields) == 1:
        yield Problem(at, f"{ids.shorten(text)!r} is none of {', '.join(ALIASES)}")
    elif len(fields) != 5 or len(text) > 500 or not text.isascii():
        rule = f"a cron expression has 5 fields ({', '.join(_FIELDS)}), not {len(fields)}"
        yield Problem(at, rule if len(fields) != 5 else "a cron expression has up to 500 plain characters")
    else:
        wrong = [name for place, name in enumerate(_FIELDS) if not _is_field(place, fields[place])]
        if not wrong and not _ever(fields):
            wrong = ["day-of-month"]
        for name in wrong:
            yield Problem(at, _wrong(name, fields[list(_FIELDS).index(name)]))


def _is_field(place: int, text: str) -> bool:
    alone = ["*"] * 5
    alone[place] = text
    return _ever(alone)


def _ever(fields: list[str]) -> bool:
    """Whether the fields are cron's, and there is a day that fits all of them."""
    try:
        return next(CronSim(" ".join(fields), datetime(2000, 1, 1)), None) is not None
    except CronSimError:
        return False


def _wrong(name: str, text: str) -> str:
    return f"{name} {ids.shorten(text)!r}: it is {_FIELDS[name]}, or *, with a-b, a,b and /step"
