"""What a backend of containers holds of nobody's is removed; what somebody minds stays."""

from pathlib import Path

from sqlalchemy import update

from backends import orphans
from backends.fake import Fake, FakeOptions
from db import attempts, backends
from db.attempts import Attempt
from db.backends import Scope
from db.database import Database
from db.states import EndReason
from tests.backends.grounds import Ground
from tests.db.world import GIB, World


async def test_only_attempts_that_the_database_knows_to_remain_are_kept(
    database: Database, tmp_path: Path
) -> None:
    world = await World.make(database)
    adapter = Fake(tmp_path / "cluster", FakeOptions())
    await adapter.open()
    ground = Ground(lambda: adapter, tmp_path)
    for _ in range(3):
        await world.start({"step": ()})
    launches = list((await world.claim_all()).values())
    for launch in launches:
        await world.begin(launch)
        await adapter.launch(ground.command("fake", "hang", name=launch.name))
    await adapter.launch(ground.command("fake", "hang", name="nobodys"))
    ended, removed, alive = launches
    for launch in (ended, removed):
        await world.end(launch, EndReason.COMPLETED)
    async with database.begin() as session:
        await attempts.mark_removed(session, world.supervisor, [removed.attempt_id])
    for _ in range(2):
        await orphans.remove(database, adapter)
        assert {handle["name"] for handle in await adapter.held()} == {ended.name, alive.name}
    await adapter.close()


async def test_what_another_backend_of_the_same_engine_runs_is_kept(
    database: Database, tmp_path: Path
) -> None:
    world = await World.make(database)
    adapter = Fake(tmp_path / "cluster", FakeOptions())
    await adapter.open()
    ground = Ground(lambda: adapter, tmp_path)
    await world.start({"step": ()})
    (launch,) = (await world.claim()).values()
    async with database.begin() as session:
        capacity = {"slots": 1, "cpus": 1.0, "memory_bytes": GIB, "gpus": 0}
        values = {"name": "other", "kind": "fake", "scope": Scope.CLUSTER, "config": {}, **capacity}
        other = await backends.declare(session, values)
        await session.execute(update(Attempt).values(backend_id=other))
    await adapter.launch(ground.command("fake", "hang", name=launch.name))
    await orphans.remove(database, adapter)
    assert [handle["name"] for handle in await adapter.held()] == [launch.name]
    await adapter.close()
