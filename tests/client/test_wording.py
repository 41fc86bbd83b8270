"""How durations, sizes and foreign text are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rungraph import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-0.2, "0.0 s"),
        (3.24, "3.2 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.9, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert wording.size(count) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext", "plain\ttext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("10 %\r50 %\r100 %\r", "100 %"),
        ("\x1b[2J\x9bgone", "gone"),
    ],
)
def test_foreign_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert wording.printable(text) == shown


@given(st.text())
def test_nothing_printable_has_a_control_but_the_tab(text: str) -> None:
    shown = wording.printable(text)
    assert not any((ord(letter) < 32 and letter != "\t") or 127 <= ord(letter) < 160 for letter in shown)
