"""The process that reads tables: a file a line of standard input, what is known of it a line of output.

A process of its own, because reading takes the interpreter's lock for as long as a file is large, and because
what strangers wrote may break whatever parses it: this may be killed and starve nobody. It holds one row
at a time. CSV and JSON lines need the standard library alone, npy and npz numpy's headers, Parquet and Arrow
pyarrow where it is installed. Run as `python -m backends.profiler`.
"""

import contextlib
import csv
import gzip
import json
import math
import os
import re
import resource
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from db.profiles import MIXED, MOST_COLUMNS, NOTHING, Column, Profile, encode, wider

MOST_MEMORY_BYTES = 4 << 30
MOST_LINE_BYTES = 16 << 20
PYARROW = "needs pyarrow: install rungraph-server[parquet]"

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.I)


_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)


class NoTable(Exception):
    """The file is not what its name says."""


def main() -> None:
    """Answer each line `{"path", "name"}` with a line `{"rows", "columns", "message"}`."""
    os.nice(10)
    csv.field_size_limit(MOST_LINE_BYTES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    for line in sys.stdin:
        asked = json.loads(line)
        found = profile(Path(asked["path"]), asked["name"])
        document = {"rows": found.rows, "columns": encode(found.columns), "message": found.message}
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


def reader(name: str) -> "Callable[[Path, str], Profile] | None":
    """What reads files of this name; None where nobody does, which is no mistake."""
    suffix = _suffix(name)
    return next((read for ending, read in _READERS.items() if suffix.endswith(ending)), None)


def profile(path: Path, name: str) -> Profile:
    """What is known of the table in a file; never raises for what the file holds."""
    read = reader(name)
    if read is None:
        return Profile()
    try:
        return read(path, _suffix(name))
    except NoTable as error:
        return Profile(message=str(error))
    except ImportError:
        return Profile(message=PYARROW)
    except UnicodeDecodeError:
        return Profile(message="is not UTF-8 text")
    except MemoryError:
        return Profile(message="needs too much memory to be described")
    except _BROKEN as error:
        # Whatever else a parser may do with a stranger's file ends this process, and is told as that.
        return Profile(message=f"cannot be read: {type(error).__name__}: {error}"[:500])


class Gathered:
    """What a column's values amount to, one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name[:200]
        self.type = NOTHING
        self.seen = 0
        self.nulls = 0
        self.lowest, self.highest = math.inf, -math.inf

    def add(self, kind: str, value: float | None) -> None:
        self.seen += 1
        if kind != self.type:
            self.type = wider(self.type, kind)
        if value is not None and math.isfinite(value):
            self.lowest = value if value < self.lowest else self.lowest
            self.highest = value if value > self.highest else self.highest

    def column(self, rows: int, *, text: bool) -> Column:
        """The column; what is mixed in a format of text alone is text."""
        kind = "str" if text and self.type == MIXED else self.type
        bounded = kind in ("int", "float") and self.lowest <= self.highest
        lowest, highest = (float(self.lowest), float(self.highest)) if bounded else (None, None)
        return Column(self.name, kind, rows - self.seen, lowest, highest)


def _csv(path: Path, suffix: str) -> Profile:
    with _text(path, suffix) as file:
        lines = csv.reader(file, delimiter="\t" if ".tsv" in suffix else ",", strict=False)
        header = next(lines, None)
        if header is None:
            return Profile(0, (), "is empty: it has no header")
        columns = [Gathered(name) for name in header]
        rows, message = 0, None
        kinds: list[bool] = [True] * len(columns)  # False once a column is text: it is not looked at again
        for row in lines:
            if not row:
                continue
            rows += 1
            if len(row) != len(columns) and message is None:
                message = f"line {lines.line_num} has {len(row)} values, the header has {len(columns)}"
            for at, cell in zip(range(len(columns)), row, strict=False):
                if not cell:
                    continue
                if not kinds[at]:
                    columns[at].seen += 1
                    continue
                columns[at].add(*_cell(cell))
                kinds[at] = columns[at].type not in ("str", MIXED)
    if len(columns) > MOST_COLUMNS:
        return Profile(rows, None, f"has {len(columns)} columns; {MOST_COLUMNS} at most are described")
    if len({column.name for column in columns}) < len(columns):
        return Profile(rows, None, "names a column twice")
    return Profile(rows, tuple(column.column(rows, text=True) for column in columns), message)


def _cell(cell: str) -> tuple[str, float | None]:
    if _INTEGER.fullmatch(cell):
        return "int", int(cell)
    if _FLOAT.fullmatch(cell):
        return "float", float(cell)
    return ("bool" if cell.lower() in ("true", "false") else "str"), None


def _json_lines(path: Path, suffix: str) -> Profile:
    columns: dict[str, Gathered] = {}
    rows = 0
    with _text(path, suffix) as file:
        for number, line in _lines(file):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise NoTable(f"line {number} is not JSON") from error
            if not isinstance(value, dict):
                raise NoTable(f"line {number} is no JSON object")
            rows += 1
            for key, part in value.items():
                if part is None:
                    columns.setdefault(key, Gathered(key))
                elif len(columns) <= MOST_COLUMNS:
                    columns.setdefault(key, Gathered(key)).add(*_value(part))
    if len(columns) > MOST_COLUMNS:
        return Profile(rows, None, f"has more columns than the {MOST_COLUMNS} that are described")
    return Profile(rows, tuple(column.column(rows, text=False) for column in columns.values()))


def _value(value: Any) -> tuple[str, float | None]:
    match value:
        case bool():
            return "bool", None
        case int():
            return "int", float(value) if abs(value) < 2**1000 else math.inf
        case float():
            return "float", value
        case str():
            return "str", None
    return ("list" if isinstance(value, list) else "object"), None


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(MOST_LINE_BYTES):
        number += 1
        if len(line) == MOST_LINE_BYTES:
            raise NoTable(f"line {number} is longer than {MOST_LINE_BYTES >> 20} MiB")
        if line.strip():
            yield number, line


def _numpy(path: Path, suffix: str) -> Profile:
    if suffix.endswith(".npy"):
        with path.open("rb") as file:
            return _arrays([_header("array", file)])
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(names) > MOST_COLUMNS:
            raise NoTable(f"has {len(names)} arrays; {MOST_COLUMNS} at most are described")
        arrays = []
        for name in names:
            with archive.open(name) as file:
                arrays.append(_header(name.removesuffix(".npy"), file))
    return _arrays(arrays)


def _header(name: str, file: IO[bytes]) -> tuple[str, tuple[int, ...], str]:
    """An array's name, shape and type from its header alone: nothing is unpickled or loaded."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return name[:200], shape, str(kind)


def _arrays(arrays: Sequence[tuple[str, tuple[int, ...], str]]) -> Profile:
    lengths = {shape[0] if shape else 1 for _, shape, _ in arrays}
    columns = [
        Column(name, kind + (str(list(shape[1:])) if len(shape) > 1 else ""), None)
        for name, shape, kind in arrays
    ]
    return Profile(lengths.pop() if len(lengths) == 1 else None, tuple(columns))


def _parquet(path: Path, _suffix: str) -> Profile:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        found, schema = file.metadata, file.schema_arrow
        if len(schema) > MOST_COLUMNS or found.num_columns != len(schema):
            # Nested columns have several leaves; their statistics are nobody's bounds.
            return Profile(found.num_rows, _described(schema))
        groups = [found.row_group(at) for at in range(found.num_row_groups)]
        columns = [
            _bounded(one, [group.column(at).statistics for group in groups])
            for at, one in enumerate(_described(schema) or ())
        ]
        return Profile(found.num_rows, tuple(columns))


def _bounded(column: Column, statistics: Sequence[Any]) -> Column:
    """The column with what the footer says of its row groups, where it says so of each."""
    if not statistics or any(one is None for one in statistics):
        return column
    counted = all(one.has_null_count for one in statistics)
    nulls = sum(one.null_count for one in statistics) if counted else None
    bounds = [one for one in statistics if one.num_values]  # a group of nulls alone has none
    if column.type not in ("int", "float") or not bounds or not all(one.has_min_max for one in bounds):
        return Column(column.name, column.type, nulls)
    lowest = float(min(one.min for one in bounds))
    highest = float(max(one.max for one in bounds))
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        return Column(column.name, column.type, nulls)
    return Column(column.name, column.type, nulls, lowest, highest)


def _arrow(path: Path, _suffix: str) -> Profile:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            file = pyarrow.ipc.open_file(source)
            rows = sum(file.get_batch(at).num_rows for at in range(file.num_record_batches))
        except pyarrow.ArrowInvalid:
            source.seek(0)
            file = pyarrow.ipc.open_stream(source)
            rows = sum(batch.num_rows for batch in file)
        return Profile(rows, _described(file.schema))


def _described(schema: Any) -> tuple[Column, ...] | None:
    if len(schema) > MOST_COLUMNS:
        return None
    return tuple(Column(field.name[:200], _arrow_type(field.type)) for field in schema)


def _arrow_type(kind: Any) -> str:
    import pyarrow.types as types

    words: tuple[tuple[Callable[[Any], bool], str], ...] = (
        (types.is_boolean, "bool"),
        (types.is_integer, "int"),
        (types.is_floating, "float"),
        (types.is_decimal, "float"),
        (types.is_string, "str"),
        (types.is_large_string, "str"),
        (types.is_null, NOTHING),
    )
    return next((word for holds, word in words if holds(kind)), str(kind)[:200])


def _text(path: Path, suffix: str) -> IO[str]:
    if suffix.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _suffix(name: str) -> str:
    return name.lower()


_READERS: dict[str, Callable[[Path, str], Profile]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".csv.gz": _csv,
    ".tsv.gz": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".jsonl.gz": _json_lines,
    ".ndjson.gz": _json_lines,
    ".npy": _numpy,
    ".npz": _numpy,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}

if __name__ == "__main__":
    main()
