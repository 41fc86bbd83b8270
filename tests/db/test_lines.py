"""Chunks of lines: any bytes come back as the lines they were, in chunks a watcher can take."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from db import lines
from db.lines import Block, Line

blocks = st.builds(
    Block,
    st.integers(0, 2**62),
    st.sampled_from([1, 2]),
    st.one_of(
        st.binary(max_size=50),
        st.lists(st.binary(max_size=5), min_size=1, max_size=40).map(b"\n".join),
        st.integers(1, 1200).map(lambda count: b"\n".join(b"%d" % number for number in range(count))),
        st.integers(1, 3).map(lambda count: b"\n".join([b"x" * 200_000] * count)),
    ),
)


@given(st.lists(blocks, max_size=6))
def test_lines_come_back_as_they_were(given_blocks: list[Block]) -> None:
    expected = [
        Line(block.time_us, block.stream, lines.text_of(line))
        for block in given_blocks
        for line in block.data.split(b"\n")
    ]
    chunks = lines.pack(given_blocks)
    found = [lines.unpack(chunk.data) for chunk in chunks]
    assert [line for part in found for line in part] == expected
    assert [chunk.lines for chunk in chunks] == [len(part) for part in found]
    assert sum(chunk.size for chunk in chunks) == sum(len(block.data) + 1 for block in given_blocks)
    for chunk in chunks:
        assert chunk.lines == 1 or (chunk.lines <= lines.MOST_LINES and chunk.size <= lines.MOST_BYTES + 1)


def test_chunks_of_the_first_version_are_read() -> None:
    data = orjson.dumps([[5, 2, "é"], [6, 1, ""]])
    assert lines.unpack(data) == [Line(5, 2, "é"), Line(6, 1, "")]


def test_what_repeats_takes_little_room() -> None:
    data = b"\n".join(b"2026-01-01 12:00:00 INFO step %d of the loop" % number for number in range(500))
    (chunk,) = lines.pack([Block(1, 1, data)])
    assert len(chunk.data) < len(data) / 4
