"""The client's package where jobs find it."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.brought import bring

PACKAGE = Path(__file__).parents[2] / "client" / "rungraph"


def test_the_package_stands_alone_in_its_folder(tmp_path: Path) -> None:
    found = bring(PACKAGE, tmp_path / "client")
    assert [path.name for path in found.iterdir()] == ["rungraph"]
    code = "import rungraph, rungraph.adapters; print(rungraph.__file__)"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(found)}, capture_output=True, text=True
    )
    assert ended.stdout == f"{found}/rungraph/__init__.py\n", ended.stderr


def test_it_is_copied_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    package = tmp_path / "rungraph"
    (package / "below").mkdir(parents=True)
    (package / "__init__.py").write_text("one")
    (package / "below" / "__init__.py").write_text("two")
    first = bring(package, tmp_path / "client")
    made = (first / "rungraph").stat().st_mtime_ns
    assert bring(package, tmp_path / "client") == first and (first / "rungraph").stat().st_mtime_ns == made
    (package / "__init__.py").write_text("another")
    second = bring(package, tmp_path / "client")
    assert second != first and (second / "rungraph" / "__init__.py").read_text() == "another"
    assert (first / "rungraph" / "__init__.py").read_text() == "one"
    assert sorted(path.name for path in (tmp_path / "client").iterdir()) == sorted([first.name, second.name])


@pytest.mark.parametrize("left", [None, b"", b"on"])
def test_a_copy_of_which_a_power_cut_left_less_is_made_again(tmp_path: Path, left: bytes | None) -> None:
    package = tmp_path / "rungraph"
    package.mkdir()
    (package / "__init__.py").write_text("one")
    found = bring(package, tmp_path / "client")
    (found / "rungraph" / "__init__.py").unlink()
    if left is not None:
        (found / "rungraph" / "__init__.py").write_bytes(left)
    assert bring(package, tmp_path / "client") == found
    assert (found / "rungraph" / "__init__.py").read_text() == "one"
    assert list((tmp_path / "client").iterdir()) == [found]


def test_servers_that_find_a_torn_copy_at_once_make_one_whole(tmp_path: Path) -> None:
    package, folder = tmp_path / "rungraph", tmp_path / "client"
    package.mkdir()
    (package / "__init__.py").write_text("one")
    found = bring(package, folder)

    def start(begin: threading.Barrier) -> Path:
        begin.wait()
        return bring(package, folder)

    for _ in range(20):
        (found / "rungraph" / "__init__.py").write_bytes(b"")
        begin = threading.Barrier(4)
        with ThreadPoolExecutor(4) as threads:
            assert {each.result() for each in [threads.submit(start, begin) for _ in range(4)]} == {found}
        assert (found / "rungraph" / "__init__.py").read_text() == "one"
        assert list(folder.iterdir()) == [found]
