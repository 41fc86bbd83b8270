"""Framed output of a worker, as watchers and couriers write it, read into pieces."""

from backends import attempts, base


def parse(data: bytes, offset: int, limit: int) -> base.Output:
    """The whole frames of `data`, at least one and then as many as fit; a torn one is not there yet."""
    pieces: list[base.Piece] = []
    at = 0
    while at + attempts.FRAME.size <= len(data):
        stream, flags, length, time_us = attempts.FRAME.unpack_from(data, at)
        end = at + attempts.FRAME.size + length
        if end > len(data) or stream not in tuple(base.Stream):
            break
        if pieces and end > limit:
            break
        line = data[at + attempts.FRAME.size : end]
        continued = bool(flags & attempts.CONTINUED)
        pieces.append(base.Piece(base.Stream(stream), time_us, line, continued))
        at = end
    return base.Output(tuple(pieces), offset + at)
