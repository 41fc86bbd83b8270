"""How long, as people write it: manifests and the command read one language, exactly to the microsecond."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends import durations
from rungraph import durations as clients

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST = 36_525 * 86_400 * 10**6

numbers = st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,8})?", fullmatch=True)
said = st.dictionaries(st.sampled_from([*UNITS]), numbers, min_size=1)
"""Units to what is written before each."""


def read(text: str) -> float | str:
    """What both make of a text, which is the same: a number of seconds, or the rule."""
    answers: list[float | str] = []
    for reader in (durations.seconds, clients.seconds):
        try:
            answers.append(reader(text))
        except ValueError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]
    return answers[0]


@given(said)
@example({"h": "1.5"})
@example({"s": "0.0000005"})
@example({"h": "0.1", "s": "0.000001"})
def test_a_duration_is_exact_to_the_microsecond_or_refused(parts: dict[str, str]) -> None:
    text = "".join(f"{parts[unit]}{unit}" for unit in UNITS if unit in parts)
    exactly = sum(Fraction(number) * UNITS[unit] for unit, number in parts.items()) * 10**6
    if exactly.denominator != 1:
        assert read(text) == "in whole microseconds"
    elif exactly > LONGEST:
        assert read(text) == "at most 100 years"
    else:
        assert read(text) == int(exactly) / 10**6


@given(st.integers(0, LONGEST))
@example(LONGEST)
@example(1)
def test_a_number_of_microseconds_comes_back_however_it_is_written(microseconds: int) -> None:
    whole, rest = divmod(microseconds, 10**6)
    fraction = f"{rest:06}"
    hours, minutes = divmod(whole // 60, 60)
    for text in (
        f"{whole}.{fraction}",
        f"{whole}.{fraction}s",
        f"{hours}h{minutes}m{whole % 60}.{fraction}s",
        f"{whole // 86_400}d{whole % 86_400}.{fraction}s",
    ):
        found = read(text)
        assert isinstance(found, float) and round(found * 10**6) == microseconds


@given(st.text(alphabet="0123456789.wdhms -e_\u0665", max_size=12))
def test_whatever_else_is_written_is_of_one_mind(text: str) -> None:
    read(text)


@pytest.mark.parametrize(
    "text",
    ["", "m", "5 weeks", "-5", "nan", "inf", "1e3", "5M", "5m ", "1h30", "1m1h", ".5s", "1.s", "\u0665"],
)
def test_another_way_to_write_it_is_refused(text: str) -> None:
    assert read(text) == "written as 90s, 1.5h or 1h30m"


def test_both_files_say_the_same() -> None:
    assert durations.PATTERN == clients.PATTERN
