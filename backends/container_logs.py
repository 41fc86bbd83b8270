"""What a container prints, read from the engine's own log at any offset, exactly, by any replica.

The offset counts the bytes of the engine's stream (each entry a header, a stamp and what was printed), which is
the same however often it is read. The engine cannot begin in the middle of it: a time to begin at is no place
where two entries have the same, or a clock was set back. So a stream is kept open between two reads, and only
what another reader left off has to be skipped, once.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from aiodocker.exceptions import DockerError

from backends.base import BackendUnavailable, Output, Piece, Stream
from backends.engines import Engine, reachable

ENTRY = struct.Struct(">BxxxL")
HELD_BYTES = 1 << 16
"""A line longer than this comes in several pieces."""
CUT_BYTES = 1 << 14
"""After so many the engine cuts a line; a shorter entry without newline is the last of its stream."""
_OWN = 3
"""The stream of the engine's own words, without a stamp: why it cannot read a log, or the rest of it."""
AHEAD_BYTES = 4 << 20
"""What is read before anybody has asked for it."""
_LIGHT_BYTES = 1 << 16
_SILENCE_SECONDS = 30.0
"""How long more of a log that is there is waited for."""
_MILLISECOND = len("2006-01-02T15:04:05.000")


class Log:
    """One reader of a container's log. `told` is called when there is more of it.

    One that follows goes on while the container does, and is never sure of the end: the engine may break it off
    before the last lines have come. One that does not reads what there is now, which is all of a container's log
    that has `ended`.
    """

    def __init__(
        self, engine: Engine, container: str, *, follows: bool, ended: bool, told: Callable[[], None]
    ) -> None:
        self.follows = follows
        self._ended = ended
        self._told = told
        self._buffer = bytearray()
        self._begin = 0
        self._skip = 0
        self._window = 0
        """How much one reading wants to see, so that it gives the same however the stream came."""
        self._complete = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._pumping = asyncio.create_task(self._pump(engine, container), name=f"log of {container}")

    async def read(self, offset: int, limit: int) -> Output | None:
        """From an offset, or None where this reader is past it, behind it, or at the end of what it can tell."""
        if offset < self._begin:
            return None
        self._window = max(limit, 2 * HELD_BYTES) + 2 * HELD_BYTES
        self._drop(offset)
        if self.follows and self._begin < offset:
            return None  # what lies there has not come yet, and nobody knows when it will have
        while True:
            self._news.clear()
            complete = self._complete
            if self.follows or complete or self._error or len(self._buffer) >= self._window:
                output = await self._parsed(offset, limit, complete)
                if output.pieces:
                    return output
            if self._error is not None:
                raise self._error
            if complete:
                if self._ended and not self.follows and self._begin == offset and self._buffer:
                    raise BackendUnavailable("a log broke off on its way", retry_in_seconds=1.0)
                return None
            if self.follows:
                return Output((), offset)
            await self._more()

    async def close(self) -> None:
        self._pumping.cancel()
        await asyncio.wait({self._pumping})

    @property
    def is_over(self) -> bool:
        """Whether its stream has ended, or broken off."""
        return self._complete or self._error is not None

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._news.wait()
        except TimeoutError as error:
            raise BackendUnavailable("the Docker engine does not go on with a log") from error

    async def _parsed(self, offset: int, limit: int, complete: bool) -> Output:
        if self._begin != offset or not self._buffer:
            return Output((), offset)
        data = bytes(self._buffer[: self._window])
        whole = len(data) == len(self._buffer)
        over = complete and self._ended and not self.follows
        arguments = (data, limit, whole and over, whole and (complete or self.follows), over)
        if len(data) > _LIGHT_BYTES:
            pieces, size = await asyncio.to_thread(parse, *arguments)
        else:
            pieces, size = parse(*arguments)
        return Output(pieces, offset + size)

    def _drop(self, offset: int) -> None:
        """Let go of what lies before an offset, also of what is still to come."""
        self._skip = max(self._skip, offset)
        gone = min(self._skip - self._begin, len(self._buffer))
        if gone > 0:
            del self._buffer[:gone]
            self._begin += gone
        if self._has_room:
            self._room.set()

    @property
    def _has_room(self) -> bool:
        return len(self._buffer) < max(AHEAD_BYTES, self._window)

    async def _pump(self, engine: Engine, container: str) -> None:
        asked = {"stdout": True, "stderr": True, "timestamps": True, "follow": self.follows}
        try:
            async with engine.stream("GET", f"containers/{container}/logs", asked) as response:
                with reachable():
                    async for chunk in response.content.iter_any():
                        self._buffer += chunk
                        self._drop(self._skip)
                        self._news.set()
                        self._told()
                        while not self._has_room:
                            self._room.clear()
                            await self._room.wait()
        except DockerError as error:
            if error.status not in (404, 409):  # removed, or about to be: nothing more will come
                self._error = BackendUnavailable(f"Docker: {error.message}")
        except BackendUnavailable as error:
            self._error = error
        self._complete = self._error is None
        self._news.set()
        self._told()


