"""What is put into folders is whole, or it is said that it is not."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends import base, folders
from tests.backends import disks

CONTENT = bytes(range(256)) * 400


def elsewhere(*_: object) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.mark.parametrize("near", [True, False])
def test_an_input_of_which_the_disk_takes_a_part_is_an_error(
    near: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "content").write_bytes(CONTENT)
    given = (base.InputFile("data.bin", tmp_path / "content"),)
    spec = base.JobSpec("job-1", ("true",), tmp_path, None, b"{}", given)
    if not near:
        monkeypatch.setattr(os, "copy_file_range", elsewhere)
    with disks.full(1 << 16), pytest.raises(OSError, match="File too large"):
        folders.fill(tmp_path / "full", {}, spec)
    folders.fill(tmp_path / "new", {}, spec)
    assert (tmp_path / "new" / "input" / "data.bin").read_bytes() == CONTENT


def test_a_word_is_kept_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    assert folders.keep(path, "first") == "first" == folders.keep(path, "second")
    assert [each.name for each in tmp_path.iterdir()] == ["owner"]


def test_what_a_death_or_a_full_disk_left_empty_is_no_word(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    with disks.full(0), pytest.raises(OSError, match="File too large"):
        folders.keep(path, "lost")
    assert list(tmp_path.iterdir()) == []
    path.touch()
    assert folders.keep(path, "found") == "found" == path.read_text()


def test_who_dies_while_keeping_leaves_no_half_a_word(tmp_path: Path) -> None:
    dies = "import os; os.fsync = lambda _: os._exit(1)"
    code = f"{dies}; from pathlib import Path; from backends import folders; folders.keep(Path('owner'), 'a')"
    there = {**os.environ, "PYTHONPATH": str(Path(folders.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=there).returncode == 1
    assert folders.keep(tmp_path / "owner", "whole") == "whole"
