"""What the command line says in name=value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rungraph import values
from rungraph.errors import BadUsage


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0.1", -0.1),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("adam", "adam"),
        ("True", "True"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1_000", "1_000"),
        ("a=b.c", "a=b.c"),
    ],
)
def test_a_value_is_json_or_else_the_word(text: str, value: Any) -> None:
    found = values.value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.text())
def test_any_word_has_a_value(text: str) -> None:
    values.value(text)


def test_arguments_are_gathered_by_step() -> None:
    found = values.arguments(["train.epochs=5", "train.name=a=b", "split.share=0.2", "split.a.b=x"])
    assert found == {"train": {"epochs": 5, "name": "a=b"}, "split": {"share": 0.2, "a.b": "x"}}


@pytest.mark.parametrize("setting", ["train.epochs", "epochs=5", ".epochs=5", "train.=5", "=5", ""])
def test_an_argument_of_another_shape_is_refused(setting: str) -> None:
    with pytest.raises(BadUsage, match=r"step\.option=value"):
        values.arguments([setting])


def test_a_tag_may_be_a_name_alone() -> None:
    assert values.tags(["a=b=c", "best"]) == [{"name": "a", "value": "b=c"}, {"name": "best", "value": ""}]
    with pytest.raises(BadUsage):
        values.tags(["=b"])


def test_an_id_is_of_its_kind() -> None:
    word = "run_" + "0" * 26
    assert values.is_id("run", word)
    assert not values.is_id("file", word)
    assert not values.is_id("run", "run_2024")


def test_resources_are_numbers_by_step() -> None:
    asked = values.resources(["a.workers=2", "a.cpus=0.5", "b.gpus=1"])
    assert asked == [{"step": "a", "workers": 2, "cpus": 0.5}, {"step": "b", "gpus": 1}]


@pytest.mark.parametrize("wrong", ["a=1", "a.workers", "a.disk=1", "a.cpus=many", "a.gpus=true"])
def test_what_is_no_resource_is_refused(wrong: str) -> None:
    with pytest.raises(BadUsage, match="--ask"):
        values.resources([wrong])


def test_a_duration_is_a_number_and_a_unit() -> None:
    given = ("45", "0", "1.5s", "5m", "2h", "1d", "1w")
    assert [values.seconds(text, "--every") for text in given] == [45, 0, 1.5, 300, 7200, 86400, 604_800]


@pytest.mark.parametrize(
    "text", ["", "m", "5 weeks", "-5", "nan", "inf", "1e3", "5M", "5m ", "1h30m", "\u0665"]
)
def test_another_duration_is_refused(text: str) -> None:
    with pytest.raises(BadUsage, match=r"--every .*: write it as 30s, 5m, 2h or 1d"):
        values.seconds(text, "--every")
