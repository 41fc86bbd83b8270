"""The process that works with files: it does what it is told, also when it is killed over it."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from backends import folders
from backends import hand as hands
from backends.blobs import Blobs
from backends.contents import BlobInvalid
from backends.hand import Hand
from backends.precedence import Loop
from tests.backends import localground
from tests.backends.grounds import Witness

LOADED = "sorted(each for each in __import__('sys').modules if each.startswith('backends'))"


@pytest.fixture
async def hand() -> AsyncIterator[Hand]:
    made = Hand()
    yield made
    await made.close()


async def test_what_a_function_returns_or_raises_there_is_returned_or_raised_here(hand: Hand) -> None:
    assert await hand.do(os.path.join, "a", "b") == "a/b"
    with pytest.raises(FileNotFoundError) as raised:
        await hand.do(os.stat, "/nowhere")
    assert raised.value.filename == "/nowhere"
    with pytest.raises(TypeError, match="cannot pickle"):
        await hand.do(threading.Lock)
    with pytest.raises(RuntimeError, match="ValueError"):  # an error that cannot be sent is told in words
        await hand.do(exec, "error = ValueError(); error.of = open(0); raise error")
    assert await hand.do(os.getpid) == await hand.do(os.getpid) != os.getpid()


async def test_what_takes_long_keeps_nothing_short_waiting(hand: Hand) -> None:
    async with asyncio.TaskGroup() as group:
        long = group.create_task(hand.do(time.sleep, 1.0))
        await hand.do(os.getpid)
        assert not long.done()
        long.cancel()


async def test_a_hand_that_is_killed_over_its_work_is_replaced_and_the_work_done_again(
    hand: Hand, tmp_path: Path
) -> None:
    blobs, source = Blobs(tmp_path / "blobs", hand.do), tmp_path / "made"
    source.write_bytes(b"content")
    pid = await hand.do(os.getpid)
    os.kill(pid, signal.SIGSTOP)
    adopting = [asyncio.create_task(blobs.adopt(source)) for _ in range(10)]
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    stored = {each.sha256 for each in await asyncio.gather(*adopting)}
    assert [blobs.path(each).read_bytes() for each in stored] == [b"content"]
    assert await hand.do(os.getpid) != pid


async def test_work_of_which_every_hand_dies_is_refused_and_other_work_done(hand: Hand) -> None:
    with pytest.raises(ConnectionError, match="dies as soon as it is asked"):
        await hand.do(os._exit, 1)
    assert await hand.do(os.path.join, "a", "b") == "a/b"


def test_on_the_servers_own_loop_no_work_fails_for_a_hand_that_was_just_killed() -> None:
    async def kill_often() -> None:
        hand = Hand()
        for pause in range(6):
            os.kill(await hand.do(os.getpid), signal.SIGKILL)
            for _ in range(pause):
                await asyncio.sleep(0)
            asked = []
            for _ in range(20):
                asked.append(asyncio.create_task(hand.do(os.path.join, "a", "b")))
                await asyncio.sleep(0)
            assert set(await asyncio.gather(*asked)) == {"a/b"}
        await hand.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(kill_often())


async def test_a_hand_that_cannot_be_started_is_told_from_a_file_that_is_not_there(
    hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "INTERPRETER", tmp_path / "gone")
    with pytest.raises(ConnectionError, match="gone cannot be started"):
        await hand.do(os.stat, "/nowhere")


async def test_what_would_end_a_process_is_an_error_of_the_work(hand: Hand) -> None:
    with pytest.raises(RuntimeError, match="SystemExit"):
        await hand.do(sys.exit, 3)


async def test_what_is_no_file_is_refused_in_the_words_of_the_store(hand: Hand, tmp_path: Path) -> None:
    with pytest.raises(BlobInvalid, match="is no regular file"):
        await Blobs(tmp_path / "blobs", hand.do).adopt(tmp_path)


async def test_interrupts_are_the_servers_and_the_hand_ends_with_it() -> None:
    hand = Hand()
    pid = await hand.do(os.getpid)
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, each)
    telling = asyncio.create_task(hand.do(time.sleep, 0.3))
    await asyncio.sleep(0.1)
    await hand.close()
    await telling  # done before it ended
    assert not Path(f"/proc/{pid}").exists()


async def test_what_no_process_can_remove_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "INTERPRETER", tmp_path / "gone")
    async with localground.stand(tmp_path) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("pass"))
            await witness.ended(handle)
            await adapter.remove(handle)
        await adapter.close()
        home = (await adapter.outputs(handle)).parents[2]
        assert [list((home / each).iterdir()) for each in ("jobs", "trash")] == [[], []]


async def test_a_process_that_would_run_other_code_than_the_server_is_not_asked(
    hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("0")
    monkeypatch.setattr(hands, "CODE", code)
    monkeypatch.setattr(hands, "BEGAN_WITH", hands.state(code))
    pid = await hand.do(os.getpid)
    assert pid != os.getpid()
    (code / "a.py").write_text("00")
    assert await hand.do(os.getpid) == pid  # it has read its code before
    os.kill(pid, signal.SIGKILL)
    with structlog.testing.capture_logs() as told:
        done = await asyncio.gather(*(hand.do(os.getpid) for _ in range(5)))
        assert done == [os.getpid()] * 5
        with pytest.raises(FileNotFoundError):
            await hand.do(os.stat, "/nowhere")
    assert [each["event"] for each in told] == ["the files of this server were replaced: start it anew"]


async def test_one_that_is_cancelled_while_it_starts_leaves_it_to_the_next_to_look(
    hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "CODE", tmp_path)  # no files: all were replaced
    for pause in (0.0, 0.005, 0.03, 0.1):
        asking = asyncio.create_task(hand.do(os.getpid))
        await asyncio.sleep(pause)
        asking.cancel()
        await asyncio.wait({asking})
    assert await hand.do(os.getpid) == os.getpid()


async def test_what_is_asked_of_it_is_read_at_its_start(hand: Hand, tmp_path: Path) -> None:
    before = await hand.do(eval, LOADED)
    blobs, source = Blobs(tmp_path / "blobs", hand.do), tmp_path / "made"
    source.write_bytes(b"content")
    adopted = await blobs.adopt(source)
    await blobs.free([adopted.sha256], older_than_seconds=0.0)
    (tmp_path / "trash").mkdir()
    await hand.do(folders.discard, tmp_path / "trash")
    assert await hand.do(eval, LOADED) == before
