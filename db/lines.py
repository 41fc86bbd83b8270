"""Log lines as they are kept: blocks of lines, packed into chunks of bounded size. Pure.

On the way in there is no object a line: a block is what was read at once, its lines joined by newlines, and
a chunk is blocks with their times in front, deflated where that pays. Only who reads a chunk takes it apart.
Whatever bytes a job prints are kept as they are, and become text that any client can show when read.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import orjson

MOST_LINES = 500
MOST_BYTES = 256 << 10
"""Of one chunk: what a watcher gets in one message stays small enough to be passed on at once."""

_PLAIN, _DEFLATED, _LISTED = b"\x01", b"\x02", b"["
_DEFLATE_BYTES = 512
_COUNT = struct.Struct("<I")
_SPAN = struct.Struct("<BxxxIq")  # stream, lines, microseconds since the epoch


class Line(NamedTuple):
    """One line. `stream` is 1 for standard output, 2 for standard error."""

    time_us: int
    stream: int
    text: str


class Span(NamedTuple):
    """Lines of a chunk that were read at once."""

    stream: int
    lines: int
    time_us: int


class Block(NamedTuple):
    """Lines of one stream that were read at one time, joined by newlines: at least one, maybe empty."""

    time_us: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk of lines as it is stored; `size` is the bytes of their text, each with its newline."""

    lines: int
    size: int
    data: bytes


def pack(blocks: Iterable[Block]) -> list[Packed]:
    """The blocks in their order, in as few chunks as their bounds allow."""
    chunks: list[Packed] = []
    spans: list[tuple[Block, int]] = []
    lines = size = 0
    for block, count in _cut(blocks):
        if spans and (lines + count > MOST_LINES or size + len(block.data) > MOST_BYTES):
            chunks.append(_packed(spans, lines, size))
            spans, lines, size = [], 0, 0
        spans.append((block, count))
        lines += count
        size += len(block.data) + 1
    if spans:
        chunks.append(_packed(spans, lines, size))
    return chunks


def blocks_of(lines: Iterable[Line]) -> list[Block]:
    """Lines that are text already, each a block."""
    return [Block(time_us, stream, text.encode("utf-8", "replace")) for time_us, stream, text in lines]


def unpack(data: bytes) -> list[Line]:
    """The lines of a chunk, in order."""
    return [Line(*fields) for fields in zip(*spread(data), strict=True)]


def spread(data: bytes) -> tuple[list[int], list[int], list[str]]:
    """The lines of a chunk, in order: their times, streams and texts."""
    spans, text = read(data)
    times: list[int] = []
    streams: list[int] = []
    for span in spans:
        times += [span.time_us] * span.lines
        streams += [span.stream] * span.lines
    return times, streams, text.split("\n")


def read(data: bytes) -> tuple[list[Span], str]:
    """A chunk as it is kept: which of its lines were read at once, and the text of all, joined by newlines."""
    kind = data[:1]
    if kind == _LISTED:  # as version 0.1 kept them: a JSON list of [time, stream, text]
        rows = orjson.loads(data)
        return [Span(row[1], 1, row[0]) for row in rows], "\n".join(row[2] for row in rows)
    body = zlib.decompress(data[1:]) if kind == _DEFLATED else data[1:]
    (count,) = _COUNT.unpack_from(body)
    heads = _SPAN.iter_unpack(body[_COUNT.size :][: count * _SPAN.size])
    return [Span(*head) for head in heads], text_of(body[_COUNT.size + count * _SPAN.size :])


def text_of(data: bytes) -> str:
    """What a job printed, as text: UTF-8 where it is, `\\xff` for a byte that is not."""
    return data.decode("utf-8", "backslashreplace")


def _cut(blocks: Iterable[Block]) -> Iterator[tuple[Block, int]]:
    """Blocks that fit into a chunk, with how many lines each has; a line is never cut."""
    for block in blocks:
        count = block.data.count(b"\n") + 1
        if count <= MOST_LINES and (count == 1 or len(block.data) <= MOST_BYTES):
            yield block, count
        else:
            yield from _cut_one(block)


def _cut_one(block: Block) -> Iterator[tuple[Block, int]]:
    ends = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
    ends = np.append(ends, len(block.data))
    first = begin = 0
    while first < len(ends):
        fitting = int(np.searchsorted(ends, begin + MOST_BYTES, "right")) - first
        count = max(1, min(MOST_LINES, fitting))
        end = int(ends[first + count - 1])
        yield block._replace(data=block.data[begin:end]), count
        first, begin = first + count, end + 1


def _packed(spans: Sequence[tuple[Block, int]], lines: int, size: int) -> Packed:
    heads = b"".join(_SPAN.pack(block.stream, count, block.time_us) for block, count in spans)
    body = _COUNT.pack(len(spans)) + heads + b"\n".join([block.data for block, _ in spans])
    if len(body) > _DEFLATE_BYTES:
        deflated = zlib.compress(body, 1)
        if len(deflated) < len(body):
            return Packed(lines, size, _DEFLATED + deflated)
    return Packed(lines, size, _PLAIN + body)
