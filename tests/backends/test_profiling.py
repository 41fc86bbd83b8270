"""Tables read: what each format says of itself, what broken files cost, and versions described after a death."""

import gzip
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import profiler
from backends.blobs import Blobs
from backends.profiler import PYARROW
from backends.profiling import Profiler
from db import dataset_versions, datasets, files
from db.database import Database
from db.dataset_versions import PartSpec
from db.datasets import DatasetVersion, DatasetVersionState
from db.paging import Page
from db.profiles import Column, Profile
from tests.backends.grounds import eventually
from tests.conftest import absent
from tests.db.world import World

CSV = "id,price,word,ok,empty\n1,0.5,a,true,\n2,,b,FALSE,\n30,-7e2,c d,true,\n"
COLUMNS = (
    Column("id", "int", 0, 1.0, 30.0),
    Column("price", "float", 1, -700.0, 0.5),
    Column("word", "str", 0),
    Column("ok", "bool", 0),
    Column("empty", "null", 3),
)


def read(folder: Path, name: str, content: str | bytes) -> Profile:
    path = folder / "content"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return profiler.profile(path, name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("A.CSV", "\ufeff" + CSV),
        ("a.csv", CSV.replace("\n", "\r\n") + "\n\n"),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
    ],
)
def test_a_table_of_text_tells_its_types_and_bounds(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(tmp_path, name, content) == Profile(3, COLUMNS)


@given(st.lists(st.lists(st.none() | st.integers(-(10**9), 10**9), min_size=2, max_size=2), min_size=1))
def test_whole_numbers_are_counted_and_bounded_exactly(rows: list[list[int | None]]) -> None:
    text = "a,b\n" + "".join(f"{'' if a is None else a},{'' if b is None else b}\n" for a, b in rows)
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), "x.csv", text)
    assert found.rows == len(rows)
    for at, column in enumerate(found.columns or ()):
        values = [row[at] for row in rows if row[at] is not None]
        assert column.nulls == len(rows) - len(values)
        assert column.type == ("int" if values else "null")
        assert (column.minimum, column.maximum) == ((min(values), max(values)) if values else (None, None))  # type: ignore[type-var]


def test_lines_of_json_tell_their_keys(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", '{"a": 1, "b": [1]}\n\n{"a": 2.5, "c": null}\n{"a": true, "b": {}}\n')
    assert found == Profile(3, (Column("a", "mixed", 0), Column("b", "mixed", 1), Column("c", "null", 3)))


def test_arrays_tell_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2, 3), np.float32), y=np.zeros(5, np.int64))
    np.save(tmp_path / "b.npy", np.zeros((7, 4)))
    assert profiler.profile(tmp_path / "a.npz", "a.npz") == Profile(
        5, (Column("x", "float32[2, 3]"), Column("y", "int64"))
    )
    assert profiler.profile(tmp_path / "b.npy", "b.npy") == Profile(7, (Column("array", "float64[4]"),))


