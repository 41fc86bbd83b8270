"""Which texts can be kept, tried against what PostgreSQL and UTF-8 take; and how values are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import texts


@given(st.text(st.characters() | st.sampled_from(["\0", "\ud800", "\udbff", "\udc00", "\udfff"])))
def test_a_text_is_refused_for_nul_and_for_half_a_character_alone(text: str) -> None:
    bad = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    assert texts.is_storable(text) is not bad
    assert (texts.refusal(text) is None) is not bad


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (10**30, "a huge number"),
        (0.5, "0.5"),
        ({"a": 1}, "an object"),
        ([1], "a list"),
        ("x" * 61, f"'{'x' * 57}…'"),
    ],
)
def test_a_value_is_shown_in_few_words(value: object, words: str) -> None:
    assert texts.shown(value) == words


def test_what_is_close_is_suggested() -> None:
    assert texts.suggestion("epoch", ["epochs", "rate"]) == "; did you mean 'epochs'?"
    assert texts.suggestion("zzz", ["epochs", "rate"]) == ""
