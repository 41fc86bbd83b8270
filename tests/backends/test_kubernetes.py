"""What is Kubernetes's own, against a real cluster: reasons, gangs, deletions from outside, adoption, leftovers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backends import base
from backends.base import Ended, EndReason, Stream, WorkerStarted
from backends.kubernetes import pods
from backends.kubernetes.adapter import Kubernetes
from backends.kubernetes.cluster import Refused
from backends.kubernetes.options import KubernetesOptions
from tests.backends import kubernetesground, relays, roles
from tests.backends.grounds import FOREVER, Witness, eventually, lines, pieces
from tests.backends.kubernetesground import KubernetesGround

pytestmark = pytest.mark.kubernetes

READY = "print('ready', flush=True)\n"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[KubernetesGround]:
    async with kubernetesground.stand(tmp_path, image_seconds=1, grace_seconds=8) as ground:
        yield ground


@pytest.fixture
async def adapter(ground: KubernetesGround) -> base.Backend:
    return await ground.open()


async def test_a_pod_has_nothing_that_a_job_does_not_need(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    code = "import os; print(os.getuid(), os.path.exists('/var/run/secrets/kubernetes.io'))\n"
    code += "print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])\n"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        await witness.ended(handle)
    told = lines(await pieces(adapter, handle), Stream.STDOUT)
    assert told == [b"1000 False", b"0" * 16]


async def test_one_deletion_takes_everything_with_it(ground: KubernetesGround, adapter: base.Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(READY + FOREVER, workers=2))
        await witness.started(handle)
        await ground.cluster.json("DELETE", ground.cluster.path("secrets", handle["name"]))
        assert (await witness.ended(handle)).reason is EndReason.PREEMPTED
        await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)
    assert await adapter.held() == []


async def test_memory_that_runs_out_is_told_as_such(ground: KubernetesGround, adapter: base.Backend) -> None:
    job = ground.job("taken = [bytearray(b'x' * 1000000) for _ in range(500)]")
    limited = base.Resources(memory_bytes=64 << 20)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.command(*job.command, resources=limited))
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code) == (EndReason.OUT_OF_MEMORY, -9)
    assert "67108864" in (ended.message or "")


async def test_an_image_that_cannot_be_had_ends_the_job(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("pass", prepared="localhost:1/nobody/nothing:none"))
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code) == (EndReason.IMAGE_UNAVAILABLE, None)
    assert "localhost:1/nobody/nothing:none" in (ended.message or "")
    assert not witness.of(WorkerStarted, handle["name"])
    await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)


async def test_an_evicted_pod_is_preempted_and_its_last_words_are_kept(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    code = "import signal, sys, time\ndef end(*_): print('goodbye', flush=True); sys.exit(9)\n"
    code += "signal.signal(15, end)\n" + READY + FOREVER
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code))
        await witness.sees(base.HasOutput, handle)
        name = pods.pod_name(handle["name"], 0)
        eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}}
        await ground.cluster.json("POST", ground.cluster.path("pods", name, sub="eviction"), body=eviction)
        ended = await witness.ended(handle)
        assert (ended.reason, ended.exit_code) == (EndReason.PREEMPTED, 9)
        assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"ready", b"goodbye"]
        await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)


async def test_a_pod_that_is_killed_without_grace_is_preempted(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(READY + FOREVER))
        await witness.started(handle)
        path = ground.cluster.path("pods", pods.pod_name(handle["name"], 0))
        await ground.cluster.json("DELETE", path, body={"gracePeriodSeconds": 0})
        assert (await witness.ended(handle)).reason is EndReason.PREEMPTED
        assert await adapter.spool(handle)
        await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)


async def test_what_a_completed_job_printed_outlives_its_pod(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    assert isinstance(adapter, Kubernetes)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("print('all of it')"))
        assert not (await adapter.read(handle, 0, 0)).pieces
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED
    path = ground.cluster.path("pods", pods.pod_name(handle["name"], 0))
    await ground.cluster.json("DELETE", path, body={"gracePeriodSeconds": 0})

    async def is_silent() -> bool:
        try:
            await (await adapter._companion(handle, 0)).state(-1, 0)
        except (Refused, base.BackendUnavailable):
            return True
        return False

    await eventually(is_silent)
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"all of it"]
    await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)


async def test_a_gang_that_cannot_be_placed_whole_is_withdrawn(tmp_path: Path) -> None:
    async with kubernetesground.stand(tmp_path, gang_seconds=5) as ground:
        await _withdraws(ground, await ground.open())


async def _withdraws(ground: KubernetesGround, adapter: base.Backend) -> None:
    nodes = (await ground.cluster.json("GET", "/api/v1/nodes"))["items"]
    cores = max(float(node["status"]["allocatable"]["cpu"]) for node in nodes)
    wanted = base.Resources(cpus=cores * len(nodes) - 0.3)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("print('never')", workers=2, resources=wanted))
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_codes) == (EndReason.PREEMPTED, {})
    assert "of 2 workers" in (ended.message or "")
    assert "Insufficient cpu" in (ended.message or "")
    assert not witness.of(WorkerStarted, handle["name"])


async def test_what_is_stopped_before_it_began_ends_without_having_run(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job("pass", prepared="localhost:1/nobody/nothing:none"))
        await adapter.stop(handle, 10)
        ended = await witness.ended(handle)
    assert (ended.exit_code, ended.message) == (None, "it was stopped before it began")


async def test_a_launch_that_broke_off_half_way_is_finished_by_the_next(
    ground: KubernetesGround, adapter: base.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, cluster = ground.job("pass", workers=2), adapter._cluster  # type: ignore[attr-defined]
    ask = cluster.json

    async def dies(method: str, path: str, **more: Any) -> Any:
        if method == "POST" and (more.get("body") or {}).get("kind") == "Pod":
            raise base.BackendUnavailable("the server was killed")
        return await ask(method, path, **more)

    with monkeypatch.context() as broken:
        broken.setattr(cluster, "json", dies)
        with pytest.raises(base.BackendUnavailable):
            await adapter.launch(job)
    fresh = await ground.open()
    assert [each["name"] for each in await fresh.held()] == [job.name]
    async with Witness(fresh) as witness:
        handle = await fresh.launch(job)
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED


async def test_a_pod_that_is_gone_is_not_made_again(ground: KubernetesGround, adapter: base.Backend) -> None:
    job = ground.job(READY + FOREVER)
    async with Witness(adapter) as witness:
        handle = await adapter.launch(job)
        await witness.started(handle)
    path = ground.cluster.path("pods", pods.pod_name(job.name, 0))
    await ground.cluster.patch(path, {"metadata": {"finalizers": None}})
    await ground.cluster.json("DELETE", path, body={"gracePeriodSeconds": 0})
    fresh = await ground.open()
    assert await fresh.launch(job) == handle
    await eventually(lambda: kubernetesground.has_no_pods(ground))


async def test_a_job_whose_files_are_refused_says_so(ground: KubernetesGround, adapter: base.Backend) -> None:
    job = ground.job("pass")
    ground.listener.jobs.clear()
    async with Witness(adapter) as witness:
        ended = await witness.ended(await adapter.launch(job))
    assert ended.reason is EndReason.LAUNCH_REJECTED
    assert "401 no such job" in (ended.message or "")


async def test_what_workers_of_a_gang_make_comes_together(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    code = "import os; rank = os.environ['RANK']\n"
    code += "for name in (rank, 'both'): open(os.environ['RUNGRAPH_OUTPUT'] + '/' + name, 'w').write(rank)\n"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, workers=2))
        ended = await witness.ended(handle)
        assert ended == Ended(handle["name"], EndReason.COMPLETED, 0, {0: 0, 1: 0}, None, ended.at_us)
    folder = await adapter.outputs(handle)
    assert {path.name: path.read_text() for path in folder.iterdir() if path.name != "ran"} == {
        "0": "0",
        "1": "1",
        "both": "0",
    }


async def test_what_a_job_uses_is_kept_beside_what_it_prints(tmp_path: Path) -> None:
    code = "import os\nwhile not os.path.exists('/mnt/output/enough'): sum(range(1000000))"
    async with kubernetesground.stand(tmp_path, usage_seconds=1) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job(code))
            await witness.started(handle)

            async def looked() -> list[dict[str, float]]:
                await asyncio.sleep(0.2)
                told = lines(await pieces(adapter, handle), Stream.USAGE)
                looks = [json.loads(line)["metric"] for line in told if b"cpu_cores" in line]
                # Not the first looks, which may be older than the interpreter.
                return [look for look in looks if look["system/memory_bytes"] > 1 << 20]

            seen = (await eventually(looked))[0]
            await adapter.stop(handle, 0)
            await witness.ended(handle)
    assert set(seen) >= {"system/cpu_cores", "system/memory_bytes"}


async def test_what_is_printed_while_the_api_server_is_away_is_read_when_it_is_back(tmp_path: Path) -> None:
    code = "import time\nfor n in range(60): print(n, flush=True); time.sleep(0.1)\n"
    async with (
        relays.relay(kubernetesground.kubeconfig(), tmp_path) as relay,
        kubernetesground.stand(tmp_path, config=relay.config) as ground,
    ):
        adapter = await ground.open()
        with pytest.raises(base.BackendUnavailable):
            async with Witness(adapter) as witness:
                handle = await adapter.launch(ground.job(code))
                await witness.sees(base.HasOutput, handle)
                first = await adapter.read(handle, 0, 0)
                await relay.cut()
                await witness.ended(handle)
        with pytest.raises(base.BackendUnavailable):
            await adapter.capacity()
        await asyncio.sleep(2)
        await relay.mend()
        async with Witness(adapter, handle) as witness:
            assert (await witness.ended(handle)).reason is EndReason.COMPLETED
        assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"%d" % n for n in range(60)]
        again = await adapter.read(handle, 0, 0)
        assert again.pieces[: len(first.pieces)] == first.pieces


async def test_the_rights_that_are_documented_are_enough(ground: KubernetesGround, tmp_path: Path) -> None:
    config = await roles.granted(ground.cluster, kubernetesground.kubeconfig(), tmp_path)
    options = KubernetesOptions("tests", kubeconfig=config, namespace=ground.cluster.namespace, service=True)
    adapter = Kubernetes(tmp_path / "restricted", options)
    ground.opened.append(adapter)
    await adapter.open()
    assert await adapter.capacity() is None, "nodes are the cluster's"
    code = "import os; print(os.environ['RUNGRAPH_HOSTS'])"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, workers=2))
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED
    hosts = ",".join(f"worker-{n}.{handle['name']}.{ground.cluster.namespace}.svc" for n in range(2))
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [hosts.encode()]
    await adapter.remove(handle)
    await kubernetesground.nothing_is_left(ground)
    assert await adapter.held() == []
