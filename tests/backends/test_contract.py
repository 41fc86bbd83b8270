"""What base.py promises, asked of every adapter. A new one is one more of kinds.py.

Jobs are scripts that the fake backend computes and the others have played by real processes (players.py); what
only real code can show is REAL. Kinds in containers need an engine or a cluster, and run by `make test-docker`
and `make test-kubernetes`.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends import base
from backends.base import Backend, Ended, EndReason, Missing, Stream
from tests.backends.grounds import DEADLINE_SECONDS, Ground, Witness, eventually, lines, pieces, rejected
from tests.backends.kinds import REAL


async def test_launch_returns_before_the_job_ends(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("hang"))
        started = await witness.started(handle)
        assert (started.rank, bool(started.node), bool(started.address)) == (0, True, True)
        assert not witness.of(Ended, handle["name"])


async def test_a_job_that_exits_with_zero_is_completed(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script())
        ended = await witness.ended(handle)
        assert (ended.reason, ended.exit_code, ended.exit_codes) == (EndReason.COMPLETED, 0, {0: 0})
        assert ended.at_us >= (await witness.started(handle)).at_us


async def test_launching_a_name_again_gives_the_one_job_it_has(ground: Ground, adapter: Backend) -> None:
    job = ground.script()
    handles = await asyncio.gather(*(adapter.launch(job) for _ in range(5)))
    async with Witness(adapter, handles[0]) as witness:
        await witness.ended(handles[0])
    handles.append(await adapter.launch(job))
    assert all(each == handles[0] for each in handles)
    assert await ground.ran(adapter, handles[0]) == 1


async def test_a_launch_whose_handle_was_never_recorded_is_adopted(ground: Ground, adapter: Backend) -> None:
    job = ground.script("print ready", "hang")
    lost = await adapter.launch(job)
    await adapter.close()
    fresh = await ground.open()
    handle = await fresh.launch(job)
    assert handle == lost
    async with Witness(fresh, handle) as witness:
        await witness.sees(base.HasOutput, handle)
        await fresh.stop(handle, 0)
        await witness.ended(handle)
    assert await ground.ran(fresh, handle) == 1


async def test_two_servers_that_launch_one_name_at_once_run_it_once(ground: Ground, adapter: Backend) -> None:
    other, job = await ground.open(), ground.script()
    one, two = await asyncio.gather(adapter.launch(job), other.launch(job))
    assert one == two
    async with Witness(other, two) as witness:
        await witness.ended(two)
    assert await ground.ran(adapter, one) == 1


async def test_an_unknown_handle_is_missing(ground: Ground, adapter: Backend) -> None:
    handle = await adapter.launch(ground.script())
    unknown = {**handle, "name": "nobody"}
    async with Witness(adapter, unknown) as witness:
        assert await witness.sees(Missing, unknown) == Missing("nobody")
    assert await adapter.read(unknown, 0, 0) == base.Output((), 0)
    await adapter.stop(unknown, 0)
    await adapter.remove(unknown)


async def test_stop_repeats_silently_and_an_end_follows(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("hang"))
        await witness.started(handle)
        await asyncio.gather(*(adapter.stop(handle, 10) for _ in range(3)))
        ended = await witness.ended(handle)
        await adapter.stop(handle, 10)
    assert ended.reason == EndReason.EXIT_CODE
    assert ended.exit_code not in (0, None)


async def test_stop_asks_politely_first(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("term 7", "print ready", "hang"))
        await witness.sees(base.HasOutput, handle)
        await adapter.stop(handle, 60)
        assert (await witness.ended(handle)).exit_code == 7


async def test_stop_forces_what_does_not_listen(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("term ignore", "print ready", "hang"))
        await witness.sees(base.HasOutput, handle)
        await adapter.stop(handle, 60)
        await adapter.stop(handle, 0.05)
        ended = await witness.ended(handle)
    assert ended.exit_code in (-9, 137)
    assert ended.reason == EndReason.EXIT_CODE


async def test_exit_code_and_output_survive_the_end(ground: Ground, adapter: Backend) -> None:
    last = f"bytes 1 {b'last'.hex()}"
    job = ground.script("print one", "print two", "error oh", last, "exit 3")
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        assert (await witness.ended(handle)).exit_code == 3
    found = await pieces(adapter, handle)
    assert lines(found, Stream.STDOUT) == [b"one", b"two", b"last"]
    assert lines(found, Stream.STDERR) == [b"oh"]
    assert await pieces(adapter, handle) == await pieces(adapter, handle, limit=1) == found


async def test_output_is_hinted_at_and_read_while_the_job_runs(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("print hello", "hang"))
        await witness.sees(base.HasOutput, handle)
        output = await adapter.read(handle, 0, 0)
        assert [piece.data for piece in output.pieces] == [b"hello"]
        assert await adapter.read(handle, 0, output.next_offset) == base.Output((), output.next_offset)


async def test_what_is_said_to_be_stored_leaves_the_rest_in_its_place(
    ground: Ground, adapter: Backend
) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("every 0 40000 print line {n}"))
        await witness.ended(handle)
    first = await adapter.read(handle, 0, 0, 1 << 16)
    rest = await adapter.read(handle, 0, first.next_offset, 1 << 22)
    for _ in range(2):
        await adapter.stored(handle, 0, first.next_offset)
        assert await adapter.read(handle, 0, first.next_offset, 1 << 22) == rest
    assert rest.pieces[-1].data.endswith(b"line 39999")
    await adapter.remove(handle)
    await adapter.stored(handle, 0, first.next_offset)


async def test_noise_and_lines_without_end_are_kept_exactly(ground: Ground, adapter: Backend) -> None:
    noise = f"bytes 1000 {bytes(range(256)).hex()}"
    job = ground.script("bytes 1 0a", noise, "bytes 2 0a", "bytes 300000 78")
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        await witness.ended(handle)
    expected = b"\n" + bytes(range(256)) * 1000 + b"\n\n" + b"x" * 300000
    found = await pieces(adapter, handle, limit=1000)
    assert lines(found, Stream.STDOUT) == expected.split(b"\n")
    assert any(piece.continued for piece in found)


async def test_a_fresh_instance_observes_from_the_stored_handle(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        running = await adapter.launch(ground.script("hang"))
        done = await adapter.launch(ground.script("exit 4"))
        start, end = await witness.started(running), await witness.ended(done)
    fresh = await ground.open()
    running, done = json.loads(json.dumps(running)), json.loads(json.dumps(done))
    async with Witness(fresh, running, done) as witness:
        assert await witness.started(running) == start
        assert await witness.ended(done) == end
        await fresh.stop(running, 0)
        await witness.ended(running)


async def test_close_leaves_jobs_alive(ground: Ground, adapter: Backend) -> None:
    handle = await adapter.launch(ground.script("wait 1", "print went on"))
    await adapter.close()
    closed_us = time.time() * 1e6
    fresh = await ground.open()
    async with Witness(fresh, handle) as witness:
        ended = await witness.ended(handle)
    assert ended.reason == EndReason.COMPLETED
    assert ended.at_us > closed_us
    assert lines(await pieces(fresh, handle), Stream.STDOUT) == [b"went on"]


async def test_close_ends_the_watch(ground: Ground, adapter: Backend) -> None:
    watch = adapter.watch([])
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, rest = await asyncio.gather(adapter.close(), asyncio.create_task(_all(watch)))
    assert rest == []


async def test_what_was_launched_before_the_watch_is_watched_too(ground: Ground, adapter: Backend) -> None:
    handle = await adapter.launch(ground.script())
    async with Witness(adapter) as witness:
        await witness.ended(handle)


async def test_concurrent_calls_are_safe(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:

        async def live(number: int) -> None:
            handle = await adapter.launch(ground.script(f"print {number}", "hang"))
            await witness.sees(base.HasOutput, handle)
            await asyncio.gather(adapter.stop(handle, 5), pieces(adapter, handle), adapter.stop(handle, 1))
            await witness.ended(handle)
            assert lines(await pieces(adapter, handle), Stream.STDOUT) == [str(number).encode()]
            await asyncio.gather(adapter.remove(handle), adapter.remove(handle))

        await asyncio.gather(*(live(number) for number in range(10)))


async def test_a_job_finds_its_document_its_files_and_its_folders(ground: Ground, adapter: Backend) -> None:
    content = ground.source / "blob"
    content.write_bytes(b"\0data" * 1000)
    job = ground.script(
        "copy data.bin copy",
        "document",
        "show EXTRA",
        input_document=b'{"name": "x"}',
        inputs=(base.InputFile("data.bin", content),),
        environment={"EXTRA": "é"},
    )
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        assert (await witness.ended(handle)).reason == EndReason.COMPLETED
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b'{"name": "x"}', "é".encode()]
    assert (await adapter.outputs(handle) / "copy").read_bytes() == content.read_bytes() == b"\0data" * 1000


@REAL
async def test_a_command_runs_in_the_folder_of_its_module(ground: Ground, adapter: Backend) -> None:
    (ground.source / "main.py").write_text("import beside\nprint(beside.WORD)\n")
    (ground.source / "beside.py").write_text("WORD = 'found'\n")
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command("python", "main.py"))
        assert (await witness.ended(handle)).reason == EndReason.COMPLETED
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"found"]


async def test_the_environment_of_the_server_stays_with_it(
    ground: Ground, adapter: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNGRAPH_DATABASE_URL", "secret")
    fresh = await ground.open()
    async with Witness(fresh) as witness:
        handle = await fresh.launch(ground.script("show"))
        await witness.ended(handle)
    (text,) = lines(await pieces(fresh, handle), Stream.STDOUT)
    assert b"RUNGRAPH_OUTPUT" in text
    assert b"DATABASE" not in text
    assert b"PYTEST" not in text
    assert "PYTEST_CURRENT_TEST" in os.environ


async def test_a_command_that_does_not_exist_ends_the_attempt(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        assert "frobnicate" in await rejected(adapter, witness, ground.command("frobnicate", "--all"))


@pytest.mark.parametrize(
    "wrong",
    [{"name": "../up"}, {"command": ()}, {"workers": 0}, {"inputs": (base.InputFile("../x", Path("x")),)}],
    ids=str,
)
async def test_what_can_never_run_is_rejected(
    ground: Ground, adapter: Backend, wrong: dict[str, object]
) -> None:
    with pytest.raises(base.LaunchRejected):
        await adapter.launch(ground.script(**wrong))


async def test_remove_forgets_an_attempt_and_repeats_silently(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script())
        await witness.ended(handle)
    for _ in range(2):
        await adapter.remove(handle)
    async with Witness(adapter, handle) as witness:
        await witness.sees(Missing, handle)


async def test_what_is_held_can_be_found_until_it_is_removed(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handles = [await adapter.launch(ground.script()) for _ in range(2)]
        for handle in handles:
            await witness.ended(handle)
    fresh = await ground.open()
    assert sorted(each["name"] for each in await fresh.held()) == sorted(each["name"] for each in handles)
    await fresh.remove((await fresh.held())[0])
    assert len(await adapter.held()) == 1


@REAL
async def test_the_client_can_be_imported_where_it_was_brought(ground: Ground, adapter: Backend) -> None:
    client = ground.source.parent / "client"
    (client / "brought").mkdir(parents=True)
    (client / "brought" / "__init__.py").write_text("WORDS = 'from afar'\n")
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("import brought; print(brought.WORDS)", client=client))
        await witness.ended(handle)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"from afar"]


async def test_preparing_again_costs_nothing(ground: Ground, adapter: Backend) -> None:
    told: list[str] = []

    async def log(line: str) -> None:
        told.append(line)

    spec = base.PrepareSpec("v1", ground.source, ())
    prepared = await adapter.prepare(spec, log)
    told.clear()
    assert (await adapter.prepare(spec, log), told) == (prepared, [])
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("print ran", prepared=prepared))
        await witness.ended(handle)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"ran"]


async def test_a_job_over_its_memory_is_told_to_be(ground: Ground, adapter: Backend) -> None:
    job = ground.script("print begun", "oom", resources=base.Resources(memory_bytes=64 << 20))
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        ended = await witness.ended(handle)
    assert ended.reason == EndReason.OUT_OF_MEMORY
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"begun"]


async def test_a_suspended_job_stands_still_until_it_is_resumed(ground: Ground, adapter: Backend) -> None:
    if not adapter.capabilities.suspends:
        pytest.skip("this kind does not suspend")
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("every 0.01 10000 print {n}"))
        await witness.sees(base.HasOutput, handle)
        await adapter.suspend(handle)
        await asyncio.sleep(0.5)  # it is a matter of time here: nothing is to happen in it
        still = await pieces(adapter, handle)
        await asyncio.sleep(0.3)
        assert await pieces(adapter, handle) == still
        await adapter.resume(handle)

        async def goes_on() -> bool:
            return len(await pieces(adapter, handle)) > len(still)

        await eventually(goes_on)
        await adapter.stop(handle, 0)
        await witness.ended(handle)


async def _all(watch: AsyncIterator[base.Observation]) -> list[base.Observation]:
    return [each async for each in watch]
