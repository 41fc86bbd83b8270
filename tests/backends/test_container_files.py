"""What comes out of containers, unpacked: whatever a job made of its folders, nothing is written elsewhere."""

import io
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from backends import container_files
from backends.base import BackendUnavailable
from backends.container_files import SPOOL_DEPTH, unpack


class Archive:
    """An archive as an engine would send it, entry by entry."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def file(self, name: str, content: bytes = b"") -> "Archive":
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        return self

    def entry(self, name: str, kind: bytes, target: str = "") -> "Archive":
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        self._tar.addfile(member)
        return self

    async def sent(self, size: int = 1 << 20) -> AsyncGenerator[bytes]:
        self._tar.close()
        data = self._bytes.getvalue()[:size]
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]


def found(folder: Path) -> dict[str, bytes]:
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "output"
    folder.mkdir(parents=True)
    return folder


async def test_no_workers_link_leads_another_workers_file_out_of_the_folder(
    into: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await unpack(Archive().entry("spool/a", tarfile.SYMTYPE, str(outside)).sent(), into, depth=2)
    await unpack(Archive().file("spool/a/evil", b"x").sent(), into, depth=2)
    assert list(outside.iterdir()) == []
    assert found(into) == {"a/evil": b"x"}


async def test_only_files_that_anybody_looks_for_are_taken(into: Path) -> None:
    archive = Archive().file("output/kept", b"kept").file("output/deep/file", b"x").file("/etc/passwd", b"x")
    archive.file("output/../../out", b"x").entry("output/pipe", tarfile.FIFOTYPE)
    archive.entry("output/deep", tarfile.DIRTYPE).file("output/" + "d/" * 3000 + "file", b"x")
    await unpack(archive.sent(), into)
    assert {path.name for path in into.parent.rglob("*")} == {"output", "kept"}
    assert found(into) == {"kept": b"kept"}


async def test_a_second_name_of_a_file_that_lies_deeper_has_its_content(into: Path) -> None:
    archive = (
        Archive().file("output/steps/9", b"model").entry("output/model", tarfile.LNKTYPE, "output/steps/9")
    )
    archive.entry("output/again", tarfile.LNKTYPE, "output/model")
    archive.entry("output/stolen", tarfile.LNKTYPE, "output/../../secret")
    (into.parent / "secret").write_bytes(b"secret")
    await unpack(archive.sent(), into)
    assert found(into) == {"model": b"model", "again": b"model"}


async def test_what_cannot_be_made_costs_itself_alone_and_the_first_of_a_name_stays(into: Path) -> None:
    first = Archive().file("spool/a/x", b"0").file("spool/b", b"0").file("spool/" + "n" * 300, b"0")
    await unpack(first.file("spool/last", b"0").sent(), into, depth=SPOOL_DEPTH)
    second = Archive().file("spool/a/x", b"1").file("spool/a", b"1").file("spool/b/x", b"1")
    second.entry("spool/a/x", tarfile.LNKTYPE, "spool/last").file("spool/c/x", b"1")
    await unpack(second.sent(), into, depth=SPOOL_DEPTH)
    assert found(into) == {"a/x": b"0", "b": b"0", "last": b"0", "c/x": b"1"}


@pytest.mark.parametrize(("bound", "most"), [("MOST_ENTRIES", 2), ("MOST_BYTES", 7)])
async def test_beyond_the_bounds_nothing_more_is_taken(
    into: Path, bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_files, bound, most)
    archive = Archive().file("files/a", b"aaa").file("files/b", b"bbb").file("files/c", b"ccc")
    for number in range(20_000):
        archive.file(f"files/{number}")
    await unpack(archive.file("complete").sent(1 << 30), into, last="complete")
    assert found(into) == {"a": b"aaa", "b": b"bbb"}


@pytest.mark.parametrize("size", [100, 700, 1024, 1500])
async def test_an_archive_that_broke_off_is_asked_for_again(into: Path, size: int) -> None:
    archive = Archive().file("files/a", b"a" * 10).file("files/b", b"b" * 600).file("complete")
    with pytest.raises(BackendUnavailable, match="broke off on its way"):
        await unpack(archive.sent(size), into, last="complete")


@pytest.mark.parametrize(
    ("size", "rest"),
    [
        pytest.param(1024, b"", id="between two entries"),
        pytest.param(1300, b"", id="within a header"),
        pytest.param(1024, b'{"message":"unexpected EOF"}\n', id="with a fault where a header should be"),
        pytest.param(1024, b'{"message":"unexpected EOF"}\n' * 20, id="with a fault as long as a header"),
        pytest.param(1600, b'{"message":"unexpected EOF"}\n', id="with a fault within a content"),
        pytest.param(2560, b"", id="before the blocks that end it"),
        pytest.param(0, b"", id="before a word"),
    ],
)
async def test_an_archive_without_its_end_is_not_taken_for_whole(into: Path, size: int, rest: bytes) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        archive = Archive().file("output/a", b"a" * 10).file("output/b", b"b" * 600)
        async for chunk in archive.sent(size):
            yield chunk
        yield rest

    with pytest.raises(BackendUnavailable, match="broke off on its way"):
        await unpack(broken(), into)


async def test_a_folder_of_nothing_is_whole(into: Path) -> None:
    await unpack(Archive().sent(), into)
    assert found(into) == {}


async def test_a_disk_of_ours_that_fails_is_nobodys_entry(into: Path) -> None:
    into.rmdir()
    into.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        await unpack(Archive().file("output/a", b"a").sent(), into)
