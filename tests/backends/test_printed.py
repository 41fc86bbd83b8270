"""What a job prints, told apart: metrics are points, everything else stays a line, and nothing is lost."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import Piece, Stream
from backends.printed import Printed, parse
from db import lines

OUT, ERR = Stream.STDOUT, Stream.STDERR


def piece(data: bytes | str, *, stream: Stream = OUT, time_us: int = 1, continued: bool = False) -> Piece:
    return Piece(stream, time_us, data.encode() if isinstance(data, str) else data, continued)


def printed_lines(printed: Printed) -> list[lines.Line]:
    return [line for chunk in lines.pack(printed.blocks) for line in lines.unpack(chunk.data)]


def texts(printed: Printed) -> list[str]:
    return [line.text for line in printed_lines(printed)]


def points(printed: Printed) -> list[dict[str, list[float]]]:
    return [{column.name: list(column.values) for column in batch} for batch in printed.points]


def test_metrics_and_lines_are_told_apart() -> None:
    told = parse([piece('before\n{"metric": {"loss": 0.5, "n": 2}, "step": 3}\nafter', time_us=7)])
    assert texts(told) == ["before", "after"]
    (batch,) = told.points
    assert [(c.name, list(c.values), list(c.times), list(c.steps or [])) for c in batch] == [
        ("loss", [0.5], [7], [3]),
        ("n", [2.0], [7], [3]),
    ]


def test_a_series_keeps_its_order_and_batches_are_few() -> None:
    given_lines = [
        '{"metric": {"a": 1}}',
        '{"metric": {"a": 2}}',
        '{"metric": {"b": 3}}',
        '{"metric": {"a": 4}, "step": 1}',
    ]
    told = points(parse([piece(line) for line in given_lines]))
    assert told == [{"a": [1, 2], "b": [3]}, {"a": [4]}]


def test_what_is_not_finite_is_a_point_too() -> None:
    (batch,) = parse([piece('{"metric": {"a": NaN, "b": Infinity, "c": -Infinity}}')]).points
    assert math.isnan(batch[0].values[0])
    assert [column.values[0] for column in batch[1:]] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "{",
            "{}",
            '{"metric"}',
            '{"metric": {}}',
            '{"metric": 1}',
            '{"metric": null}',
            '[{"metric": {"a": 1}}]',
        ),
        *(
            '{"metric": {"a": "1"}}',
            '{"metric": {"a": true}}',
            '{"metric": {"a": null}}',
            '{"metric": {"": 1}}',
        ),
        *(
            '{"metric": {"a": 1}, "step": 1.0}',
            '{"metric": {"a": 1}, "step": true}',
            '{"metric": {"a\\u0000": 1}}',
        ),
        *(
            '{"metric": {"a": 1}, "step": 9223372036854775808}',
            '{"metric": {"\\ud800": 1}}',
            '{"metric": {"a": 1}} x',
        ),
        json.dumps({"metric": {"x" * 251: 1}}),
        '{"metric": {"a": 1' + "0" * 400 + "}}",
        '{"metric": ' + "[" * 100_000,
        '{"metric": {"a": ' + "1" * 5000 + "}}",
    ],
    ids=lambda line: line[:40],
)
def test_what_only_nearly_is_a_metric_stays_a_line(line: str) -> None:
    told = parse([piece(line)])
    assert (texts(told), told.points) == ([line], [])


def test_metrics_on_standard_error_are_lines() -> None:
    told = parse([piece('{"metric": {"a": 1}}', stream=ERR)])
    assert ([line.stream for line in printed_lines(told)], told.points) == ([2], [])


def test_a_line_in_pieces_is_no_metric_but_those_around_it_are() -> None:
    metric = '{"metric": {"a": 1}}'
    told = parse([piece(f"{metric}\nlong", continued=True), piece(f"{metric}\n{metric}")])
    assert (texts(told), points(told)) == (["long", metric], [{"a": [1, 1]}])


def test_the_end_of_a_line_in_pieces_is_no_line_of_its_own() -> None:
    told = parse([piece("long", continued=True), piece("er", continued=True), piece(""), piece("next")])
    assert texts(told) == ["long", "er", "next"]


def test_the_streams_are_broken_apart_from_each_other() -> None:
    told = parse(
        [piece("long", stream=ERR, continued=True), piece('{"metric": {"a": 1}}'), piece("", stream=ERR)]
    )
    assert (texts(told), points(told)) == (["long"], [{"a": [1]}])


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert texts(parse([piece(b"\xff\0\xc3\xa9")])) == ["\\xff\0é"]


@given(st.lists(st.binary(max_size=60)))
def test_nothing_is_lost(given_lines: list[bytes]) -> None:
    whole = [line.replace(b"\n", b"") for line in given_lines]
    told = parse([piece(line) for line in whole])
    assert len(texts(told)) + sum(len(batch[0].values) for batch in told.points) == len(whole)
