"""Claims: what is launched next, within capacity, by priority and fairly between projects."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert, select

from db import admission, attempts, claims, ids, jobs, leases
from db.database import Database
from db.manifests import Resources
from db.states import EndReason, JobState, RunState
from db.steps import StepSpec
from tests.db.interleaving import until_somebody_waits
from tests.db.world import GIB, HOST, World, function

WIDE = [f"s{i}" for i in range(6)]


def _wide(count: int = 6, address: str = "ml/step") -> dict[str, StepSpec]:
    """Steps that need nothing."""
    return {name: StepSpec(name, address, {}, ()) for name in WIDE[:count]}


def _asking(name: str = "step", workers: int = 1, **resources: Any) -> Any:
    return function(name, workers=workers, resources=Resources(**resources))


async def test_a_claim_starts_jobs_and_describes_their_launch(database: Database) -> None:
    world = await World.make(database, function(workers=2, timeout_seconds=60.0))
    given = [await world.upload("b.txt", "b"), await world.upload("a.txt", "a")]
    run_id = await world.start({"a": (), "b": ("a",)}, files=given)
    (launch,) = (await world.claim()).values()
    assert [file.name for file in launch.inputs] == ["b.txt", "a.txt"]
    assert (launch.number, launch.workers, launch.timeout_seconds) == (1, 2, 60.0)
    assert (launch.function.name, launch.prepared) == ("step", "/environments/ml")
    assert await world.states(run_id) == {"a": JobState.STARTING, "b": JobState.WAITING}
    run = await world.run(run_id)
    assert run.state is RunState.RUNNING and run.started_at is not None
    async with database.read() as session:
        workers = await attempts.workers_of(session, [launch.attempt_id])
    assert [worker.rank for worker in workers] == [0, 1]


async def test_what_is_claimed_is_not_claimed_again(database: Database) -> None:
    world = await World.make(database)
    await world.start(_wide(3))
    assert len(await world.claim(most=2)) == 2
    assert len(await world.claim()) == 1
    assert await world.claim() == {}


async def test_a_job_waits_for_the_preparation_of_its_version_on_the_host(database: Database) -> None:
    world = await World.make(database)
    await world.start(_wide(1))
    async with database.begin() as session:
        elsewhere = await claims.claim(session, world.supervisor, world.backend.id, "there")
    assert elsewhere == []
    assert len(await world.claim()) == 1


@pytest.mark.parametrize(
    ("asked", "capacity", "fit"),
    [
        ({}, {"slots": 2}, 2),
        ({"workers": 2}, {"slots": 5}, 2),
        ({"cpus": 1.5}, {"cpus": 4.0}, 2),
        ({"memory_bytes": 3 * GIB}, {"memory_bytes": 9 * GIB}, 3),
        ({"gpus": 2, "workers": 2}, {"gpus": 9}, 2),
    ],
)
async def test_a_backend_holds_no_more_than_its_capacity(
    database: Database, asked: dict[str, Any], capacity: dict[str, Any], fit: int
) -> None:
    world = await World.make(database, _asking(**asked), **capacity)
    await world.start(_wide())
    first = await world.claim()
    assert len(first) == fit
    assert await world.claim() == {}
    await world.end(next(iter(first.values())))
    assert len(await world.claim()) == 1


async def test_a_job_that_is_being_cancelled_holds_its_place_until_it_ends(database: Database) -> None:
    world = await World.make(database, slots=1)
    first = await world.start(_wide(1))
    (launch,) = (await world.claim()).values()
    await world.start(_wide(1))
    await world.cancel(first)
    assert await world.claim() == {}
    await world.end(launch, EndReason.CANCELLED)
    assert len(await world.claim()) == 1


async def test_a_higher_priority_goes_first_then_age(database: Database) -> None:
    world = await World.make(database, slots=1)
    runs = [await world.start(_wide(1), priority=priority) for priority in (0, 5, -5, 5)]
    order: list[bytes] = []
    while claimed := await world.claim_all():
        ((run_id, _), launch) = next(iter(claimed.items()))
        order.append(run_id)
        await world.end(launch)
    assert order == [runs[1], runs[3], runs[0], runs[2]]


async def test_projects_take_turns_whoever_came_first(database: Database) -> None:
    world = await World.make(database, slots=5)
    other = await world.add_project("other")
    many = await world.start(_wide(6))
    few = await world.start(await world.draw(_wide(2), project_id=other))
    claimed = [run_id for run_id, _ in await world.claim_all(most=4)]
    assert claimed == [many, few, many, few]
    assert [run_id for run_id, _ in await world.claim_all()] == [many]


async def test_what_does_not_fit_is_passed_for_a_while_and_then_keeps_its_place(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_PASSES", 2)
    world = await World.make(database, _asking("small", cpus=1.0), _asking("big", cpus=4.0), cpus=4.0)
    small, big = StepSpec("s", "ml/small", {}, ()), StepSpec("b", "ml/big", {}, ())
    await world.start({"s": small})
    await world.start({"b": big})
    launched = list((await world.claim()).values())
    for _ in range(3):
        await world.start({"s": small})
        launched += (await world.claim()).values()
    assert len(launched) == 3  # one before it, two that passed it
    for launch in launched:
        assert await world.claim() == {}
        await world.end(launch)
    assert list(await world.claim()) == ["b"]


async def test_what_a_held_place_does_not_need_stays_usable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_PASSES", 0)
    functions = (_asking("gpu", gpus=1), _asking("big", gpus=2), _asking("small"))
    world = await World.make(database, *functions, gpus=2)
    await world.start({"g": StepSpec("g", "ml/gpu", {}, ())})
    await world.start({"b": StepSpec("b", "ml/big", {}, ())})
    await world.start(
        {
            f"{kind}{i}": StepSpec(f"{kind}{i}", f"ml/{kind}", {}, ())
            for kind in ("gpu", "small")
            for i in range(2)
        }
    )
    claimed = await world.claim()
    assert set(claimed) == {"g", "small0", "small1"} | {"gpu0"}  # nobody held a place yet
    await world.end(claimed["g"])
    assert await world.claim() == {}
    await world.end(claimed["gpu0"])
    assert list(await world.claim()) == ["b"]


async def test_many_of_one_kind_hide_nobody_and_cost_nothing(database: Database) -> None:
    world = await World.make(database, _asking("step"), _asking("other", cpus=0.5), slots=3)
    other = await world.add_project("other")
    many = await world.start(_wide(1))
    await _multiply(world, many, 1000)
    few = await world.start(await world.draw(_wide(1), project_id=other))
    await world.start({"o": StepSpec("o", "ml/other", {}, ())}, priority=1)
    claimed = list(await world.claim_all())
    assert [step for _, step in claimed] == ["o", "s0", "s0"]
    assert {run_id for run_id, _ in claimed[1:]} == {many, few}


async def test_all_too_large_ones_of_a_kind_are_rejected(database: Database) -> None:
    world = await World.make(database, _asking("step", gpus=3))
    run_id = await world.start(_wide(3))
    assert await world.claim() == {}
    assert set((await world.states(run_id)).values()) == {JobState.FAILED}


async def test_every_gpu_is_given_to_one_worker_at_a_time(database: Database) -> None:
    world = await World.make(database, _asking(gpus=1, workers=2), gpus=5)
    await world.start(_wide(3))
    first = await world.claim()
    assert [launch.devices for launch in first.values()] == [((0,), (1,)), ((2,), (3,))]
    await world.end(first["s0"])
    (next_one,) = (await world.claim()).values()
    assert next_one.devices == ((0,), (1,))
    async with database.read() as session:
        workers = await attempts.workers_of(session, [next_one.attempt_id])
    assert [worker.devices for worker in workers] == [[0], [1]]


async def test_a_job_larger_than_the_backend_is_rejected_in_words(database: Database) -> None:
    world = await World.make(database, _asking("step"), _asking("huge", gpus=3, workers=2), gpus=4)
    run_id = await world.start(
        {"a": StepSpec("a", "ml/huge", {}, ()), "b": StepSpec("b", "ml/step", {}, ("a",))}
    )
    assert await world.claim() == {}
    jobs = await world.jobs(run_id)
    assert (jobs["a"].state, jobs["a"].reason) == (JobState.FAILED, EndReason.LAUNCH_REJECTED)
    assert jobs["a"].message == "asks for 6 GPUs, backend local has 4"
    assert jobs["b"].state is JobState.SKIPPED
    assert (await world.run(run_id)).state is RunState.FAILED


async def test_a_rejected_job_stops_its_fail_fast_run_in_the_same_claim(database: Database) -> None:
    world = await World.make(database, _asking("step"), _asking("huge", gpus=3))
    steps = {"a": StepSpec("a", "ml/huge", {}, ()), "b": StepSpec("b", "ml/step", {}, ())}
    run_id = await world.start(steps, fail_fast=True)
    assert await world.claim() == {}
    assert await world.states(run_id) == {"a": JobState.FAILED, "b": JobState.SKIPPED}


async def test_two_claimers_of_the_last_slot_launch_one_job(postgresql: Database) -> None:
    world = await World.make(postgresql, slots=1)
    await world.start(_wide(2))
    async with postgresql.begin() as first:
        claimed = await claims.claim(first, world.supervisor, world.backend.id, HOST)
        second = asyncio.create_task(world.claim())
        await until_somebody_waits(postgresql)
    assert (len(claimed), await second) == (1, {})


async def test_many_claimers_at_once_launch_each_job_once(database: Database) -> None:
    world = await World.make(database, slots=4)
    await world.start(_wide())
    claimed = await asyncio.gather(*(world.claim(most=2) for _ in range(5)))
    steps = Counter(step for part in claimed for step in part)
    assert len(steps) == 4 and set(steps.values()) == {1}


async def test_an_attempt_belongs_to_whoever_took_the_lease_last(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start(_wide(1))
    (launch,) = (await world.claim()).values()
    async with database.begin() as session:
        successor = await leases.take(session, HOST, HOST)
        assert successor is not None
        adopted = await attempts.adopt(session, world.backend.id, HOST, successor.id, successor.epoch)
    assert [attempt.id for attempt in adopted] == [launch.attempt_id]
    assert successor.epoch == world.supervisor.epoch + 1
    async with database.begin() as session:
        assert not await leases.renew(session, world.supervisor)
        assert await leases.renew(session, successor)
    assert not await world.end(launch)
    assert await world.end(launch, supervisor=successor)
    assert (await world.run(run_id)).state is RunState.SUCCEEDED


async def _multiply(world: World, run_id: bytes, count: int) -> None:
    """Many more jobs like the first of a run."""
    table: Any = jobs.Job.__table__
    async with world.database.begin() as session:
        row = (await session.execute(select(table).where(table.c.run_id == run_id))).mappings().one()
        copies = [
            {**row, "id": ids.new(), "position": number, "step": f"c{number}"} for number in range(1, count)
        ]
        await session.execute(insert(table), copies)
