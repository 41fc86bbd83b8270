"""What a worker asked for is what it gets: memory and cores, by the kernel's hand and by the watcher's."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends import attempts, bounds, cgroups
from backends.base import EndReason, HasOutput, Resources, Stream
from backends.local import Local
from tests.backends import localground
from tests.backends.grounds import FOREVER, Ground, Witness, eventually, lines, pieces

MIB = 1 << 20
HOG = "held = []\nwhile True: held.append(b'x' * (1 << 20))"
CHILD = (
    "import os, subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', '''" + HOG + "'''])\n" + FOREVER
)


@pytest.fixture(params=["grouped", "watched"])
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    """This machine with control groups and without."""
    grouped = request.param == "grouped"
    if grouped and not {cgroups.MEMORY, cgroups.CPU} <= cgroups.places("rungraph-test").keys():
        pytest.skip("no control groups can be made here")
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", grouped=grouped)
        yield ground
        assert not _groups(ground)


def _groups(ground: Ground) -> list[str]:
    tag = _tag(ground)
    folders = {folder for folder, _ in cgroups.places(tag).values()}
    return [each.name for folder in folders for each in Path(folder).iterdir() if each.name.startswith(tag)]


def _tag(ground: Ground) -> str:
    (adapter, *_) = ground.opened
    assert isinstance(adapter, Local)
    return adapter._tag


@pytest.mark.parametrize("code", [HOG, CHILD], ids=["itself", "its child"])
async def test_a_worker_over_its_memory_ends_the_attempt_in_words(ground: Ground, code: str) -> None:
    adapter = await ground.open()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, resources=Resources(memory_bytes=64 * MIB)))
        ended = await witness.ended(handle)
    assert ended.reason is EndReason.OUT_OF_MEMORY, ended
    assert "wanted more than the 64 MiB of memory it asked for" in (ended.message or "")


async def test_a_worker_within_its_memory_is_left_alone(ground: Ground) -> None:
    adapter = await ground.open()
    code = "held = b'x' * (20 << 20)\nimport time; time.sleep(0.5)"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, resources=Resources(cpus=1.0, memory_bytes=64 * MIB)))
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED


async def test_of_several_workers_the_one_that_starved_is_named(ground: Ground) -> None:
    adapter = await ground.open()
    code = (
        f"import os\nif os.environ['RANK'] == '1':\n    {HOG.replace(chr(10), chr(10) + '    ')}\n{FOREVER}"
    )
    async with Witness(adapter) as witness:
        job = ground.job(code, workers=2, resources=Resources(memory_bytes=64 * MIB))
        ended = await witness.ended(await adapter.launch(job))
    assert ended.reason is EndReason.OUT_OF_MEMORY
    assert (ended.message or "").startswith("rank 1: used ")


async def test_cores_are_limited(ground: Ground) -> None:
    adapter = await ground.open()
    code = "import os; print(len(os.sched_getaffinity(0)), open('/proc/self/cgroup').read())"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, resources=Resources(cpus=0.5)))
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED
    text = b"\n".join(lines(await pieces(adapter, handle), Stream.STDOUT))
    if adapter.capabilities.cpus == "a set of whole cores":
        assert text.split()[0] == b"1"
    else:
        assert f"{_tag(ground)}-{handle['name']}-0".encode() in text


async def test_a_command_that_cannot_be_executed_is_rejected_with_limits_too(ground: Ground) -> None:
    adapter = await ground.open()
    (ground.source / "noise").write_bytes(b"\0\1\2")
    (ground.source / "noise").chmod(0o755)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command("./noise", resources=Resources(cpus=1.0)))
        ended = await witness.ended(handle)
    assert ended.reason is EndReason.LAUNCH_REJECTED
    assert "noise could not be started" in (ended.message or "")


async def test_groups_of_a_killed_watcher_are_taken_away(ground: Ground) -> None:
    adapter = await ground.open()
    limits = Resources(cpus=1.0, memory_bytes=64 * MIB)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(FOREVER, resources=limits))
        await witness.started(handle)
        assert bool(_groups(ground)) == ("control" in (adapter.capabilities.memory or ""))
        attempts.kill([handle["pid"]])
        assert (await witness.ended(handle)).reason is EndReason.LOST


async def test_groups_that_nobody_took_away_are_swept_by_the_next_server(ground: Ground) -> None:
    adapter = await ground.open()
    assert isinstance(adapter, Local)
    tag = _tag(ground)
    stale = cgroups.Group(f"{tag}-job-gone-0", adapter._places)
    stale.make(MIB, 1.0)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(FOREVER, resources=Resources(cpus=1.0)))
        await witness.started(handle)
        before = set(_groups(ground))
        await ground.open()
        assert set(_groups(ground)) == {name for name in before if "gone" not in name}
        await adapter.stop(handle, 0)
        await witness.ended(handle)


TICKING = "import itertools, time\nfor i in itertools.count(): print(i, flush=True); time.sleep(0.005)"
"""Prints as long as it may run."""


@pytest.mark.parametrize("limits", [Resources(), Resources(memory_bytes=256 * MIB)], ids=["free", "limited"])
async def test_a_suspended_attempt_stands_still_until_it_is_resumed(
    ground: Ground, limits: Resources
) -> None:
    adapter = await ground.open()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(TICKING, resources=limits))
        await witness.sees(HasOutput, handle)
        for _ in range(2):
            await adapter.suspend(handle)
        await eventually(lambda: localground.is_still(handle["pid"]))
        fresh = await ground.open()
        before = len(await pieces(fresh, handle))
        await fresh.resume(handle)
        await fresh.resume(handle)

        async def goes_on() -> bool:
            return len(await pieces(fresh, handle)) > before + 3

        assert await eventually(goes_on)
        await adapter.stop(handle, 5)
        ended = await witness.ended(handle)
    assert ended.exit_code == -15


async def test_a_suspended_attempt_can_be_stopped(ground: Ground) -> None:
    adapter = await ground.open()
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('heard', flush=True), sys.exit(3)))\n"
        "print('ready', flush=True)\n" + FOREVER
    )
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        await witness.sees(HasOutput, handle)
        await adapter.suspend(handle)
        await eventually(lambda: localground.is_still(handle["pid"]))
        await adapter.stop(handle, 10)
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code) == (EndReason.EXIT_CODE, 3)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"ready", b"heard"]


async def test_what_a_family_holds_is_counted_once() -> None:
    code = "held = bytearray(30 << 20); print('ready', flush=True); import time; time.sleep(60)"
    child = await asyncio.create_subprocess_exec("python3", "-S", "-c", code, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    await child.stdout.readline()
    try:
        held = bounds.resident_bytes(child.pid)
        assert 30 * MIB < held < 60 * MIB
        assert child.pid in set(bounds.family(os.getpid()))
    finally:
        child.kill()
        await child.wait()


async def test_a_job_is_ended_before_the_server_when_memory_runs_out(ground: Ground) -> None:
    adapter = await ground.open()
    code = "print(open('/proc/self/oom_score_adj').read())"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        await witness.ended(handle)
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(lines(await pieces(adapter, handle), Stream.STDOUT)[0]) > ours


async def test_jobs_give_way_with_all_that_they_start(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", nice=7)
        adapter = await ground.open()
        code = "import os, subprocess; print(os.nice(0), flush=True); subprocess.run(['nice'])"
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job(code))
            await witness.ended(handle)
        given = min(os.nice(0) + 7, 19)
        assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"%d" % given] * 2


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no core is shared between sessions")
async def test_a_jobs_session_gives_way_where_sessions_share_cores(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", nice=7)
        adapter = await ground.open()
        handle = await adapter.launch(ground.job(FOREVER))

        async def given() -> bool:
            return Path(f"/proc/{handle['pid']}/autogroup").read_text().split()[-1] == "7"

        await eventually(given)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no core is shared between sessions")
@pytest.mark.skipif(
    os.geteuid() != 0, reason="the kernel lets others than root change one session every 0.1 s"
)
async def test_a_jobs_session_has_given_way_before_the_job_begins(tmp_path: Path) -> None:
    async with localground.stand(tmp_path) as ground:
        ground.make = lambda: Local(tmp_path / "home", nice=7)
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(
                ground.job("print(open('/proc/self/autogroup').read().split()[-1])")
            )
            await witness.ended(handle)
        assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"7"]


@pytest.mark.parametrize(("version", "file", "weight"), [(2, "cpu.weight", "11"), (1, "cpu.shares", "110")])
def test_a_group_of_its_own_gives_way_as_its_processes_do(
    tmp_path: Path, version: int, file: str, weight: str
) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / file).touch()
    cgroups.Group("g", {cgroups.CPU: (str(tmp_path), version)}).make(None, None, 10)
    assert (tmp_path / "g" / file).read_text() == weight


def test_what_version_2_is_told(tmp_path: Path) -> None:
    """Written into plain files: few machines that run tests have both version 2 and the right to it."""
    group = cgroups.Group("g", {cgroups.MEMORY: (str(tmp_path), 2), cgroups.CPU: (str(tmp_path), 2)})
    names = ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cgroup.procs")
    (tmp_path / "g").mkdir()
    for name in names:
        (tmp_path / "g" / name).touch()
    group.make(64 * MIB, 0.25)
    group.join()
    told = [(tmp_path / "g" / name).read_text() for name in names]
    assert told == [str(64 * MIB), "0", "1", "25000 100000", "0"]
    assert (group.oom_kills(), group.peak_bytes(), group.freeze(True)) == (0, 0, False)
    (tmp_path / "g" / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "g" / "memory.peak").write_text("1234\n")
    assert (group.oom_kills(), group.peak_bytes()) == (2, 1234)
