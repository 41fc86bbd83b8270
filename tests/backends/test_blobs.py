"""Blobs: stored once, whole or not at all, and only what is a file."""

import asyncio
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.blobs import Blobs
from backends.contents import BlobInvalid, Stored


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def _files(blobs: Blobs) -> list[Path]:
    top = blobs.path("0" * 64).parents[2]
    return [path for path in top.rglob("*") if path.is_file() and path != top / "lock"]


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=4))
def test_storing_is_idempotent_however_the_content_comes(chunks: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as top:
        blobs, content = Blobs(Path(top) / "blobs"), b"".join(chunks)
        (Path(top) / "file").write_bytes(content)
        expected = Stored(hashlib.sha256(content).hexdigest(), len(content))
        assert asyncio.run(blobs.write(_chunks(*chunks), limit_bytes=len(content))) == expected
        assert asyncio.run(blobs.write(_chunks(content), limit_bytes=len(content))) == expected
        assert asyncio.run(blobs.adopt(Path(top) / "file")) == expected
        assert _files(blobs) == [blobs.path(expected.sha256)]
        assert blobs.path(expected.sha256).read_bytes() == content


async def test_a_content_lies_under_its_digest_and_cannot_be_written(blobs: Blobs) -> None:
    stored = await blobs.write(_chunks(b"hello"), limit_bytes=10)
    path = blobs.path(stored.sha256)
    assert path.parts[-3:] == ("2c", "f2", stored.sha256)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert blobs.exists(stored.sha256)
    assert not blobs.exists("0" * 64)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_a_digest_is_a_name(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        blobs.path(name)


async def test_large_contents_arrive_whole(blobs: Blobs, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    written = await blobs.write(
        _chunks(*(content[i : i + 99_999] for i in range(0, len(content), 99_999))), limit_bytes=len(content)
    )
    (tmp_path / "file").write_bytes(content)
    assert await blobs.adopt(tmp_path / "file") == written
    assert blobs.path(written.sha256).read_bytes() == content


async def test_beyond_the_limit_nothing_stays(blobs: Blobs) -> None:
    with pytest.raises(BlobInvalid, match="larger than 4 bytes"):
        await blobs.write(_chunks(b"abc", b"de"), limit_bytes=4)
    assert _files(blobs) == []


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await blobs.write(broken(), limit_bytes=1 << 30)
    assert _files(blobs) == []


async def test_a_cancelled_upload_leaves_nothing(blobs: Blobs) -> None:
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)
            arrived.set()

    upload = asyncio.create_task(blobs.write(endless(), limit_bytes=1 << 40))
    await arrived.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert _files(blobs) == []


async def test_the_same_content_at_the_same_time_is_stored_once(blobs: Blobs) -> None:
    results = await asyncio.gather(*(blobs.write(_chunks(b"same"), limit_bytes=9) for _ in range(8)))
    assert len(set(results)) == 1
    assert len(_files(blobs)) == 1


async def test_the_source_of_an_adopted_file_is_nobodys_business_afterwards(
    blobs: Blobs, tmp_path: Path
) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    stored = await blobs.adopt(source)
    source.write_bytes(b"changed")
    source.unlink()
    assert blobs.path(stored.sha256).read_bytes() == b"weights"


async def test_where_the_kernel_cannot_copy_it_is_done_by_hand(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "other device")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "file").write_bytes(b"by hand" * 300_000)
    stored = await blobs.adopt(tmp_path / "file")
    assert blobs.path(stored.sha256).read_bytes() == b"by hand" * 300_000


async def test_links_pipes_and_folders_are_not_adopted(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nothing"):
        with pytest.raises(BlobInvalid, match=name):
            await blobs.adopt(tmp_path / name)
    assert _files(blobs) == []


async def test_what_a_crash_left_is_swept_when_it_is_old(blobs: Blobs) -> None:
    stored = await blobs.write(_chunks(b"kept"), limit_bytes=9)
    temporary = blobs.path(stored.sha256).parents[2] / "tmp"
    for name in ("old", "new"):
        (temporary / name).touch()
    os.utime(temporary / "old", (0, 0))
    assert await blobs.sweep() == 1
    assert [path.name for path in temporary.iterdir()] == ["new"]
    assert blobs.exists(stored.sha256)