def parse(
    data: bytes, limit: int, final: bool, live: bool, over: bool = False
) -> tuple[tuple[Piece, ...], int]:
    """The pieces at the beginning of a log's stream, at least one, then as many as fit; and their size there.

    `final`: nothing comes after `data`. `live`: more may, but nobody knows when; whole lines are given out. Else
    what may go on in what follows is left for then, so that pieces are the same however the stream was cut.
    `over`: it is the last reading of this log. What the engine says of itself ends any other, for the next one may
    tell what was printed there, and is an error line of the last.
    """
    pieces: list[Piece] = []
    taken = 0
    for piece, end, closed in _groups(data, final or over):
        if end == len(data) or not closed:
            whole = not piece.continued
            if not (final or (live and whole)):
                break
            if final and piece.continued:
                piece = Piece(piece.stream, piece.time_us, piece.data)
        if pieces and end > limit:
            break
        pieces.append(piece)
        taken = end
    return tuple(pieces), taken


def _groups(data: bytes, over: bool) -> Iterator[tuple[Piece, int, bool]]:
    """Entries that make one piece: lines of one stream and millisecond, or the parts of one long line.

    Each with where it ends, and whether an entry that follows has closed it; `continued` where no newline has.
    """
    at = 0
    parts: list[bytes] = []
    size = 0
    group = -1
    stamp = b""
    is_open = False
    for stream, text, end in _entries(data):
        if stream == _OWN:
            if parts:
                yield _piece(group, stamp, parts, is_open), at, True
                parts, is_open = [], False
            if not over:
                return
            at = end
            yield Piece(Stream.STDERR, time.time_ns() // 1000, text.rstrip()), end, True
            continue
        space = text.find(b" ")
        mark = text[:_MILLISECOND]
        body = text[space + 1 :]
        whole = body.endswith(b"\n") or len(body) < CUT_BYTES
        if parts:
            joins = stream == group and size < HELD_BYTES
            if is_open:
                if not joins:
                    yield _piece(group, stamp, parts, True), at, True
                    parts = []
            elif not (joins and whole and mark == stamp[:_MILLISECOND]):
                yield _piece(group, stamp, parts, False), at, True
                parts = []
        if not parts:
            group, stamp, size = stream, text[:space], 0
        parts.append(body)
        size += len(body)
        is_open = not whole
        at = end
    if parts:
        yield _piece(group, stamp, parts, is_open), at, False


def _entries(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Whole entries: stream, stamp and text, and where each ends."""
    at, unpack, head = 0, ENTRY.unpack_from, ENTRY.size
    while at + head <= len(data):
        stream, length = unpack(data, at)
        end = at + head + length
        if end > len(data):
            return
        yield stream, data[at + head : end], end
        at = end


def _piece(stream: int, stamp: bytes, parts: list[bytes], is_open: bool) -> Piece:
    data = b"".join(parts)
    return Piece(Stream(stream), _microseconds(stamp), data.removesuffix(b"\n"), is_open)


def _microseconds(stamp: bytes) -> int:
    """Of a stamp with nanoseconds, which datetime does not read."""
    text = stamp.decode()
    moment = datetime.fromisoformat(text[:26] + text[29:])
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def moment_us(text: str) -> int:
    """A time of the engine's, as inspecting says it; 0 for one that has not come: year 1."""
    if not text or text.startswith("0001"):
        return 0
    whole, _, rest = text.rstrip("Z").partition(".")
    micro = (rest + "000000")[:6] if rest else "000000"
    moment = datetime.fromisoformat(f"{whole}+00:00")
    return int(moment.timestamp()) * 1_000_000 + int(micro)
