"""What only this machine can get wrong: crashes of the server, of watchers and of zygotes; strays; noise."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backends import attempts, base
from backends.base import Ended, EndReason, Handle, HasOutput, JobSpec, Stream, WorkerStarted
from backends.local import Local
from backends.zygote import Zygote
from tests.backends import localground
from tests.backends.grounds import FOREVER, Ground, Witness, lines, pieces, ran

ROOT = Path(__file__).resolve().parents[2]
WAIT = "printf x >> $RUNGRAPH_OUTPUT/ran; while [ ! -e go ]; do sleep 0.02; done"
SERVER = """
import asyncio, json, sys
from pathlib import Path
from backends.base import JobSpec
from backends.local import Local

async def launch(adapter, name):
    print(json.dumps(dict(await adapter.launch(JobSpec(name, ("sh", "-c", sys.argv[3]),
        source=Path(sys.argv[2]), prepared="", input_document=b"{}")))), flush=True)

async def main():
    adapter = Local(Path(sys.argv[1]))
    await adapter.open()
    await asyncio.gather(*(launch(adapter, f"job-{number}") for number in range(20)))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with localground.stand(tmp_path) as ground:
        yield ground


@pytest.fixture
async def adapter(ground: Ground) -> Local:
    opened = await ground.open()
    assert isinstance(opened, Local)
    return opened


async def crash_of_a_server(ground: Ground, after: int) -> list[Handle]:
    """Kill a server that launches 20 jobs when it has recorded so many of them."""
    home = ground.source.parent / "home"
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, home, ground.source, WAIT),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    handles = [json.loads(await server.stdout.readline()) for _ in range(after)]
    server.kill()
    await server.communicate()
    return handles


async def test_a_killed_server_loses_no_job_and_the_next_adopts_them_all(ground: Ground) -> None:
    handles = await crash_of_a_server(ground, 20)
    adapter = await ground.open()
    async with Witness(adapter, *handles) as witness:
        for handle in handles:
            await witness.started(handle)
        assert not [each for each in witness.seen if isinstance(each, Ended)]
        (ground.source / "go").touch()
        reasons = {(await witness.ended(handle)).reason for handle in handles}
    assert reasons == {EndReason.COMPLETED}
    assert [await ran(adapter, handle) for handle in handles] == [1] * 20


@pytest.mark.parametrize("after", [1, 7])
async def test_a_server_killed_while_it_launches_runs_nothing_twice(ground: Ground, after: int) -> None:
    recorded = await crash_of_a_server(ground, after)
    adapter = await ground.open()
    jobs = [ground.command("sh", "-c", WAIT) for _ in range(20)]
    handles = await asyncio.gather(*(adapter.launch(job) for job in jobs))
    assert all(handle in handles for handle in recorded)
    (ground.source / "go").touch()
    async with Witness(adapter) as witness:
        for handle in handles:
            assert (await witness.ended(handle)).reason == EndReason.COMPLETED
    assert [await ran(adapter, handle) for handle in handles] == [1] * 20


async def test_a_folder_that_nobody_claimed_is_run_by_the_next_launch(ground: Ground, adapter: Local) -> None:
    job = ground.job("pass")
    await adapter._create(job, folder_of(ground, job))
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        await witness.ended(handle)
    assert await ran(adapter, handle) == 1


async def test_a_claimed_folder_without_its_watcher_is_lost_not_run_again(
    ground: Ground, adapter: Local
) -> None:
    job = ground.job("pass")
    folder = folder_of(ground, job)
    await adapter._create(job, folder)
    gone = {"pid": os.getpid(), "start": 1, "boot": attempts.boot_id()}
    attempts.write_record(str(folder / attempts.CLAIM), gone)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        assert (await witness.ended(handle)).reason == EndReason.LOST
    assert not (folder / "output" / "ran").exists()


async def test_a_claim_emptied_by_a_power_cut_is_a_claim(ground: Ground, adapter: Local) -> None:
    job = ground.job("pass")
    await adapter._create(job, folder_of(ground, job))
    for record in (attempts.CLAIM, attempts.STARTED):
        (folder_of(ground, job) / record).touch()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        await adapter.stop(handle, 0)
        assert (await witness.ended(handle)).reason == EndReason.LOST
    assert not (folder_of(ground, job) / "output" / "ran").exists()


