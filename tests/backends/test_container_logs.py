"""An engine's log told in pieces: the same whichever way the stream was cut, and no line torn or lost."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from backends.base import BackendUnavailable, Output, Piece, Stream
from backends.container_logs import CUT_BYTES, ENTRY, Log, moment_us, parse
from backends.engines import Engine
from tests.backends.standins import answering

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


def own(words: bytes) -> bytes:
    """What an engine says of itself between what was printed, without a stamp."""
    return ENTRY.pack(3, len(words)) + words


@pytest.mark.parametrize("live", [True, False])
def test_what_an_engine_cannot_read_now_is_no_line_and_nothing_behind_it_is_told(live: bool) -> None:
    before, after = logged((1, 0, b"one\n"), (1, 1, b"two\n")), logged((1, 2, b"three\n"))
    broken = before + own(b"Error grabbing logs: unexpected EOF\n")
    pieces, size = parse(broken + after, 1 << 20, False, live)
    assert ([piece.data for piece in pieces], size) == ([b"one", b"two"], len(before))
    assert parse(broken[size:], 1 << 20, False, live) == ((), 0)
    pieces, _ = parse((before + after)[size:], 1 << 20, True, False)
    assert [piece.data for piece in pieces] == [b"three"]


@pytest.mark.parametrize("behind", [b"", logged((2, 2, b"three\n"))])
def test_what_an_engine_can_never_read_is_said_in_the_log(behind: bytes) -> None:
    long = b"x" * CUT_BYTES
    data = logged((1, 0, b"one\n"), (1, 1, long)) + own(b"Error grabbing logs: invalid character\n") + behind
    pieces, size = parse(data, 1 << 20, True, False, True)
    assert size == len(data)
    assert [(piece.stream, piece.data) for piece in pieces] == [
        (Stream.STDOUT, b"one"),
        (Stream.STDOUT, long),
        (Stream.STDERR, b"Error grabbing logs: invalid character"),
        *([(Stream.STDERR, b"three")] if behind else []),
    ]
    assert all(piece.time_us > 0 for piece in pieces)


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


async def read_to_its_end(*answers: bytes) -> tuple[list[bytes], int]:
    """What is told of the log of a container that has ended, whose engine gives one of these answers a time."""
    left = iter(answers)

    async def logs(_: Request) -> Response:
        return StreamingResponse(_sent(next(left)))

    async def version(_: Request) -> Response:
        return JSONResponse({"ApiVersion": "1.41"})

    routes = [Route("/version", version), Route("/v1.41/_ping", version)]
    app = Starlette(routes=[*routes, Route("/v1.41/containers/x/logs", logs)])
    told: list[bytes] = []
    offset = tries = 0
    async with answering(app) as port:
        engine = Engine(f"tcp://127.0.0.1:{port}")
        await engine.open()
        for _ in answers:
            tries += 1
            log = Log(engine, "x", follows=False, ended=True, told=lambda: None)
            try:
                while (output := await log.read(offset, 1 << 20)) is not None:
                    told += _lines(output)
                    offset = output.next_offset
                break
            except BackendUnavailable:
                continue
            finally:
                await log.close()
        await engine.close()
    return told, tries


async def _sent(answer: bytes) -> AsyncIterator[bytes]:
    yield answer.removesuffix(b"LOST")
    if answer.endswith(b"LOST"):
        raise ConnectionResetError


def _lines(output: Output) -> Iterator[bytes]:
    for piece in output.pieces:
        yield from piece.data.split(b"\n")


WHOLE = logged((1, 0, b"one\n"), (1, 1, b"two\n"), (2, 2, b"three\n"))


@pytest.mark.parametrize("size", [0, 3, 30, 60, 100, len(WHOLE) - 1])
async def test_a_log_that_breaks_off_is_read_again_to_its_end(size: int) -> None:
    told, tries = await read_to_its_end(WHOLE[:size] + b"LOST", WHOLE[: size + 1] + b"LOST", WHOLE)
    assert (told, tries) == ([b"one", b"two", b"three"], 3)


@pytest.mark.parametrize("size", [3, 30, 60, 100, len(WHOLE) - 1])
async def test_a_log_that_ends_within_an_entry_is_not_taken_for_whole(size: int) -> None:
    assert await read_to_its_end(WHOLE[:size], WHOLE) == ([b"one", b"two", b"three"], 2)


async def test_a_log_that_the_engine_cannot_read_ends_in_its_words() -> None:
    broken = logged((1, 0, b"one\n")) + own(b"Error grabbing logs: invalid character\n")
    assert await read_to_its_end(broken) == ([b"one", b"Error grabbing logs: invalid character"], 1)
