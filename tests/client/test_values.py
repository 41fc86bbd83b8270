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
        ("1e999", "1e999"),
        ("[-1e999]", "[-1e999]"),
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


def test_memory_is_asked_for_as_a_size() -> None:
    for written in ("a.memory=1.5GiB", "a.memoryBytes=1610612736", "a.memory=1610612736"):
        assert values.resources([written]) == [{"step": "a", "memoryBytes": 3 << 29}]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a=1", "--ask a=1: write it as step.resource=number"),
        ("a.workers", "--ask a.workers: write it as step.resource=number"),
        ("a.cpu=1", "--ask a.cpu: a resource is one of workers, cpus, memory, gpus"),
        ("a.cpus=many", "--ask a.cpus: it is a number, not “many”"),
        ("a.gpus=true", "--ask a.gpus: it is a number, not “true”"),
        ("a.memory=lots", "--ask a.memory: lots: write it as 512MiB or 64GiB"),
    ],
)
def test_what_is_no_resource_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(BadUsage) as refused:
        values.resources([wrong])
    assert str(refused.value) == message


def test_a_tag_without_a_name_is_told_as_it_was_written() -> None:
    with pytest.raises(BadUsage, match=r"^--tag =x: write it as name=value, or a name alone$"):
        values.tags(["a=b", "=x"])


def test_a_time_is_checked_before_it_is_sent() -> None:
    for written in ("2026-12-01", "2026-12-01T00:00Z"):
        assert values.moment(written, "--starts") == written
    with pytest.raises(
        BadUsage, match=r"^--starts tomorrow: write a time as 2026-01-31 or 2026-01-31T12:00:00Z$"
    ):
        values.moment("tomorrow", "--starts")


def test_a_rule_of_retries_is_a_reason_and_a_number_and_for_memory_more() -> None:
    rules = values.retry(["EXIT_CODE=3", "lost=0", "OUT_OF_MEMORY=2,memory=1.5,most=64GiB"])
    memory = {"memoryFactor": 1.5, "mostMemoryBytes": 1 << 36}
    assert rules == [
        {"reason": "EXIT_CODE", "times": 3},
        {"reason": "LOST", "times": 0},
        {"reason": "OUT_OF_MEMORY", "times": 2, **memory},
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("EXIT_CODE", "write it as reason=times"),
        ("=3", "write it as reason=times"),
        ("CRASHED=3", "CRASHED: the ends that are tried again are PREEMPTED, LOST, .*TIMED_OUT"),
        ("LOST=", "times is a whole number, not “”"),
        ("LOST=often", "times is a whole number, not “often”"),
        ("LOST=1.5", "times is a whole number, not “1.5”"),
        ("LOST=true", "times is a whole number, not “true”"),
        ("OUT_OF_MEMORY=1,memory=1e999", "memory is a number, not “1e999”"),
        ("OUT_OF_MEMORY=1,memory=2x", "memory is a number, not “2x”"),
        ("OUT_OF_MEMORY=1,most=much", "OUT_OF_MEMORY: most much: write it as 512MiB or 64GiB"),
        ("OUT_OF_MEMORY=1,wait=5", "there may be memory=2 and most=64GiB"),
        ("OUT_OF_MEMORY=1,memory", "there may be memory=2 and most=64GiB"),
        ("LOST=1,", "there may be memory=2 and most=64GiB"),
    ],
)
def test_another_rule_of_retries_is_refused(wrong: str, why: str) -> None:
    with pytest.raises(BadUsage, match=f"--retry .*{why}"):
        values.retry([wrong])


def test_a_size_is_a_number_and_a_unit() -> None:
    given = ("512", "0B", "1.5KiB", "512MiB", "64GiB", "1TiB")
    assert [values.size(text, "--memory") for text in given] == [512, 0, 1536, 1 << 29, 1 << 36, 1 << 40]
    for wrong in ("", "GiB", "-1", "1GB", "1 GiB", "1e3", "\u0665"):
        with pytest.raises(BadUsage, match=r"--memory .*: write it as 512MiB or 64GiB"):
            values.size(wrong, "--memory")


def test_a_duration_is_numbers_with_units() -> None:
    given = ("45", "0", "1.5s", "5m", "0.5h", "1h30m", "1d", "1w")
    expected = [45, 0, 1.5, 300, 1800, 5400, 86400, 604_800]
    assert [values.seconds(text, "--every") for text in given] == expected


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("5 weeks", "written as 90s, 1.5h or 1h30m"),
        ("0.0000005s", "in whole microseconds"),
        ("5218w", "at most 100 years"),
    ],
)
def test_another_duration_is_refused_with_the_rule(text: str, rule: str) -> None:
    with pytest.raises(BadUsage) as refused:
        values.seconds(text, "--every")
    assert str(refused.value) == f"--every {text}: a duration must be {rule}"
