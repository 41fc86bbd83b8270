"""What only an engine of containers can get wrong: limits, networks, leftovers, launches that broke off."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backends import base
from backends.base import EndReason, Handle, Stream, Used, WorkerStarted
from backends.docker import Docker
from backends.docker_options import DockerOptions
from backends.docker_options import adapter as configured
from tests.backends import dockerground, enginehouse
from tests.backends.grounds import DEADLINE_SECONDS, FOREVER, Ground, Witness, eventually, lines, pieces

pytestmark = pytest.mark.docker


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with dockerground.stand(tmp_path, pids=64) as ground:
        yield ground


@pytest.fixture
async def adapter(ground: Ground) -> Docker:
    return await opened(ground)


async def opened(ground: Ground) -> Docker:
    adapter = await ground.open()
    assert isinstance(adapter, Docker)
    return adapter


async def run(adapter: Docker, job: base.JobSpec) -> tuple[base.Ended, list[bytes], Handle]:
    """How a job ends and what it says."""
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        ended = await witness.ended(handle)
    found = [
        line for rank in range(job.workers) for line in lines(await pieces(adapter, handle, rank=rank), 1)
    ]
    return ended, found, handle


async def container(adapter: Docker, handle: Handle, rank: int = 0) -> dict[str, Any]:
    found = await adapter._native.inspect(handle["name"], rank)
    assert found is not None
    return found


async def test_a_worker_has_no_rights_and_no_network_and_cannot_change_what_it_was_given(
    ground: Ground, adapter: Docker
) -> None:
    code = """
import os, socket
status = open('/proc/self/status').read()
print([line.split()[1] for line in status.splitlines() if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))])
for path in ('/mnt/input/more', '/mnt/module/source/more', '/mnt/input/input.json'):
    try: open(path, 'a')
    except OSError as error: print(error.strerror)
print(socket.if_nameindex())
"""
    _, said, _ = await run(adapter, ground.job(code))
    assert said == [
        b"['0000000000000000', '0000000000000000', '1']",
        *[b"Read-only file system"] * 3,
        b"[(1, 'lo')]",
    ]


async def test_that_memory_ended_a_job_is_known_where_the_engine_says_so_in_an_event_alone(
    ground: Ground, adapter: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = adapter._native.inspect

    async def forgetful(name: str, rank: int) -> dict[str, Any] | None:
        found = await inspect(name, rank)
        if found is not None:
            found["State"]["OOMKilled"] = False
        return found

    monkeypatch.setattr(adapter._native, "inspect", forgetful)
    limit = base.Resources(memory_bytes=64 << 20)
    ended, _, _ = await run(adapter, ground.job("taken = b'x' * (1 << 30)", resources=limit))
    assert ended.reason is EndReason.OUT_OF_MEMORY


async def test_a_network_is_there_for_who_asks_and_where_the_policy_says(
    ground: Ground, adapter: Docker
) -> None:
    code = "import socket; print(len(socket.if_nameindex()) > 1)"
    assert (await run(adapter, ground.job(code, network=True)))[1] == [b"True"]
    never = Docker(adapter._home, DockerOptions(owner=adapter._native.owner, network="never"))
    with pytest.raises(base.LaunchRejected, match="asks for a network"):
        await never.launch(ground.job(code, network=True))
    always = Docker(adapter._home, DockerOptions(owner=adapter._native.owner, network="always"))
    await always.open()
    assert (await run(always, ground.job(code)))[1] == [b"True"]
    await always.close()


async def test_limits_are_the_engines_to_keep(ground: Ground, adapter: Docker) -> None:
    code = """
import subprocess
started = []
try:
    while len(started) < 200: started.append(subprocess.Popen(['sleep', '60']))
