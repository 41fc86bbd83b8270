"""Why a run is not running, from preparation to room on its backend."""

from db import waiting
from db.database import Database
from db.states import EndReason
from db.waiting import Code, Why
from tests.db.world import World, function


async def _why(world: World, run_id: bytes) -> Why | None:
    async with world.database.read() as session:
        return (await waiting.explain(session, [run_id])).get(run_id)


async def test_a_ready_job_says_what_it_waits_for(database: Database) -> None:
    world = await World.make(database, function(retries=1), slots=1)
    first, second = await world.start({"a": ()}), await world.start({"b": ()})
    why = await _why(world, first)
    assert why is not None and why.code is Code.SUPERVISOR
    launch = (await world.claim())["a"]
    assert await _why(world, first) is None
    why = await _why(world, second)
    assert why == Why(Code.CAPACITY, "b waits for room on local, where 1 jobs run")
    await world.end(launch, EndReason.EXIT_CODE)
    why = await _why(world, first)
    assert why is not None and why.code is Code.RETRY and why.message.startswith("a is tried again at")


async def test_a_run_that_has_ended_waits_for_nothing(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.drive()
    assert await _why(world, run_id) is None
