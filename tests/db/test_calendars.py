"""When schedules are due: cron in time zones against a look at every minute, and intervals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import calendars, errors
from db.calendars import Cron, Interval

# With half hours, hours at midnight, a change of two hours, and a day that there never was.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Havana",
    "Antarctica/Troll",
    "Asia/Kathmandu",
)
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 3, 28, 22, tzinfo=UTC),
    datetime(2026, 6, 15, 12, tzinfo=UTC),
)
MINUTE = timedelta(minutes=1)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    term = st.one_of(number.map(str), span)
    wide = st.tuples(st.integers(low, high - 1), st.integers(1, high)).map(
        lambda t: f"{t[0]}-{max(t[0] + 1, t[1])}"
    )
    stepped = st.tuples(st.one_of(st.just("*"), wide), st.integers(1, 20)).map(lambda t: f"{t[0]}/{t[1]}")
    listed = st.lists(st.one_of(term, stepped), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), listed)


EXPRESSIONS = st.tuples(
    _field(0, 59), _field(0, 23), st.just("*") | _field(1, 28), st.just("*"), st.just("*") | _field(0, 7)
).map(" ".join)
MOMENTS = st.tuples(st.sampled_from(CHANGES), st.integers(-3 * 86400, 86400)).map(
    lambda given: given[0] + timedelta(seconds=given[1])
)


def _values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        begin = low if span == "*" else int(first)
        end = high if span == "*" else int(last or first)
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


class _Clock:
    """Which wall-clock minutes an expression names."""

    def __init__(self, expression: str) -> None:
        minute, hour, day, _, weekday = expression.split()
        self.minutes, self.hours = _values(minute, 0, 59), _values(hour, 0, 23)
        self.days, self.weekdays = _values(day, 1, 31), {value % 7 for value in _values(weekday, 0, 7)}
        self.both = day.startswith("*") or weekday.startswith("*")
        self.elapsed = minute.startswith("*") or hour.startswith("*")

    def names(self, wall: datetime) -> bool:
        by_day, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        day = by_day and by_weekday if self.both else by_day or by_weekday
        return day and wall.hour in self.hours and wall.minute in self.minutes


def _looked_up(expression: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The rule of calendars.py, minute by minute: nothing is skipped and nothing is clever."""
    clock = _Clock(expression)
    found: list[datetime] = []
    now = after.replace(second=0, microsecond=0)
    before = (now - MINUTE).astimezone(zone)
    while now <= until:
        local = now.astimezone(zone)
        gap = local.replace(tzinfo=None) - before.replace(tzinfo=None) - MINUTE
        missing = [local.replace(tzinfo=None) - gap + n * MINUTE for n in range(int(gap / MINUTE))]
        due = clock.names(local) and (clock.elapsed or not local.fold)
        due = due or (not clock.elapsed and any(map(clock.names, missing)))
        if due and now > after:
            found.append(now)
        before, now = local, now + MINUTE
    return found


@settings(max_examples=30)  # each looks at thousands of minutes
@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS)
def test_a_cron_is_due_when_a_look_at_every_minute_says_so(
    expression: str, name: str, after: datetime
) -> None:
    until = after + timedelta(days=2)
    cron = calendars.cron(expression, name)
    found: list[datetime] = []
    for due in calendars.upcoming(cron, after):
        if due > until:
            break
        found.append(due)
    assert found == _looked_up(expression, ZoneInfo(name), after, until)


@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS)
def test_next_times_strictly_increase_and_do_not_depend_on_where_one_looks_from(
    expression: str, name: str, after: datetime
) -> None:
    cron = calendars.cron(expression, name)
    times = calendars.preview(cron, after, 6)
    assert all(one < other for one, other in pairwise([after, *times]))
    for before, due in pairwise([after, *times]):
        assert cron.after(before + (due - before) / 2) == due
        assert cron.after(due - timedelta(microseconds=1)) == due


@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS, st.integers(0, 3 * 86400), st.integers(1, 7))
def test_the_latest_times_are_the_end_of_all_of_them(
    expression: str, name: str, since: datetime, seconds: int, most: int
) -> None:
    cron = calendars.cron(expression, name)
    until = since + timedelta(seconds=seconds)
    every: list[datetime] = []
    for due in calendars.upcoming(cron, since - timedelta(microseconds=1)):
        if due > until:
            break
        every.append(due)
    assert calendars.latest(cron, since, until, most) == every[-most:]


@given(st.text(max_size=30), st.text(max_size=20))
def test_any_text_is_a_cron_or_refused(expression: str, zone: str) -> None:
    try:
        calendars.preview(calendars.cron(expression, zone), CHANGES[0], 2)
    except errors.Invalid as error:
        assert {problem.path for problem in error.problems} <= {("expression",), ("timeZone",)}


