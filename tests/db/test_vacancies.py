"""A start that must not wait: refused with the reason, and nothing of it left."""

from typing import Any

import pytest

from db import health, limits
from db.database import Database
from db.limits import LimitSpec
from db.plans import IfBusy
from db.resources import StepResources
from db.vacancies import Busy
from tests.db.world import World, function


async def _start(world: World, steps: Any = None, **values: Any) -> bytes:
    return await world.start(steps or {"a": ()}, if_busy=IfBusy.REJECT, **values)


async def _refused(world: World, steps: Any = None, **values: Any) -> str:
    with pytest.raises(Busy) as refused:
        await _start(world, steps, **values)
    (problem,) = refused.value.problems
    assert (refused.value.code, refused.value.retryable, problem.path) == ("CONFLICT", True, ("ifBusy",))
    return problem.message


async def test_what_has_room_starts(database: Database) -> None:
    world = await World.make(database, slots=1)
    run_id = await _start(world, {"a": (), "b": (), "c": ("a",)})
    assert [run for run, _ in await world.claim_all()] == [run_id]


async def test_what_would_wait_for_room_is_refused_and_leaves_nothing(database: Database) -> None:
    world = await World.make(database, slots=1)
    await world.start({"a": ()})
    assert "others go first" in await _refused(world)  # the one that waits already
    (launch,) = (await world.claim()).values()
    pipeline = await world.draw({"a": ()})
    assert await _refused(world, pipeline, idempotency_key="k") == (
        "a waits for room on local: asks for 1 workers, 0 free; 1 jobs run there"
    )
    await world.end(launch)
    assert await _start(world, pipeline, idempotency_key="k") in {run for run, _ in await world.claim_all()}


async def test_a_key_gives_the_run_it_started_however_busy_it_is_by_then(database: Database) -> None:
    world = await World.make(database, slots=1)
    pipeline = await world.draw({"a": ()})
    run_id = await _start(world, pipeline, idempotency_key="k")
    await world.claim()
    assert await _start(world, pipeline, idempotency_key="k") == run_id


async def test_what_a_limit_holds_back_is_refused(database: Database) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        await limits.put(session, world.viewer, LimitSpec(project_id=world.project_id, tag_name="t", jobs=1))
    await _start(world, tags=[("t", "x")])
    await world.claim()
    assert "what has the tag t" in await _refused(world, tags=[("t", "x")])
    assert await _start(world, tags=[("t", "y")])
    assert await _start(world)


async def test_behind_many_of_its_kind_it_has_room_only_when_they_have(database: Database) -> None:
    world = await World.make(database, slots=100)
    await world.start({f"s{number}": () for number in range(99)})
    run_id = await _start(world)
    assert "first" in await _refused(world)
    claimed: set[bytes] = set()
    while found := await world.claim_all():
        claimed |= {run for run, _ in found}
    assert run_id in claimed


async def test_without_a_backend_that_answers_or_a_module_that_is_ready_nothing_starts(
    database: Database,
) -> None:
    world = await World.make(database)
    async with database.begin() as session:
        await health.away(session, world.supervisor, world.backend.id, "no route to host")
    assert "no route to host" in await _refused(world)
    async with database.begin() as session:
        await health.answers(session, world.supervisor, world.backend.id, None)
    version_id = await world.request()
    await world.fetch(version_id, function())
    assert await _start(world)


async def test_what_can_never_run_is_not_busy(database: Database) -> None:
    world = await World.make(database, slots=1)
    run_id = await _start(world, resources=[StepResources("a", workers=2)])
    assert await world.claim() == {}
    assert (await world.jobs(run_id))["a"].message == "asks for 2 workers, backend local has 1"
