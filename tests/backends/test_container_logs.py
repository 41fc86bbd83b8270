"""An engine's log told in pieces: the same whichever way the stream was cut, and no line torn or lost."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import Piece, Stream
from backends.container_logs import CUT_BYTES, ENTRY, moment_us, parse

Entry = tuple[int, int, bytes]
"""Stream, milliseconds, and what was printed."""

bodies = st.one_of(st.binary(max_size=20).map(lambda body: body.replace(b"\n", b"") + b"\n"))
entries = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 3), bodies), max_size=30)


def logged(*found: Entry) -> bytes:
    """As the engine has it."""
    text = b""
    for stream, milliseconds, body in found:
        stamped = b"2026-11-21T18:26:00.%03d548387Z " % milliseconds + body
        text += ENTRY.pack(stream, len(stamped)) + stamped
    return text


def said(pieces: Sequence[Piece], stream: int) -> bytes:
    return b"".join(
        piece.data + (b"" if piece.continued else b"\n") for piece in pieces if piece.stream == stream
    )


@given(entries, st.integers(1, 100))
def test_pieces_are_the_same_however_few_are_taken_at_once(found: list[Entry], limit: int) -> None:
    data = logged(*found)
    whole, size = parse(data, 1 << 20, True, False)
    assert size == len(data)
    for stream in (1, 2):
        assert said(whole, stream) == b"".join(body for one, _, body in found if one == stream)
    taken: list[Piece] = []
    at = 0
    while at < len(data):
        pieces, size = parse(data[at:], limit, True, False)
        taken += pieces
        at += size
    assert tuple(taken) == whole


@given(entries, st.data())
def test_what_has_come_of_a_running_log_is_told_to_the_last_whole_entry(
    found: list[Entry], draw: st.DataObject
) -> None:
    data = logged(*found)
    cut = draw.draw(st.integers(0, len(data)))
    first, reached = parse(data[:cut], 1 << 20, False, True)
    rest, size = parse(data[reached:], 1 << 20, True, False)
    assert (reached <= cut, reached + size) == (True, len(data))
    for stream in (1, 2):
        assert said([*first, *rest], stream) == b"".join(body for one, _, body in found if one == stream)


def test_a_line_that_the_engine_cut_is_one_piece_up_to_64_kib() -> None:
    part = b"x" * CUT_BYTES
    data = logged(*[(1, 0, part)] * 3, (1, 0, b"end\n"), *[(1, 1, part)] * 6, (1, 1, b"end\n"))
    pieces, _ = parse(data, 1 << 20, True, False)
    assert [(len(piece.data), piece.continued) for piece in pieces] == [
        (3 * CUT_BYTES + 3, False),
        (4 * CUT_BYTES, True),
        (2 * CUT_BYTES + 3, False),
    ]


def test_a_line_whose_end_is_still_to_come_is_held_back_and_closed_at_the_end() -> None:
    part = b"x" * CUT_BYTES
    data = logged((1, 0, b"before\n"), (1, 1, part))
    pieces, size = parse(data, 1 << 20, False, True)
    assert ([piece.data for piece in pieces], size) == ([b"before"], len(logged((1, 0, b"before\n"))))
    pieces, _ = parse(data, 1 << 20, True, False)
    assert [(len(piece.data), piece.continued) for piece in pieces] == [(6, False), (CUT_BYTES, False)]


def test_a_last_line_without_end_is_a_line_whatever_the_other_stream_says_after() -> None:
    pieces, _ = parse(logged((1, 0, b"one\n"), (1, 0, b"last"), (2, 0, b"oh\n")), 1 << 20, False, True)
    assert [(piece.stream, piece.data, piece.continued) for piece in pieces] == [
        (Stream.STDOUT, b"one\nlast", False),
        (Stream.STDERR, b"oh", False),
    ]


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0001-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T00:00:01.123456789Z", 1_123_456),
    ],
)
def test_times_of_the_engine_are_read_to_the_microsecond(text: str, microseconds: int) -> None:
    assert moment_us(text) == microseconds


def test_a_stamp_of_an_engine_in_another_zone_is_the_same_moment() -> None:
    body = b"2026-11-21T19:26:00.000548387+01:00 x\n"
    (piece,), _ = parse(ENTRY.pack(1, len(body)) + body, 1 << 20, True, False)
    (same,), _ = parse(logged((1, 0, b"x\n")), 1 << 20, True, False)
    assert piece == same