def test_a_pickled_array_is_told_and_not_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "went off"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert profiler.profile(tmp_path / "a.npy", "a.npy").rows == 1
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty: it has no header"),
        ("a.csv", b"a\n\xff\xfe\n", "is not UTF-8 text"),
        ("a.csv", "a,b\n1\n1,2,3\n", "line 2 has 1 values, the header has 2"),
        ("a.csv", "a,a\n1,2\n", "names a column twice"),
        ("a.csv", ",".join(map(str, range(1001))) + "\n", "has 1001 columns; 1000 at most are described"),
        ("a.csv.gz", b"no gzip", "cannot be read: BadGzipFile: Not a gzipped file (b'no')"),
        ("a.jsonl", '{"a": 1}\n{"a"', "line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.npz", b"no zip", "cannot be read: BadZipFile: File is not a zip file"),
        ("a.npy", b"no array", "cannot be read: ValueError"),
    ],
)
def test_a_broken_file_says_what_is_wrong(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert str(read(tmp_path, name, content).message).startswith(message)


@pytest.mark.parametrize("name", ["photo.png", "noextension", "model.bin"])
def test_what_is_no_table_is_no_mistake(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, b"\x89PNG") == Profile()


def test_a_parquet_files_footer_is_enough(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        assert read(tmp_path, "a.parquet", b"PAR1").message == PYARROW
        absent("pyarrow", "the extra `parquet` is not installed")
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    table = pyarrow.table({"a": [1, 2, None], "b": ["x", "y", "z"], "c": [0.5, -1.5, 9.0]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert profiler.profile(tmp_path / "a.parquet", "a.parquet") == Profile(
        3, (Column("a", "int", 1, 1.0, 2.0), Column("b", "str", 0), Column("c", "float", 0, -1.5, 9.0))
    )
    pyarrow.feather.write_feather(table, tmp_path / "a.arrow")
    assert profiler.profile(tmp_path / "a.arrow", "a.arrow").rows == 3


async def version(world: World, blobs: Blobs, contents: dict[str, bytes]) -> bytes:
    """A version whose files lie in the store."""

    async def chunks(content: bytes) -> Any:
        yield content

    given = []
    for name, content in contents.items():
        stored = await blobs.write(chunks(content), limit_bytes=1 << 20)
        async with world.database.begin() as session:
            file_id = await files.create_upload(session, world.viewer, name, stored.size_bytes)
            arrived: Any = {"sha256": stored.sha256, "size_bytes": stored.size_bytes}
            await files.record_content(session, world.viewer, file_id, **arrived)
            await files.complete_upload(session, world.viewer, file_id, **arrived)
        given.append(file_id)
    async with world.database.begin() as session:
        dataset_id = await datasets.create(session, world.viewer, "cats")
        return await dataset_versions.add(session, world.viewer, dataset_id, [PartSpec("train", given)])


async def found(world: World, version_id: bytes) -> DatasetVersion:
    async with world.database.read() as session:
        (row,) = await dataset_versions.find_versions(session, world.viewer, [version_id])
    return row


async def test_a_version_is_described_as_soon_as_it_is_added(database: Database, tmp_path: Path) -> None:
    world, blobs = await World.make(database), Blobs(tmp_path)
    await database.bus.open()
    working = Profiler(database, blobs, poll_seconds=600)
    working.open()
    version_id = b""

    async def done() -> bool:
        return (await found(world, version_id)).state is not DatasetVersionState.PROFILING

    try:
        version_id = await version(world, blobs, {"a.csv": CSV.encode(), "b.png": b"png", "c.csv": b""})
        await eventually(done)
    finally:
        await working.close()
    row = await found(world, version_id)
    assert (row.state, row.rows, row.files) == (DatasetVersionState.READY, 3, 3)
    async with database.read() as session:
        page = await dataset_versions.list_files(session, version_id, Page(9))
    assert [(one.rows, one.message) for one in page.rows] == [
        (3, None),
        (None, None),
        (0, "is empty: it has no header"),
    ]


async def test_what_a_death_left_undone_is_done_by_the_next_server(
    database: Database, tmp_path: Path
) -> None:
    world, blobs = await World.make(database), Blobs(tmp_path)
    version_id = await version(world, blobs, {"a.csv": CSV.encode()})
    await Profiler(database, blobs).step()
    assert (await found(world, version_id)).rows == 3


async def test_a_content_that_is_gone_fails_the_version(database: Database, tmp_path: Path) -> None:
    world, blobs = await World.make(database), Blobs(tmp_path)
    version_id = await version(world, blobs, {"a.csv": CSV.encode()})
    await Profiler(database, Blobs(tmp_path / "elsewhere")).step()
    row = await found(world, version_id)
    assert (row.state, row.message) == (
        DatasetVersionState.FAILED,
        "the content of a.csv is no longer in the store",
    )


async def test_a_table_that_takes_too_long_costs_only_its_own_description(
    database: Database, tmp_path: Path
) -> None:
    world, blobs = await World.make(database), Blobs(tmp_path)
    version_id = await version(world, blobs, {"a.csv": CSV.encode()})
    await Profiler(database, blobs, file_seconds=0.0).step()
    row = await found(world, version_id)
    assert (row.state, row.rows) == (DatasetVersionState.READY, None)