except OSError as error: print(error.strerror)
print(40 < len(started) < 64)
for each in started: each.kill()
"""
    resources = base.Resources(cpus=0.5, memory_bytes=64 << 20)
    ended, said, handle = await run(adapter, ground.job(code, resources=resources))
    assert (ended.reason, said) == (EndReason.COMPLETED, [b"Resource temporarily unavailable", b"True"])
    host = (await container(adapter, handle))["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)


async def test_an_attempt_and_its_volumes_say_whose_they_are(ground: Ground, adapter: Docker) -> None:
    labels = {"run": "run_1", "job": "job_2", "attempt": "3"}
    _, _, handle = await run(adapter, ground.job("pass", labels=labels))
    found = (await container(adapter, handle))["Config"]["Labels"]
    assert {name: found[f"io.rungraph.{name}"] for name in labels} == labels
    assert found["io.rungraph.name"] == handle["name"]
    async with enginehouse.running() as engine:
        assert len(await dockerground.left(engine, adapter._native.owner)) == 2 + 3  # with the holder
        await adapter.remove(handle)
        assert not await dockerground.left(engine, adapter._native.owner)


@pytest.mark.parametrize("after", ["_put", "_create", "_refusal"])
async def test_a_launch_that_broke_off_is_gone_on_with(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    broken, job = await opened(ground), ground.job("print('whole')", inputs=())
    whole = getattr(broken._launcher, after)

    async def breaks(*arguments: Any) -> Any:
        await whole(*arguments)
        raise base.BackendUnavailable("the server died")

    monkeypatch.setattr(broken._launcher, after, breaks)
    with pytest.raises(base.BackendUnavailable):
        await broken.launch(job)
    fresh = await opened(ground)
    ended, said, handle = await run(fresh, job)
    assert (ended.reason, said) == (EndReason.COMPLETED, [b"whole"])
    assert await ground.ran(fresh, handle) == 1


async def test_workers_that_were_made_and_never_started_are_started_by_the_next(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, job = await opened(ground), ground.job("print('whole')", workers=2)

    async def away(*_: Any) -> None:
        raise base.BackendUnavailable("the server died")

    monkeypatch.setattr(broken._launcher, "_start", away)
    with pytest.raises(base.BackendUnavailable):
        await broken.launch(job)
    ended, said, _ = await run(await opened(ground), job)
    assert (ended.reason, said) == (EndReason.COMPLETED, [b"whole", b"whole"])


async def test_what_others_remove_is_lost(ground: Ground, adapter: Docker) -> None:
    async with Witness(adapter) as witness:
        gone = await adapter.launch(ground.job(FOREVER))
        halved = await adapter.launch(ground.job(FOREVER, workers=2))
        for handle, rank in ((gone, 0), (halved, 1)):
            await witness.started(handle)
            name = adapter._native.names(handle["name"]).worker(rank)
            await adapter._native.settle("DELETE", f"containers/{name}", {"force": True})
        await witness.sees(base.Missing, gone)
        ended = await witness.ended(halved)
    assert (ended.reason, ended.message) == (EndReason.LOST, "rank 1: its container was removed")


async def test_what_another_life_of_the_engine_took_along_is_lost(
    ground: Ground, adapter: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(FOREVER))
        await witness.started(handle)

    async def another(self: Any) -> None:
        self.life = "another life"

    monkeypatch.setattr(type(adapter._native), "learn_life", another)
    async with Witness(adapter, handle) as witness:
        await witness.started(handle)
        await adapter._native.each(handle, "kill", {"signal": "SIGKILL"})
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code) == (EndReason.LOST, 137)
    assert ended.message == "the Docker engine was started anew while it ran"


async def test_what_another_life_of_the_engine_was_to_start_is_lost_and_never_runs(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, job = await opened(ground), ground.job("print('again')")

    async def away(*_: Any) -> None:
        raise base.BackendUnavailable("the engine died")

    monkeypatch.setattr(broken._launcher, "_start", away)
    with pytest.raises(base.BackendUnavailable):
        await broken.launch(job)

    async def another(self: Any) -> None:
        self.life = "another life"

    monkeypatch.setattr(type(broken._native), "learn_life", another)
    fresh = await opened(ground)
    ended, said, handle = await run(fresh, job)
    assert (ended.reason, said, ended.exit_code) == (EndReason.LOST, [], None)
    assert ended.message == "the Docker engine was started anew while it began"
    assert not (await fresh.outputs(handle) / "ran").exists()


async def test_an_image_that_is_gone_is_told_as_such(ground: Ground, adapter: Docker) -> None:
    with pytest.raises(base.LaunchRejected) as refused:
        await adapter.launch(ground.job("pass", prepared="sha256:" + "0" * 64))
    assert refused.value.end is EndReason.IMAGE_UNAVAILABLE


async def test_the_images_own_command_runs_where_the_image_says(ground: Ground, adapter: Docker) -> None:
    (ground.source / "Dockerfile").write_text(
        f'FROM {enginehouse.BASE}\nWORKDIR /somewhere\nENTRYPOINT ["python", "-c", '
        "\"import os; print(os.getcwd(), open('/mnt/input/input.json').read())\"]\n"
    )
    told: list[str] = []

    async def log(line: str) -> None:
        told.append(line)

    spec = base.PrepareSpec("v1", ground.source, (), None, str(ground.source), None, "Dockerfile")
    prepared = await adapter.prepare(spec, log)
    job = ground.command(prepared=prepared, input_document=b'{"a": 1}')
    try:
        ended, said, _ = await run(adapter, job)
        with pytest.raises(base.BackendUnavailable, match="using its referenced image"):
            await adapter.discard(prepared)
    finally:
        await adapter.remove({"name": job.name, "workers": 1})
        await adapter.discard(prepared)
    assert (ended.reason, said) == (EndReason.COMPLETED, [b'/somewhere {"a": 1}'])
    assert any(line.startswith("Step 2/") for line in told)


async def test_a_worker_that_the_engine_cannot_start_is_rejected_in_its_words(
    ground: Ground, adapter: Docker
) -> None:
    job = ground.job("pass", resources=base.Resources(gpus=1))
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_codes) == (EndReason.LAUNCH_REJECTED, {})
    assert "device driver" in (ended.message or "")
    assert not witness.of(WorkerStarted, handle["name"])


async def test_what_a_worker_uses_is_told_while_it_runs(tmp_path: Path) -> None:
    async with dockerground.stand(tmp_path, usage_seconds=0.2) as ground:
        adapter = await opened(ground)
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("while True: pass"))

            async def busy() -> bool:
                return any(used(each)["system/cpu_cores"] > 0.1 for each in witness.of(Used, handle["name"]))

            await eventually(busy)
            await adapter.stop(handle, 0)
            await witness.ended(handle)
    (first, *_) = witness.of(Used, handle["name"])
    assert first.piece.stream is Stream.USAGE
    assert used(first)["system/memory_bytes"] > 1 << 20


def used(observation: Used) -> dict[str, float]:
    values: dict[str, float] = json.loads(observation.piece.data)["metric"]
    return values


async def test_links_in_an_output_folder_lead_nowhere(ground: Ground, adapter: Docker) -> None:
    code = """
