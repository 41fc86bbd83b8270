"""Why a run is not running, from preparation to room on its backend."""

from db import health, limits, reports, waiting
from db.claims import Launch
from db.database import Database
from db.limits import LimitSpec
from db.states import EndReason, JobState
from db.waiting import Code, Why
from tests.db.world import World, function


async def _why(world: World, run_id: bytes) -> Why | None:
    async with world.database.read() as session:
        return (await waiting.of_runs(session, [run_id])).get(run_id)


async def test_a_ready_job_says_what_it_waits_for(database: Database) -> None:
    world = await World.make(database, function(retries=1), slots=1)
    first, second = await world.start({"a": ()}), await world.start({"b": ()})
    why = await _why(world, first)
    assert why is not None and why.code is Code.SUPERVISOR
    launch = (await world.claim())["a"]
    assert await _why(world, first) is None
    why = await _why(world, second)
    assert why == Why(
        Code.CAPACITY, "b waits for room on local: asks for 1 workers, 0 free; 1 jobs run there"
    )
    await world.end(launch, EndReason.EXIT_CODE)
    why = await _why(world, first)
    assert why is not None and why.code is Code.RETRY and why.message.startswith("a is tried again at")


async def test_a_run_that_has_ended_waits_for_nothing(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    await world.drive()
    assert await _why(world, run_id) is None


async def _job(world: World, run_id: bytes, step: str = "a") -> Why | None:
    job_id = (await world.jobs(run_id))[step].id
    async with world.database.read() as session:
        return (await waiting.of_jobs(session, [job_id])).get(job_id)


async def _told(world: World, launch: Launch, words: str | None) -> None:
    async with world.database.begin() as session:
        await reports.waiting(session, world.supervisor, launch.attempt_id, launch.feed_id, words)


async def test_a_job_says_which_others_it_needs(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": (), "c": ("a", "b"), "d": ("c",)})
    assert await _job(world, run_id, "c") == Why(Code.NEEDS, "c needs a, b")
    await world.end((await world.claim())["a"])
    assert await _job(world, run_id, "c") == Why(Code.NEEDS, "c needs b")
    assert await _job(world, run_id, "d") == Why(Code.NEEDS, "d needs c")
    assert await _job(world, run_id, "a") is None


async def test_the_words_of_a_backend_say_why_a_job_does_not_start(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    launch = (await world.claim())["a"]
    assert await _job(world, run_id) is None
    for words in ("0/1 nodes are available", "0/1 nodes are available", "pulling\0 image\ud800"):
        await _told(world, launch, words)
    why = Why(Code.SCHEDULER, "a: pulling image?")
    assert (await _job(world, run_id), await _why(world, run_id)) == (why, why)
    said = [event.data.get("message") for event in await world.events(run_id)]
    assert [words for words in said if words] == ["0/1 nodes are available", "pulling image?"]
    await _told(world, launch, None)
    assert await _job(world, run_id) is None
    await _told(world, launch, "again")
    await world.begin(launch)
    assert (await _job(world, run_id), await _why(world, run_id)) == (None, None)
    await _told(world, launch, "too late")
    assert (await world.states(run_id))["a"] is JobState.RUNNING


async def test_jobs_of_a_backend_that_is_away_say_so(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()})
    async with database.begin() as session:
        await health.away(session, world.supervisor, world.backend.id, "no route to host")
    why = await _why(world, run_id)
    assert why is not None and why.code is Code.BACKEND_UNAVAILABLE
    assert why.message.startswith("local is away since ") and why.message.endswith(": no route to host")


async def test_a_job_that_a_limit_holds_back_names_it(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": ()}, tags=[("model", "large")])
    tagged = LimitSpec(project_id=world.project_id, tag_name="model", jobs=0)
    async with database.begin() as session:
        limit_id = await limits.put(session, world.viewer, tagged)
    words = "a waits: what has the tag model (each value) in project default may have 0 jobs at once"
    said = Why(Code.LIMIT, f"{words}; it asks for 1 jobs, 0 free", limit_id)
    assert await _why(world, run_id) == said
    async with database.begin() as session:
        await limits.remove(session, world.viewer, limit_id)
        quota = LimitSpec(project_id=world.project_id, backend_id=world.backend.id, slots=0, gpus=4)
        quota_id = await limits.put(session, world.viewer, quota)
    why = await _job(world, run_id)
    words = (
        "a waits: project default on local may have 0 workers, 4 GPUs at once; it asks for 1 workers, 0 free"
    )
    assert why == Why(Code.QUOTA, words, quota_id)