async def test_a_killed_watcher_takes_its_job_with_it_and_it_is_lost(ground: Ground, adapter: Local) -> None:
    code = f"""
import os, subprocess, sys
away = [sys.executable, '-S', '-c', {FOREVER!r}]
subprocess.Popen(away)
subprocess.Popen(away, start_new_session=True)
subprocess.Popen(away, env={{}})
print('ready', flush=True)
"""
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code + FOREVER))
        await witness.sees(HasOutput, handle)
        assert len(attempts.survivors(str(folder_of(ground, handle)), dict(handle))) == 5  # with the watcher
        os.kill(handle["pid"], signal.SIGKILL)
        ended = await witness.ended(handle)
        assert (ended.reason, ended.message) == (EndReason.LOST, "its watcher was killed")
        assert not attempts.survivors(str(folder_of(ground, handle)), dict(handle))
    async with Witness(await ground.open(), handle) as witness:
        assert await witness.ended(handle) == ended


async def test_a_machine_started_anew_has_lost_what_ran(ground: Ground, adapter: Local) -> None:
    handle = await adapter.launch(ground.job("pass"))
    async with Witness(adapter) as witness:
        await witness.ended(handle)
    (folder_of(ground, handle) / attempts.EXIT).unlink()
    before = {**handle, "boot": "another"}
    async with Witness(await ground.open(), before) as witness:
        assert "started anew" in ((await witness.ended(handle)).message or "")


async def test_a_handle_of_another_machine_is_missing(ground: Ground, adapter: Local) -> None:
    handle = {**await adapter.launch(ground.job("pass")), "machine": "another"}
    async with Witness(await ground.open(), handle) as witness:
        await witness.sees(base.Missing, handle)


async def test_a_job_has_not_ended_before_its_daemons_have(ground: Ground, adapter: Local) -> None:
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        {FOREVER}
    os._exit(0)
