"""The fake backend's own: what its scripts can do that no process does, and a cluster that may be away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from backends import base, registry
from backends.base import Ended, EndReason, Missing, Stream, Waiting, WorkerStarted
from backends.fake import Fake, FakeOptions
from backends.fake_cluster import Cluster
from tests.backends import fakeground
from tests.backends.grounds import Ground, Witness, lines, pieces


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with fakeground.stand(tmp_path) as ground:
        yield ground


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """The cluster of the ground."""
    return Cluster(tmp_path / "cluster")


async def end_of(adapter: base.Backend, job: base.JobSpec) -> Ended:
    async with Witness(adapter) as witness:
        return await witness.ended(await adapter.launch(job))


@pytest.mark.parametrize(
    ("step", "reason", "code"),
    [
        ("oom", EndReason.OUT_OF_MEMORY, -9),
        ("preempt", EndReason.PREEMPTED, None),
        ("lost", EndReason.LOST, None),
        ("exit 3", EndReason.EXIT_CODE, 3),
        ("image nowhere/none", EndReason.IMAGE_UNAVAILABLE, None),
    ],
)
async def test_a_script_ends_as_it_says(
    ground: Ground, step: str, reason: EndReason, code: int | None
) -> None:
    ended = await end_of(await ground.open(), ground.script(step))
    assert (ended.reason, ended.exit_code) == (reason, code)


async def test_what_starts_late_can_be_stopped_before(ground: Ground) -> None:
    adapter = await ground.open()
    async with Witness(adapter) as witness:
        late = await adapter.launch(ground.script("late 0.2", "print here"))
        never = await adapter.launch(ground.script("unschedulable the nodes are full"))
        assert (await witness.sees(Waiting, never)).words == "the nodes are full"
        started = await witness.started(late)
        assert (await witness.ended(late)).at_us >= started.at_us
        await adapter.stop(never, 10)
        ended = await witness.ended(never)
    assert (ended.reason, ended.exit_codes) == (EndReason.EXIT_CODE, {})
    assert not witness.of(WorkerStarted, never["name"])


@pytest.mark.parametrize(
    "steps",
    [
        ["frobnicate"],
        ["wait soon"],
        ["every 1 print x"],
        ["copy a b"],
        ["file ../x y"],
        ["refuse it is full"],
    ],
    ids=str,
)
async def test_a_script_that_means_nothing_is_rejected_with_its_step(
    ground: Ground, steps: list[str], cluster: Cluster
) -> None:
    adapter = await ground.open()
    with pytest.raises(base.LaunchRejected) as raised:
        await adapter.launch(ground.script(*steps))
    assert any(word in raised.value.reason for word in steps[0].split()[-2:])
    assert cluster.launched() == []


async def test_a_job_is_taken_away_by_whoever_may(ground: Ground, cluster: Cluster) -> None:
    adapter = await ground.open()
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("every 0.01 1000 print {n}"))
        await witness.sees(base.HasOutput, handle)
        cluster.strike(handle["name"], EndReason.PREEMPTED, "the node was drained")
        ended = await witness.ended(handle)
        before = await pieces(adapter, handle)
    assert (ended.reason, ended.message) == (EndReason.PREEMPTED, "the node was drained")
    assert await pieces(await ground.open(), handle) == before


async def test_while_it_is_away_nothing_is_known_and_its_jobs_go_on(ground: Ground, cluster: Cluster) -> None:
    adapter = await ground.open()
    handle = await adapter.launch(ground.script("wait 0.2", "print went on"))
    cluster.leave(60)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: adapter.launch(ground.script()),
        lambda: adapter.read(handle, 0, 0),
        lambda: adapter.stop(handle, 0),
        lambda: adapter.remove(handle),
        lambda: adapter.outputs(handle),
        lambda: anext(adapter.watch([handle])),
        lambda: Fake(cluster.folder).open(),
    ]
    for call in calls:
        with pytest.raises(base.BackendUnavailable):
            await call()
    cluster.leave(0)
    async with Witness(adapter, handle) as witness:
        assert (await witness.ended(handle)).reason is EndReason.COMPLETED
    assert lines(await pieces(adapter, handle), Stream.STDOUT) == [b"went on"]
    assert cluster.launched() == [handle["name"]]


async def test_a_watch_is_ended_by_the_cluster_going_away(ground: Ground, cluster: Cluster) -> None:
    adapter = await ground.open()
    handle = await adapter.launch(ground.script("hang"))
    watch = adapter.watch([])
    assert isinstance(await anext(watch), WorkerStarted)
    cluster.leave(60)
    async with asyncio.timeout(10):
        with pytest.raises(base.BackendUnavailable):
            await anext(watch)
    cluster.leave(0)
    assert isinstance(await anext(adapter.watch([handle])), WorkerStarted)


async def test_of_any_other_command_it_is_said_that_it_would_run(ground: Ground, tmp_path: Path) -> None:
    adapter = registry.construct("fake", tmp_path, {"cluster": str(tmp_path / "dry")})
    await adapter.open()
    job = ground.command("python", "train.py")
    assert (await end_of(adapter, job)).reason is EndReason.COMPLETED
    assert lines(await pieces(adapter, {"name": job.name}), Stream.STDOUT) == [b"would run: python train.py"]
    await adapter.close()


async def test_a_script_may_come_as_an_option(ground: Ground) -> None:
    adapter = await ground.open()
    document = b'{"options": {"script": "print one; print {\\"metric\\": {\\"a\\": 1}}\\nexit 2"}}'
    job = ground.command("fake", input_document=document)
    assert (await end_of(adapter, job)).exit_code == 2
    printed = lines(await pieces(adapter, {"name": job.name}), Stream.STDOUT)
    assert printed == [b"one", b'{"metric": {"a": 1}}']


async def test_a_fast_cluster_takes_a_fraction_of_the_time(ground: Ground, tmp_path: Path) -> None:
    adapter = Fake(tmp_path / "fast", FakeOptions(speed=1000))
    await adapter.open()
    async with asyncio.timeout(30):
        assert (await end_of(adapter, ground.script("wait 300", "exit 1"))).exit_code == 1
    await adapter.close()


async def test_what_is_removed_is_missing_to_every_server(ground: Ground, cluster: Cluster) -> None:
    one, two = await ground.open(), await ground.open()
    handle = await one.launch(ground.script("hang"))
    async with Witness(two, handle) as witness:
        await witness.started(handle)
        await one.remove(handle)
        assert await witness.sees(Missing, handle) == Missing(handle["name"])
    assert cluster.held() == []


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"cluster": "relative"}, "cluster"),
        ({"speed": 0}, "speed"),
        ({"dry_seconds": "long"}, "dry_seconds"),
        ({"rejects": 1}, "rejects"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_meant_is_named(tmp_path: Path, options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(base.BadOptions) as raised:
        registry.construct("fake", tmp_path, options)
    assert raised.value.option == wrong
