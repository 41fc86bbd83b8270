"""Archives: what is in them comes out, and nothing lands outside, whatever they say of themselves."""

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import archives
from backends.sources import SourceInvalid

CONTENT = {"rungraph.yaml": b"name: text", "bin/run": b"#!/bin/sh\n"}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "into"
    folder.mkdir(parents=True)
    return folder


def _member(name: str, **values: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(member, key, value)
    return member


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, content in members:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _zip(
    path: Path,
    entries: dict[str, bytes],
    modes: dict[str, int] | None = None,
    kind: int = zipfile.ZIP_DEFLATED,
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0) << 16
            archive.writestr(info, content, kind)
    return path


def _tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("top", ["", "./", "text-1.0/"])
def test_a_tar_comes_out_whole_and_its_single_folder_is_entered(
    tmp_path: Path, into: Path, mode: str, top: str
) -> None:
    members = [
        (_member(top + name, mode=0o755 if "bin" in name else 0o644), c) for name, c in CONTENT.items()
    ]
    if top == "./":
        members.insert(0, (_member(".", type=tarfile.DIRTYPE), b""))
    folder = archives.unpack(_tar(tmp_path / "a.tar", *members, mode=mode), into)
    assert _tree(folder) == CONTENT
    assert (folder.name == "text-1.0") == (top == "text-1.0/")
    executable = {name for name in CONTENT if (folder / name).stat().st_mode & stat.S_IXUSR}
    assert executable == {"bin/run"}


def test_a_zip_comes_out_whole_without_what_macos_adds(tmp_path: Path, into: Path) -> None:
    entries = {
        **{f"text/{name}": c for name, c in CONTENT.items()},
        "__MACOSX/._x": b"",
        "text/link": b"bin/run",
    }
    modes = {"text/bin/run": 0o100755, "text/link": stat.S_IFLNK | 0o777}
    folder = archives.unpack(_zip(tmp_path / "a.zip", entries, modes), into)
    assert _tree(folder) == {**CONTENT, "link": CONTENT["bin/run"]}
    assert (folder / "link").is_symlink()
    assert (folder / "bin/run").stat().st_mode & stat.S_IXUSR


def test_a_hard_link_is_another_file_of_that_content(tmp_path: Path, into: Path) -> None:
    members = ((_member("a"), b"x"), (_member("b", type=tarfile.LNKTYPE, linkname="a"), b""))
    assert _tree(archives.unpack(_tar(tmp_path / "a.tgz", *members), into)) == {"a": b"x", "b": b"x"}


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _cut(path: Path) -> Path:
    return _bytes(path, path.read_bytes()[:5_000])


def _ended_at(path: Path, size: int, *more: bytes) -> Path:
    """A plain tar of two small files, of which so much has come, and then something else."""
    whole = _tar(path, (_member("a"), b"x"), (_member("b"), b"y"), mode="w")
    return _bytes(path, whole.read_bytes()[:size] + b"".join(more))


def _spoiled(path: Path, was: bytes, now: bytes) -> Path:
    """The archive with its last `was` overwritten by `now`."""
    content = bytearray(path.read_bytes())
    at = content.rindex(was)
    content[at : at + len(now)] = now
    return _bytes(path, bytes(content))


def _holed(path: Path) -> Path:
    """A zip behind so much of nothing that takes no place on disk."""
    end = _zip(path, {"a": b""}).read_bytes()
    with path.open("wb") as file:
        file.write(b"PK")
        file.seek(65 << 20)
        file.write(end)
    return path


EVIL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a climbing name": (lambda p: _tar(p, (_member("../x"), b"")), "leads out"),
    "an absolute name": (lambda p: _tar(p, (_member("/tmp/x"), b"")), "leads out"),
    "a backslash": (lambda p: _zip(p, {"..\\x": b""}), "leads out"),
    "a climbing zip": (lambda p: _zip(p, {"a/../../x": b""}), "leads out"),
    "a link out": (
        lambda p: _tar(p, (_member("l", type=tarfile.SYMTYPE, linkname="../../etc"), b"")),
        "leaves the archive",
    ),
    "a link to the root": (
        lambda p: _zip(p, {"l": b"/etc/passwd"}, {"l": stat.S_IFLNK | 0o777}),
        "leaves the archive",
    ),
    "a file behind a link": (
        lambda p: _tar(p, (_member("d", type=tarfile.SYMTYPE, linkname="e"), b""), (_member("d/x"), b"")),
        "twice",
    ),
    "a link behind a link": (
        lambda p: _tar(
            p,
            (_member("d/e", type=tarfile.DIRTYPE), b""),
            (_member("d/up", type=tarfile.SYMTYPE, linkname=".."), b""),
            (_member("d/up/m", type=tarfile.SYMTYPE, linkname="../../x"), b""),
        ),
        "behind a link",
    ),
    "a hard link out": (
        lambda p: _tar(p, (_member("l", type=tarfile.LNKTYPE, linkname="../secret"), b"")),
        "leads out",
    ),
    "a device": (lambda p: _tar(p, (_member("n", type=tarfile.CHRTYPE), b"")), "device"),
    "a pipe": (lambda p: _tar(p, (_member("n", type=tarfile.FIFOTYPE), b"")), "device"),
    "a name twice": (lambda p: _tar(p, (_member("a"), b"1"), (_member("a"), b"2")), "twice"),
    "a name that is no text twice": (
        lambda p: _tar(p, (_member("\udcff"), b"1"), (_member("\udcff"), b"2"), mode="w"),
        r"^'\\udcff' stands in the archive twice",
    ),
    "a name with a NUL": (
        lambda p: _tar(p, (_member("n", type=tarfile.FIFOTYPE, pax_headers={"path": "a\0b"}), b"")),
        r"^'a\\x00b' is a device",
    ),
    "a sparse file without a map": (
        lambda p: _tar(
            p,
            (
                _member("n", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
                b"1\n" + b"9" * 600,
            ),
        ),
        "damaged",
    ),
    "a zip's name that is no text": (
        lambda p: _spoiled(_zip(p, {"é": b""}), "é".encode(), b"\xff\xff"),
        "damaged",
    ),
    "a zip whose list is nowhere": (
        lambda p: _spoiled(_zip(p, {"a": b""}), b"PK\5\6", b"PK\5\6" + bytes(8) + b"\xff\xff\xff\x7f" * 2),
        "cannot be unpacked|damaged|more than",
    ),
    "a zip whose list is too long": (
        lambda p: _spoiled(_holed(p), b"PK\5\6", b"PK\5\6" + bytes(8) + (64 << 20).to_bytes(4, "little")),
        "more than 40000 entries",
    ),
    "a broken lzma": (
        lambda p: _spoiled(_zip(p, {"a": b"1" * 99}, kind=zipfile.ZIP_LZMA), b"\5\0]", b"\5\0\xff"),
        "damaged",
    ),
    "no archive": (lambda p: _bytes(p, b"hello" * 100), "no archive"),
    "a broken gzip": (lambda p: _bytes(p, b"\x1f\x8b" + b"x" * 50), "damaged"),
    "a tar.gz of another content": (
        lambda p: _bytes(p, _tar(p, (_member("a"), b"x")).read_bytes()[:-8] + bytes(8)),
        "damaged: CRC check failed",
    ),
    "a tar cut between files": (lambda p: _ended_at(p, 1_024), "damaged: it has no end"),
    "a tar cut in a header": (lambda p: _ended_at(p, 1_300), "damaged: it has no end"),
    "a tar cut before its end": (lambda p: _ended_at(p, 2_048), "damaged: it has no end"),
    "a tar with a fault in it": (lambda p: _ended_at(p, 1_024, b"fault" * 500), "damaged: it has no end"),
    "a cut tar": (lambda p: _cut(_tar(p, (_member("a"), os.urandom(9_999)))), "damaged"),
}


@pytest.mark.parametrize(("make", "words"), EVIL.values(), ids=EVIL.keys())
def test_what_is_not_as_it_should_be_is_refused_in_words(
    tmp_path: Path, into: Path, make: Callable[[Path], Path], words: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = make(tmp_path / "archive")
    before = sorted(p for p in tmp_path.rglob("*") if into not in p.parents)
    with pytest.raises(SourceInvalid, match=words):
        archives.unpack(archive, into)
    assert sorted(p for p in tmp_path.rglob("*") if into not in p.parents) == before


@pytest.mark.parametrize("kind", ["tar", "zip", "header"])
def test_a_bomb_is_stopped_before_it_fills_the_disk(
    tmp_path: Path, into: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 3 << 20)
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 10)
    zeros = b"\0" * (8 << 20)
    archive = tmp_path / "bomb"
    if kind == "zip":
        _zip(archive, {"zeros": zeros})
    elif kind == "tar":
        _tar(archive, (_member("zeros"), zeros))
    else:
        header = _member("x", type=tarfile.XHDTYPE, size=len(zeros))
        archive.write_bytes(gzip.compress(header.tobuf() + zeros))
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(SourceInvalid):
        archives.unpack(archive, into)
    assert sum(len(content) for content in _tree(into).values()) <= 3 << 20


def test_more_entries_than_any_module_has_are_refused(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 10)
    with pytest.raises(SourceInvalid, match="more than 10 entries"):
        archives.unpack(_zip(tmp_path / "a", {f"{i}/": b"" for i in range(11)}), into)


_names = st.text(st.sampled_from("ab./\\"), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_names, st.sampled_from(["file", "link", "hard", "folder"]), _names), max_size=6))
def test_nothing_ever_lands_outside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str, str]]
) -> None:
    top = tmp_path_factory.mktemp("top")
    types = {
        "file": tarfile.REGTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "folder": tarfile.DIRTYPE,
    }
    members = [(_member(name, type=types[kind], linkname=target), b"x") for name, kind, target in entries]
    archive = _tar(top / "archive", *members)
    into = top / "a" / "b" / "c"
    into.mkdir(parents=True)
    with contextlib.suppress(SourceInvalid):
        archives.unpack(archive, into)
    assert {p.name for p in top.iterdir()} == {"archive", "a"}
    assert list((top / "a").iterdir()) == [top / "a" / "b"]
    assert list((top / "a" / "b").iterdir()) == [into]
