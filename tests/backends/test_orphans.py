"""What a backend of containers holds of nobody's is removed; what somebody minds stays."""

from pathlib import Path

from backends import orphans
from backends.fake import Fake, FakeOptions
from db import attempts
from db.database import Database
from db.states import EndReason
from tests.backends.grounds import Ground
from tests.db.world import World


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
        await attempts.mark_removed(session, removed.attempt_id)
    for _ in range(2):
        await orphans.remove(database, adapter, world.backend.id)
        assert {handle["name"] for handle in await adapter.held()} == {ended.name, alive.name}
    await adapter.close()
