"""What a real cluster lacks, or has no room for: quotas, service accounts, Secrets; what waits, and what never runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends import base
from backends.base import EndReason, Stream
from backends.kubernetes import pods
from backends.kubernetes.cluster import Refused
from tests.backends import kubernetesground
from tests.backends.grounds import FOREVER, Witness, eventually, lines, pieces
from tests.backends.kubernetesground import KubernetesGround, nothing_is_left

pytestmark = pytest.mark.kubernetes


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[KubernetesGround]:
    async with kubernetesground.stand(tmp_path, grace_seconds=8) as ground:
        yield ground


@pytest.fixture
async def adapter(ground: KubernetesGround) -> base.Backend:
    return await ground.open()


async def allow(ground: KubernetesGround, some: int) -> None:
    """Let the namespace have so many pods, from now on."""
    path = ground.cluster.path("resourcequotas")
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(some)}}}
    try:
        await ground.cluster.json("POST", path, body=quota)
    except Refused:
        await ground.cluster.patch(f"{path}/few", quota)

    async def is_enforced() -> bool:
        found = await ground.cluster.json("GET", f"{path}/few")
        return bool((found.get("status") or {}).get("hard", {}).get("pods") == str(some))

    await eventually(is_enforced)


async def completes_when_there_is_room(adapter: base.Backend, job: base.JobSpec) -> None:
    """Launch a job as often as it is refused for now, and see it end well."""

    async def is_launched() -> base.Handle | None:
        with contextlib.suppress(base.Crowded):
            return await adapter.launch(job)
        return None

    async with Witness(adapter) as witness:
        handle = await eventually(is_launched)
        assert handle is not None
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED


async def test_a_gang_that_a_quota_refuses_holds_nothing_and_begins_when_there_is_room(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    gang = ground.job("print('here')", workers=2)
    other = await adapter.launch(ground.job(FOREVER))
    await allow(ground, 2)
    with pytest.raises(base.Crowded, match="exceeded quota: few"):
        await adapter.launch(gang)
    await eventually(lambda: _are_of(ground, other["name"]))
    await adapter.capacity()  # it answers
    await adapter.remove(other)

    await completes_when_there_is_room(adapter, gang)


async def _are_of(ground: KubernetesGround, name: str) -> bool:
    await asyncio.sleep(0.1)
    return {each["metadata"]["labels"][pods.LABEL_NAME] for each in await ground.pods()} == {name}


async def test_what_a_quota_never_has_room_for_is_rejected_and_leaves_nothing(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    await allow(ground, 1)
    with pytest.raises(base.LaunchRejected, match=r"1 of pods for each of 2 workers.* has 1 in all"):
        await adapter.launch(ground.job("pass", workers=2))
    await nothing_is_left(ground)


async def test_a_job_that_a_quota_refuses_can_be_withdrawn(
    ground: KubernetesGround, adapter: base.Backend
) -> None:
    other = await adapter.launch(ground.job(FOREVER))
    await allow(ground, 1)
    job = ground.job("pass")
    with pytest.raises(base.Crowded, match="exceeded quota: few"):
        await adapter.launch(job)
    (handle,) = [each for each in await adapter.held() if each["name"] == job.name]
    await adapter.remove(handle)
    await adapter.remove(other)
    await nothing_is_left(ground)


async def test_a_service_account_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with kubernetesground.stand(tmp_path, pod={"spec": {"serviceAccountName": "late"}}) as ground:
        adapter, job = await ground.open(), ground.job("print('here')")
        with pytest.raises(base.Crowded, match='serviceaccount "late" not found'):
            await adapter.launch(job)
        await ground.cluster.json(
            "POST", ground.cluster.path("serviceaccounts"), body={"metadata": {"name": "late"}}
        )
        await completes_when_there_is_room(adapter, job)


async def complain(ground: KubernetesGround, words: str) -> None:
    """Say of the one pod what its node does: kubelets send five events a second, and may be minutes behind."""
    (pod,) = (await ground.cluster.json("GET", ground.cluster.path("pods")))["items"]
    of = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "metadata": {"generateName": "complaint-"},
        "type": "Warning",
        "reason": "FailedMount",
        "message": words,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", **of},
        "firstTimestamp": now,
        "lastTimestamp": now,
    }
    await ground.cluster.json("POST", ground.cluster.path("events"), body=event)


async def test_a_secret_that_a_volume_lacks_is_what_its_job_waits_for(tmp_path: Path) -> None:
    volume = {"name": "keys", "secret": {"secretName": "nowhere"}}
    main = {"name": "main", "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}
    template = {"spec": {"volumes": [volume], "containers": [main]}}
    async with kubernetesground.stand(tmp_path, pod=template) as ground:
        adapter = await ground.open()
        async with Witness(adapter) as witness:
            handle = await adapter.launch(ground.job("print(open('/keys/key').read())"))
            await complain(ground, 'MountVolume.SetUp failed for volume "keys" : secret "nowhere" not found')
            waiting = await witness.sees(base.Waiting, handle)
            assert 'secret "nowhere" not found' in (waiting.words or "")
            made = {"metadata": {"name": "nowhere"}, "stringData": {"key": "here"}}
            await ground.cluster.json("POST", ground.cluster.path("secrets"), body=made)
            assert (await witness.ended(handle)).reason is EndReason.COMPLETED
        assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"here"]
