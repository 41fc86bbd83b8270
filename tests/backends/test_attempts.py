"""The formats of an attempt's folder: any bytes come back as the lines they were."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import attempts, base, workers
from backends.base import Stream
from backends.local import Local
from tests.backends.grounds import lines


@given(st.lists(st.one_of(st.binary(), st.just(b"\n"), st.just(b"x" * 50_000))))
@settings(deadline=None, max_examples=150)
def test_framing_gives_back_the_same_lines_however_the_bytes_arrive(parts: list[bytes]) -> None:
    cutter = attempts.Lines()
    found = [piece for part in parts for piece in cutter.feed(part)]
    found += list(cutter.finish())
    whole = b"".join(parts)
    expected = whole.removesuffix(b"\n").split(b"\n") if whole else []
    told = [base.Piece(Stream.STDOUT, 0, data, continued) for data, continued in found]
    assert lines(told, Stream.STDOUT) == expected
    assert all(len(data) < 2 * attempts.HELD_BYTES for data, _ in found)


@pytest.mark.parametrize("length", range(attempts.FRAME.size + 4))
async def test_a_torn_frame_is_not_there_yet(tmp_path: Path, length: int) -> None:
    whole, torn = (attempts.FRAME.pack(Stream.STDOUT, 0, 4, 1) + data for data in (b"here", b"torn"))
    (tmp_path / "jobs" / "job").mkdir(parents=True)
    file = tmp_path / "jobs" / "job" / "0.frames"
    file.write_bytes(whole + torn[:length])
    adapter, handle = Local(tmp_path), {"name": "job"}
    output = await adapter.read(handle, 0, 0)
    assert output == base.Output((base.Piece(Stream.STDOUT, 1, b"here"),), len(whole))
    file.write_bytes(whole + torn)
    assert (await adapter.read(handle, 0, output.next_offset)).pieces[0].data == b"torn"


def test_an_emptied_record_is_none_but_an_emptied_claim_is_one(tmp_path: Path) -> None:
    assert attempts.read_claim(str(tmp_path)) is None
    for name in (attempts.CLAIM, attempts.EXIT):
        (tmp_path / name).touch()
    assert attempts.read_record(str(tmp_path / attempts.EXIT)) is None
    assert attempts.read_claim(str(tmp_path)) is not None


def test_signals_without_a_name_are_described() -> None:
    assert (workers.describe(9), workers.describe(33)) == ("9 (SIGKILL)", "33")
