"""Points of many series as one table, in the formats that other tools read, written piece by piece.

One row a point: run, job (its step), attempt, rank, metric, step, time, value. CSV and JSON lines have times in
microseconds since the epoch, as the API does, Arrow and Parquet as timestamps. Where JSON has no number, the value is
null and `nonFinite` says what was there. pyarrow is looked for when it is needed.
"""

import csv
import enum
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import orjson

from db import errors
from db.points import Points
from graph import enums
from graph.nodes import public

COLUMNS = ("run", "job", "attempt", "rank", "metric", "step", "time", "value")
TEXT_POINTS = 1 << 13
"""At a time: half a megabyte of text, which is what waits for a client that reads slowly."""
PACKED_POINTS = 1 << 20
PYARROW = "this format needs pyarrow on the server: install rungraph-server[parquet]"


class ExportFormat(enum.Enum):
    """How a table is written."""

    CSV = "csv"
    JSONL = "jsonl"
    ARROW = "arrow"
    PARQUET = "parquet"


enums.show(
    ExportFormat,
    "How a table is written.",
    CSV="Text with commas, and the names of the columns in the first line.",
    JSONL="A JSON object a line.",
    ARROW="An Arrow stream, compressed.",
    PARQUET="A Parquet file.",
)


MEDIA_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.JSONL: "application/jsonl; charset=utf-8",
    ExportFormat.ARROW: "application/vnd.apache.arrow.stream",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}


class Writer(Protocol):
    """Makes the bytes of a table: the beginning, what each group of parts adds, the end. Blocks.

    It is given parts of at most so many points, `most`, at a time.
    """

    most: int

    def begin(self) -> bytes: ...

    def add(self, parts: Sequence[Points]) -> bytes: ...

    def end(self) -> bytes: ...


def writer(kind: ExportFormat) -> Writer:
    """A writer of this format; raises Unavailable where the server cannot write it."""
    if kind is ExportFormat.CSV:
        return _Csv()
    if kind is ExportFormat.JSONL:
        return _Jsonl()
    try:
        return _arrow() if kind is ExportFormat.ARROW else _parquet()
    except ImportError as error:
        raise errors.Unavailable(PYARROW) from error


def few(parts: Sequence[Points], most: int) -> Iterator[list[Points]]:
    """The same points in the same order, at most so many at a time."""
    some: list[Points] = []
    left = most
    for part in parts:
        begin = 0
        while begin < len(part.values):
            end = min(begin + left, len(part.values))
            some.append(_stretch(part, begin, end))
            left -= end - begin
            begin = end
            if not left:
                yield some
                some, left = [], most
    if some:
        yield some


def _stretch(part: Points, begin: int, end: int) -> Points:
    here = slice(begin, end)
    return replace(part, steps=part.steps[here], times=part.times[here], values=part.values[here])


class Sink(io.RawIOBase):
    """Takes what a library writes to a file, for who sends it on."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """What has come since it was taken last."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class _Csv:
    most = TEXT_POINTS

    def begin(self) -> bytes:
        return (",".join(COLUMNS) + "\r\n").encode()

    def add(self, parts: Sequence[Points]) -> bytes:
        return "".join(map(self._rows, parts)).encode("utf-8", "replace")

    def end(self) -> bytes:
        return b""

    def _rows(self, part: Points) -> str:
        written = io.StringIO()
        csv.writer(written, lineterminator="").writerow(_labels(part))
        labels = written.getvalue()
        columns = (part.steps.tolist(), part.times.tolist(), map(repr, part.values.tolist()))
        return "".join(
            [f"{labels},{step},{time},{value}\r\n" for step, time, value in zip(*columns, strict=True)]
        )


class _Jsonl:
    most = TEXT_POINTS

    def begin(self) -> bytes:
        return b""

    def add(self, parts: Sequence[Points]) -> bytes:
        return b"".join(map(self._rows, parts))

    def end(self) -> bytes:
        return b""

    def _rows(self, part: Points) -> bytes:
        head = orjson.dumps(dict(zip(COLUMNS, _labels(part), strict=False)))[:-1].replace(b"%", b"%%")
        row = head + b',"step":%b,"time":%b,"value":%b}\n'
        values = _texts(part.values)
        for index in np.flatnonzero(~np.isfinite(part.values)):
            values[index] = b'null,"nonFinite":"%b"' % _KINDS[repr(float(part.values[index]))]
        return b"".join(
            [row % each for each in zip(_texts(part.steps), _texts(part.times), values, strict=True)]
        )


_KINDS = {"nan": b"NAN", "inf": b"POSITIVE_INFINITY", "-inf": b"NEGATIVE_INFINITY"}


class _Packed:
    """What pyarrow writes: the two formats differ in how the writer is made."""

    most = PACKED_POINTS

    def __init__(self, pyarrow: Any, make: Callable[[Sink, Any], Any]) -> None:
        self._pyarrow = pyarrow
        self._schema = _schema(pyarrow)
        self._sink = Sink()
        self._writer = make(self._sink, self._schema)

    def begin(self) -> bytes:
        return self._sink.take()

    def add(self, parts: Sequence[Points]) -> bytes:
        self._writer.write_batch(_batch(self._pyarrow, self._schema, parts))
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.take()


def _arrow() -> _Packed:
    import pyarrow.ipc

    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    return _Packed(pyarrow, lambda sink, schema: pyarrow.ipc.new_stream(sink, schema, options=options))


def _parquet() -> _Packed:
    import pyarrow.parquet

    writer = pyarrow.parquet.ParquetWriter
    return _Packed(pyarrow, lambda sink, schema: writer(sink, schema, compression="zstd"))


def _schema(pyarrow: Any) -> Any:
    kinds = {
        **dict.fromkeys(("run", "job", "metric"), pyarrow.string()),
        **dict.fromkeys(("attempt", "rank"), pyarrow.int32()),
        "step": pyarrow.int64(),
        "time": pyarrow.timestamp("us", tz="UTC"),
        "value": pyarrow.float64(),
    }
    return pyarrow.schema([pyarrow.field(name, kinds[name], nullable=False) for name in COLUMNS])


def _batch(pyarrow: Any, schema: Any, parts: Sequence[Points]) -> Any:
    labels = zip(*(_labels(part) for part in parts), strict=True)
    counts = np.array([len(part.values) for part in parts])
    which = pyarrow.array(np.repeat(np.arange(len(parts)), counts))
    columns = [
        pyarrow.array(values, schema.field(name).type).take(which)
        for name, values in zip(COLUMNS, labels, strict=False)
    ]
    columns += [
        pyarrow.array(np.concatenate(arrays)).cast(schema.field(name).type)
        for name, arrays in (
            ("step", [part.steps for part in parts]),
            ("time", [part.times for part in parts]),
            ("value", [part.values for part in parts]),
        )
    ]
    return pyarrow.record_batch(columns, schema=schema)


def _labels(part: Points) -> tuple[str, str, int, int, str]:
    return public("run", part.run_id), part.step, part.attempt, part.rank, part.name


def _texts(column: Any) -> list[bytes]:
    """The numbers of a column as JSON has them."""
    packed = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    return packed.split(b",") if packed else []
