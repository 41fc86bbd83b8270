"""Batches on disk: in order, once, within a bound, and taken over from processes that have ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rungraph import spool
from rungraph.spool import Spool, orphans

LEAVE = """
import os, pathlib, sys
from rungraph.spool import Spool
made = Spool(pathlib.Path(sys.argv[1]), print)
for number in range(3):
    made.append(b"batch %d" % number)
made.forget()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run."""
    made = tmp_path / "spool"
    made.mkdir()
    return made


class Told(list[str]):
    """What was complained of."""


def drained(given: Spool) -> list[tuple[int, bytes]]:
    found = []
    while (one := given.first()) is not None:
        found.append(one)
        given.forget()
    return found


def test_batches_come_back_in_order_under_growing_numbers(folder: Path) -> None:
    made = Spool(folder, pytest.fail)
    assert all(made.append(b"%d" % number) for number in range(100))
    assert made.first() == (1, b"0") == made.first()
    assert drained(made) == [(number + 1, b"%d" % number) for number in range(100)]
    assert made.append(b"more") and drained(made) == [(101, b"more")]


def test_what_has_arrived_takes_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 10_000)
    made = Spool(folder, pytest.fail)
    for _ in range(100):
        assert made.append(bytes(1000))
    assert len(list(folder.glob("*.batches"))) == 10
    while len(made) > 5:
        made.forget()
    assert len(list(folder.glob("*.batches"))) == 1
    drained(made)
    assert sum(path.stat().st_size for path in folder.iterdir()) == 0
    made.close()
    assert not list(folder.iterdir())


def test_it_takes_so_much_and_no_more(folder: Path) -> None:
    made = Spool(folder, pytest.fail, most_bytes=10_000)
    taken = [made.append(bytes(1000)) for _ in range(20)]
    assert taken == [True] * 9 + [False] * 11
    assert [number for number, _ in drained(made)] == list(range(1, 10))
    assert made.append(b"again")


def test_where_the_disk_takes_nothing_batches_wait_in_memory(folder: Path) -> None:
    (folder / "file").touch()
    told = Told()
    made = Spool(folder / "file" / "below", told.append)
    assert made.append(b"one") and made.append(b"two")
    assert drained(made) == [(1, b"one"), (2, b"two")]
    assert "points wait in memory" in told[0]
    taken = [made.append(bytes(1 << 20)) for _ in range(40)]
    assert taken.count(True) == spool.MOST_HELD_BYTES >> 20


def test_what_a_killed_process_left_is_taken_over_by_one(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", LEAVE, str(folder)])
    assert ended.returncode == -9
    (found,) = orphans(folder, pytest.fail)
    assert not list(orphans(folder, pytest.fail)), "it is ours now"
    # Of a segment that is not done with everything comes again, and the server knows it by its numbers.
    assert drained(found) == [(1, b"batch 0"), (2, b"batch 1"), (3, b"batch 2")]
    found.discard()
    assert not list(folder.iterdir())


def test_what_a_living_process_has_is_left_to_it(folder: Path) -> None:
    made = Spool(folder, pytest.fail)
    made.append(b"mine")
    assert not list(orphans(folder, pytest.fail))
    assert drained(made) == [(1, b"mine")]


def test_what_was_being_written_when_the_process_ended_is_not_read(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVE, str(folder)])
    (segment,) = folder.glob("*.batches")
    os.truncate(segment, segment.stat().st_size - 1)
    (found,) = orphans(folder, pytest.fail)
    assert drained(found) == [(1, b"batch 0"), (2, b"batch 1")]


@pytest.mark.parametrize("zeros", [1, 16, 17, 64, 5000])
def test_what_a_power_cut_left_of_a_batch_is_none(folder: Path, zeros: int) -> None:
    subprocess.run([sys.executable, "-c", LEAVE, str(folder)])
    (segment,) = folder.glob("*.batches")
    os.truncate(segment, segment.stat().st_size + zeros)
    (found,) = orphans(folder, pytest.fail)
    assert drained(found) == [(1, b"batch 0"), (2, b"batch 1"), (3, b"batch 2")]
    found.close()
    assert not list(folder.iterdir())


def test_a_forked_child_leaves_the_files_to_its_parent(folder: Path) -> None:
    made = Spool(folder, pytest.fail)
    made.append(b"parent's")
    child = os.fork()
    if child == 0:
        made.abandon()
        os._exit(len(made))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert drained(made) == [(1, b"parent's")]
    made.append(b"left")
    made.abandon()
    (found,) = orphans(folder, pytest.fail)
    assert drained(found) == [(2, b"left")]
