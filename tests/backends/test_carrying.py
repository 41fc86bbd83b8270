"""What jobs elsewhere are given, as a tar: whole, in small pieces, and without a thread for who reads slowly."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.carrying import archive


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A module: a large file, an empty one, one of a long name, a folder of nothing and a link."""
    source = tmp_path / "module"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "large.bin").write_bytes(os.urandom(1_000_001))
    (source / "deep" / "er" / "nothing").touch()
    (source / ("ä" * 100)).write_text("a name that needs a header of its own")
    (source / "link").symlink_to("deep/er/nothing")
    return source


async def test_what_is_unpacked_is_what_lies_there(source: Path, tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    (client / "log.py").write_text("print()")
    pieces = [piece async for piece in archive(source, client)]
    assert max(map(len, pieces)) < 1 << 20
    there = tmp_path / "there"
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        assert tar.getnames()[-1] == "complete"
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}
        tar.extractall(there, filter="data")
    for path in source.rglob("*"):
        same = there / "source" / path.relative_to(source)
        if path.is_symlink():
            assert same.readlink() == path.readlink()
        elif path.is_file():
            assert same.read_bytes() == path.read_bytes()
        else:
            assert same.is_dir()
    assert (there / "client" / "log.py").read_text() == "print()"


async def test_readers_that_stand_still_keep_nobody_waiting(source: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    standing = [archive(source, None) for _ in range(8)]
    for each in standing:
        assert await anext(each)
    async with asyncio.timeout(60):
        whole = await asyncio.gather(*(_size(archive(source, None)) for _ in range(8)))
    assert len(set(whole)) == 1
    for each in standing:
        await each.aclose()  # type: ignore[attr-defined]


async def test_a_file_that_shrinks_is_no_whole_answer(source: Path) -> None:
    pieces = archive(source, None)
    assert await anext(pieces)
    os.truncate(source / "large.bin", 300_000)
    with pytest.raises(OSError, match="became shorter"):
        await _size(pieces)


async def _size(pieces: AsyncIterator[bytes]) -> int:
    return len(b"".join([piece async for piece in pieces]))