os.wait()
"""
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        assert (await witness.ended(handle)).reason == EndReason.COMPLETED
    for line in lines(await pieces(adapter, handle), Stream.STDOUT):
        assert attempts.process(int(line)) is None
    assert not attempts.survivors(str(folder_of(ground, handle)), dict(handle))


async def test_what_a_shell_started_has_the_whole_grace(ground: Ground, adapter: Local) -> None:
    python = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('saved'))); print('ready');"
    job = ground.command("sh", "-c", f'python -S -u -c "{python}{FOREVER}"; true')
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        await witness.sees(HasOutput, handle)
        await adapter.stop(handle, 60)
        await witness.ended(handle)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"ready", b"saved"]


async def test_a_stop_file_is_obeyed_without_a_signal(ground: Ground, adapter: Local) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(FOREVER))
        await witness.started(handle)
        attempts.write_record(str(folder_of(ground, handle) / attempts.STOP), {"grace_seconds": 0})
        await witness.ended(handle)


async def test_a_job_stopped_before_it_was_claimed_never_runs(ground: Ground, adapter: Local) -> None:
    job = ground.job("pass")
    await adapter._create(job, folder_of(ground, job))
    attempts.write_record(str(folder_of(ground, job) / attempts.STOP), {"grace_seconds": 9})
    async with Witness(adapter) as witness:
        ended = await witness.ended(await adapter.launch(job))
    assert (ended.reason, ended.message) == (EndReason.EXIT_CODE, "stopped before it started")
    assert not (folder_of(ground, job) / "output" / "ran").exists()


async def test_a_job_whose_folder_is_taken_away_is_ended(ground: Ground, adapter: Local) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(FOREVER))
        await witness.started(handle)
    await adapter.remove(handle)
    await localground.gone(handle["pid"], handle["start"])


async def test_a_dead_zygote_is_started_again(ground: Ground, adapter: Local) -> None:
    os.kill(zygote_of(adapter), signal.SIGKILL)
    async with Witness(adapter) as witness:
        for _ in range(2):
            await witness.ended(await adapter.launch(ground.job("pass")))


async def test_a_zygote_that_always_dies_is_said_to(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path / "absent")
    with pytest.raises(base.BackendUnavailable):
        await zygote.ask("job")
    await zygote.close()


async def test_watchers_hold_nothing_of_the_server_open(ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job(FOREVER))
            await witness.started(handle)
        port = listener.getsockname()
    with socket.socket() as again:
        again.bind(port)


async def test_lost_hints_are_made_up_for(ground: Ground, adapter: Local) -> None:
    (ground.source.parent / "home" / attempts.HINTS).unlink()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("print(1, flush=True)\n" + FOREVER))
        await witness.started(handle)
        await witness.sees(HasOutput, handle)


async def test_a_home_with_a_long_path_is_as_good(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    async with localground.stand(folder) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("print(1, flush=True)\n" + FOREVER))
            await witness.sees(HasOutput, handle)


async def test_python_is_the_servers_without_its_packages(ground: Ground, adapter: Local) -> None:
    code = "import sys; print(sys.version); print(sys.prefix); import strawberry"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command("python", "-c", code))
        assert (await witness.ended(handle)).exit_code == 1
    found = lines(await pieces(adapter, handle), Stream.STDOUT)
    assert b" ".join(found[:-1]).decode() == sys.version.replace("\n", " ")
    assert found[-1].decode() != sys.prefix


async def test_a_prepared_environment_comes_first(ground: Ground, adapter: Local) -> None:
    prepared = ground.source / "prepared"
    (prepared / "bin").mkdir(parents=True)
    (prepared / "bin" / "train").write_text("#!/bin/sh\necho $VIRTUAL_ENV\n")
    (prepared / "bin" / "train").chmod(0o755)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command("train", prepared=str(prepared)))
        await witness.ended(handle)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [bytes(prepared)]


async def test_jobs_are_born_with_default_signals(ground: Ground, adapter: Local) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command("grep", "^Sig[IB]", "/proc/self/status"))
        await witness.ended(handle)
    masks = [int(line.split()[1], 16) for line in lines(await pieces(adapter, handle), Stream.STDOUT)]
    assert len(masks) == 2
    assert not [each for each in signal.valid_signals() for mask in masks if mask >> (each - 1) & 1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("./absent",), "there is no command {source}/./absent"),
        (("./data",), "{source}/./data is not an executable file"),
        (("./script",), "{source}/./script could not be started"),
        (("true", "\0"), "could not be started: embedded null byte"),
    ],
)
async def test_a_command_that_cannot_run_is_said_to_where_it_was_looked_for(
    ground: Ground, adapter: Local, command: tuple[str, ...], said: str
) -> None:
    (ground.source / "data").touch()
    (ground.source / "script").write_text("#!/nowhere/at/all\n")
    (ground.source / "script").chmod(0o755)
    async with Witness(adapter) as witness:
        ended = await witness.ended(await adapter.launch(ground.command(*command)))
    assert ended.reason == EndReason.LAUNCH_REJECTED
    assert said.format(source=ground.source) in (ended.message or "")
    assert not witness.of(WorkerStarted, ended.name)


async def test_signals_are_named(ground: Ground, adapter: Local) -> None:
    async with Witness(adapter) as witness:
        ended = await witness.ended(await adapter.launch(ground.command("sh", "-c", "kill -9 $$")))
    assert (ended.reason, ended.exit_code) == (EndReason.EXIT_CODE, -9)
    assert ended.message == "killed by signal 9 (SIGKILL)"


async def test_streams_keep_their_own_order_and_time_never_runs_back(ground: Ground, adapter: Local) -> None:
    code = "import os\nfor n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        await witness.ended(handle)
    found = await pieces(adapter, handle)
    for stream in (Stream.STDOUT, Stream.STDERR):
        assert lines(found, stream) == [b"%d" % n for n in range(stream - 1, 2000, 2)]
    times = [piece.time_us for piece in found]
    assert times == sorted(times)


async def test_two_instances_do_not_share_a_watch(adapter: Local) -> None:
    async with Witness(adapter):
        with pytest.raises(RuntimeError):
            await anext(adapter.watch([]))


async def test_running_out_of_memory_is_told_from_being_killed(ground: Ground, adapter: Local) -> None:
    with memory_group(64 << 20) as group:
        (group / "cgroup.procs").write_text(str(zygote_of(adapter)))
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("x = b'x' * (256 << 20)"))
            ended = await witness.ended(handle)
            killed = await witness.ended(await adapter.launch(ground.command("sh", "-c", "kill -9 $$")))
        await adapter.close()
    assert (ended.reason, killed.reason) == (EndReason.OUT_OF_MEMORY, EndReason.EXIT_CODE)


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A control group with so much memory, of either version."""
    for top, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", top, f"rungraph-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(limit_bytes))
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("no control group for memory can be made here")


def zygote_of(adapter: Local) -> int:
    (pid,) = adapter._zygote._children.values()
    return pid


def folder_of(ground: Ground, attempt: Handle | JobSpec) -> Path:
    name = attempt.name if isinstance(attempt, JobSpec) else attempt["name"]
    return ground.source.parent / "home" / "jobs" / str(name)


async def test_an_attempt_that_no_watcher_was_asked_for_is_held_and_can_be_removed(
    ground: Ground, adapter: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(self: Zygote, name: str) -> attempts.Record:
        raise base.BackendUnavailable("the process that starts watchers does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(Zygote, "ask", silent)
        with pytest.raises(base.BackendUnavailable):
            await adapter.launch(ground.job("pass"))
    (handle,) = await adapter.held()
    await adapter.remove(handle)
    assert await adapter.held() == []