@given(st.lists(st.text("0123456789*/-,L#MONFRIJ@ ", max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_text_in_cron_letters_is_a_cron_or_refused(expression: str) -> None:
    try:
        calendars.preview(calendars.cron(expression, "UTC"), CHANGES[0], 2)
    except errors.Invalid as error:
        assert error.problems


@given(st.floats(1, 1e7), MOMENTS, MOMENTS)
def test_an_interval_counts_from_its_anchor_both_ways(
    seconds: float, anchor: datetime, after: datetime
) -> None:
    interval = calendars.interval(seconds, anchor)
    due = interval.after(after)
    assert due is not None and after < due <= after + interval.every
    assert (due - anchor) % interval.every == timedelta(0)


@pytest.mark.parametrize(
    ("expression", "after", "times"),
    [
        ("30 2 * * *", "03-28 12:00", ["03-29 01:00", "03-30 00:30"]),
        ("0,30 2,3 * * *", "03-28 12:00", ["03-29 01:00", "03-29 01:30", "03-30 00:00"]),
        ("*/30 2 * * *", "03-28 12:00", ["03-30 00:00", "03-30 00:30"]),
        ("30 2 * * *", "10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
        ("0 * * * *", "10-24 23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
        ("@daily", "10-24 12:00", ["10-24 22:00", "10-25 23:00"]),
    ],
    ids=["missing", "missing, once", "missing, elapsed", "twice", "twice, elapsed", "a day"],
)
def test_missing_and_repeated_hours_of_berlin(expression: str, after: str, times: list[str]) -> None:
    cron = calendars.cron(expression, "Europe/Berlin")
    found = calendars.preview(cron, datetime.fromisoformat(f"2026-{after}+00:00"), len(times))
    assert [f"{due:%m-%d %H:%M}" for due in found] == times


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("* * * *", "a cron expression has 5 fields"),
        ("* * * * * *", "a cron expression has 5 fields"),
        ("@reboot", "'@reboot' is none of @yearly"),
        ("60 * * * *", "minute '60': it is 0 to 59"),
        ("* 24 * * *", "hour '24': it is 0 to 23"),
        ("* * 0 * *", "day-of-month '0': it is 1 to 31"),
        ("* * * 13 *", "month '13': it is 1 to 12"),
        ("* * * * WED-MO", "day-of-week 'WED-MO': it is 0 to 7"),
        ("0 0 30 2 *", "day-of-month '30': it is 1 to 31, L or LW, and one that a chosen month has"),
        ("*/0 * * * *", "minute '*/0'"),
        ("61 25 * * *", "minute '61': it is 0 to 59, or *, with a-b, a,b and /step; hour '25'"),
    ],
)
def test_what_is_wrong_with_a_cron_is_told_by_its_field(expression: str, told: str) -> None:
    with pytest.raises(errors.Invalid) as raised:
        calendars.cron(expression, "UTC", "cron")
    assert str(raised.value).startswith(told)
    assert raised.value.problems[0].path == ("cron", "expression")


def test_a_wrong_zone_is_told_with_what_was_meant() -> None:
    for wrong in ("Europe/Berln", "", "localtime", "../UTC", "x" * 5000):
        with pytest.raises(errors.Invalid, match="is no IANA time zone") as raised:
            calendars.cron("@daily", wrong)
        assert raised.value.problems[0].path == ("timeZone",)
        assert wrong != "Europe/Berln" or "did you mean 'Europe/Berlin'?" in str(raised.value)


@pytest.mark.parametrize("seconds", [0, -1, 0.5, float("nan"), float("inf"), 1e9])
def test_an_interval_has_bounds(seconds: float) -> None:
    with pytest.raises(errors.Invalid, match="an interval is 1 second to 366 days, not "):
        calendars.interval(seconds, CHANGES[0])


def test_nothing_is_due_past_the_end_of_time() -> None:
    last = datetime(8999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert Interval(timedelta(days=1), CHANGES[0]).after(last) is None
    assert Cron("0 0 1 1 *", ZoneInfo("UTC")).after(datetime(9998, 1, 1, tzinfo=UTC)) is None


def test_years_of_minutes_cost_no_more_than_a_day_of_them() -> None:
    """A look back that began at the beginning would take minutes here."""
    minutely = calendars.cron("* * * * *", "Europe/Berlin")
    until = datetime(2026, 1, 1, tzinfo=UTC)
    assert calendars.latest(minutely, datetime(1971, 1, 1, tzinfo=UTC), until, 2) == [until - MINUTE, until]
