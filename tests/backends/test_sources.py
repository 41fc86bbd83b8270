"""Sources: equal content is one version, the copy cannot change, and nothing odd gets in."""

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import sources
from backends.sources import Fetched, SourceInvalid

_names = st.sampled_from(["a", "b.py", "c d.txt", "é", "inner/a", "inner/deep/b"])
_trees = st.dictionaries(_names, st.tuples(st.binary(max_size=20), st.booleans()), min_size=1, max_size=4)
Tree = dict[str, tuple[bytes, bool]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "module"
    _write(made, {"train.py": (b"print(1)", False), "bin/run": (b"#!/bin/sh", True)})
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def _write(folder: Path, tree: Tree) -> None:
    for name, (content, executable) in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)


def _tree(folder: Path) -> Tree:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for path in files
    }


def _fetched(top: Path, name: str, tree: Tree) -> Fetched:
    _write(top / name, tree)
    return asyncio.run(sources.fetch(str(top / name), top / "store"))


@settings(max_examples=30, deadline=None)
@given(_trees, _trees)
def test_digests_are_equal_exactly_when_the_contents_are(one: Tree, two: Tree) -> None:
    top = Path(tempfile.mkdtemp())
    try:
        first, second = _fetched(top, "one", one), _fetched(top, "two", two)
        assert (first.digest == second.digest) is (one == two)
        assert _tree(first.path) == one
        assert (first.files, first.bytes) == (len(one), sum(len(content) for content, _ in one.values()))
        assert {path.name for path in (top / "store").iterdir()} == {first.digest, second.digest}
    finally:
        sources.remove(top)


async def test_caches_and_repositories_stay_behind(folder: Path, store: Path) -> None:
    before = await sources.fetch(str(folder), store)
    for name in (".git/HEAD", "__pycache__/a", "bin/__pycache__/b", ".venv/x", "node_modules/y", "a.pyc"):
        _write(folder, {name: (b"noise", False)})
    assert await sources.fetch(str(folder), store) == before


async def test_the_copy_is_read_only(folder: Path, store: Path) -> None:
    path = (await sources.fetch(str(folder), store)).path
    modes = {p.relative_to(path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in [path, *path.rglob("*")]}
    assert modes == {".": 0o555, "bin": 0o555, "bin/run": 0o555, "train.py": 0o444}


async def test_fetching_again_reuses_what_is_there(folder: Path, store: Path) -> None:
    first = await sources.fetch(str(folder), store)
    inode = first.path.stat().st_ino
    results = await asyncio.gather(*(sources.fetch(str(folder), store) for _ in range(4)))
    assert results == [first] * 4
    assert first.path.stat().st_ino == inode
    assert [path.name for path in store.iterdir()] == [first.digest]


async def test_a_link_within_the_folder_becomes_what_it_means(folder: Path, store: Path) -> None:
    (folder / "link.py").symlink_to("train.py")
    path = (await sources.fetch(str(folder), store)).path
    assert not (path / "link.py").is_symlink()
    assert (path / "link.py").read_bytes() == b"print(1)"


async def test_what_is_no_module_is_refused_by_name_and_rule(folder: Path, store: Path) -> None:
    outside = folder.parent / "secret"
    outside.write_text("secret")
    odd = folder / "odd"
    cases: list[tuple[Callable[[], None], str]] = [
        (lambda: odd.symlink_to(outside), "odd is a symbolic link that leaves the folder"),
        (lambda: odd.symlink_to("nowhere"), "odd is a symbolic link to what is not there"),
        (lambda: odd.symlink_to("odd"), "odd cannot be read"),
        (lambda: odd.symlink_to("bin"), "odd is a symbolic link to a folder"),
        (lambda: os.mkfifo(odd), "odd is a special file"),
    ]
    for make, message in cases:
        make()
        with pytest.raises(SourceInvalid, match=message):
            await sources.fetch(str(folder), store)
        odd.unlink()
    assert list(store.iterdir()) == []


async def test_no_folder_and_an_empty_one_are_refused(tmp_path: Path, store: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, message in (("nowhere", "is not there"), ("file", "is no folder"), ("empty", "holds no files")):
        with pytest.raises(SourceInvalid, match=message):
            await sources.fetch(str(tmp_path / name), store)


async def test_a_folder_around_the_store_is_refused_unless_the_store_is_left_behind(folder: Path) -> None:
    with pytest.raises(SourceInvalid, match="the server's own files"):
        await sources.fetch(str(folder), folder / "store")
    shutil.rmtree(folder / "store", ignore_errors=True)
    assert (await sources.fetch(str(folder), folder / ".rungraph" / "sources")).files == 2


async def test_too_many_files_and_too_many_bytes_are_refused(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_FILES", 1)
    with pytest.raises(SourceInvalid, match="more than 1 files"):
        await sources.fetch(str(folder), store)
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    with (folder / "huge").open("wb") as file:
        file.truncate(sources.MAX_BYTES + 1)
    (folder / "train.py").unlink()
    with pytest.raises(SourceInvalid, match="larger than 1024 MiB"):
        await sources.fetch(str(folder), store)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_folder_that_changes_while_it_is_read_is_read_again_up_to_three_times(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    changes = iter(range(times))
    fsync = os.fsync

    def change_then_fsync(descriptor: int) -> None:
        if (number := next(changes, None)) is not None:
            (folder / "late.py").write_text("x" * number)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", change_then_fsync)
    # Two files a read: three changes spoil two reads, and the third finds the folder at rest.
    fetched = await sources.fetch(str(folder), store)
    assert fetched.files == 3
    assert [path.name for path in store.iterdir()] == [fetched.digest]


async def test_a_folder_that_never_rests_is_refused(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def append_then_fsync(descriptor: int) -> None:
        with (folder / "train.py").open("a") as file:
            file.write("#")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", append_then_fsync)
    with pytest.raises(SourceInvalid, match="changed while it was read, 3 times"):
        await sources.fetch(str(folder), store)
    assert list(store.iterdir()) == []


async def test_what_a_crash_left_is_swept_a_day_after(folder: Path, store: Path) -> None:
    old, new = store / ".fetch-old", store / ".fetch-new"
    for left in (old, new):
        (left / "inner").mkdir(parents=True)
        (left / "inner").chmod(0o555)
    os.utime(old, (0, 0))
    await sources.fetch(str(folder), store)
    assert not old.exists()
    assert new.exists()