import os
os.chdir('/mnt/output')
os.symlink('/etc/passwd', 'stolen'); os.mkfifo('pipe'); os.mkdir('deep'); open('deep/file', 'w').write('x')
open('kept', 'w').write('kept'); os.link('kept', 'again'); os.link('deep/file', 'up')
"""
    _, _, handle = await run(adapter, ground.job(code))
    folder = await adapter.outputs(handle)
    assert sorted(path.name for path in folder.rglob("*")) == ["again", "kept", "ran", "up"]
    assert ((folder / "again").read_text(), (folder / "up").read_text()) == ("kept", "x")
    fresh = await opened(ground)
    assert await fresh.outputs(handle) == folder


async def test_many_ends_at_once_do_not_wait_for_one_another(ground: Ground, adapter: Docker) -> None:
    code = "import os\nopen('/mnt/output/large', 'wb').write(b'x' * (9 << 20))"
    async with Witness(adapter) as witness:
        handles = [await adapter.launch(ground.job(code)) for _ in range(12)]
        for handle in handles:
            await witness.ended(handle)
    async with asyncio.timeout(DEADLINE_SECONDS):
        folders = await asyncio.gather(*(adapter.outputs(handle) for handle in handles))
        await asyncio.gather(*(adapter.spool(handle) for handle in handles))
    assert {(folder / "large").stat().st_size for folder in folders} == {9 << 20}


async def test_what_a_process_could_not_send_is_fetched_from_every_worker(
    ground: Ground, adapter: Docker
) -> None:
    code = """
import os
folder = f"{os.environ['RUNGRAPH_SPOOL']}/job-1-{os.environ['RANK']}"
os.makedirs(folder)
open(f'{folder}/a.batches', 'w').write(os.environ['RANK'])
"""
    _, _, handle = await run(adapter, ground.job(code, workers=2))
    found = sorted((await adapter.spool(handle)).glob("*/*.batches"))
    assert [path.read_text() for path in found] == ["0", "1"]


async def test_a_flood_does_not_stall_the_loop_and_is_kept_whole(ground: Ground, adapter: Docker) -> None:
    late: list[float] = []

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            late.append(loop.time() - due)

    ticking = asyncio.create_task(tick())
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("for n in range(200_000): print('line', n)"))
        await witness.ended(handle)
    found = lines(await pieces(adapter, handle), Stream.STDOUT)
    ticking.cancel()
    assert found == [b"line %d" % number for number in range(200_000)]
    assert sorted(late)[len(late) * 99 // 100] < 0.25


def test_options_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    wrong = {
        "network": "sometimes",
        "scope": "moon",
        "owner": "Not Mine",
        "capabilities": ["chown"],
        "extra_hosts": ["nowhere"],
        "build_arguments": ["A"],
        "pids": 0,
        "imge": "x",
    }
    for option, value in wrong.items():
        with pytest.raises(base.BadOptions) as refused:
            configured(tmp_path, {option: value})
        assert refused.value.option == option
    with pytest.raises(base.BadOptions, match="replicas"):
        configured(tmp_path, {"host": "tcp://10.0.0.1:2376"})
    assert (
        configured(tmp_path, {"host": "tcp://10.0.0.1:2376", "owner": "us"}).capabilities.scope
        is base.Scope.CLUSTER
    )
