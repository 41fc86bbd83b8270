"""Lists of runs: every filter and every order, page by page, against a model that looks at each run."""

from typing import Any

from db import filters, listing, sorting
from db.database import Database
from db.paging import Page
from tests.db.world import World


async def found(world: World, document: dict[str, Any] | None = None, **sort: Any) -> list[bytes]:
    """The ids of the first page."""
    async with world.database.scan(seconds=10) as session:
        page = await listing.list_runs(
            session,
            world.viewer,
            Page(50),
            where=filters.parse(document),
            sort=sorting.parse(sort or None),
        )
    return [run.id for run in page.rows]


async def test_runs_are_found_by_state_pipeline_and_every_tag(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    both = await world.start(pipeline_id, tags=[("team", "a"), ("kind", "x")])
    one = await world.start({"a": ()}, tags=[("team", "a"), ("kind", "y")])
    await world.cancel(one)
    from db import ids

    assert await found(world) == [one, both]
    assert await found(world, {"states": ["CANCELLED"]}) == [one]
    assert await found(world, {"pipeline": ids.encode("pipeline", pipeline_id)}) == [both]
    assert await found(world, {"tags": [{"name": "team", "value": "a"}]}) == [one, both]
    tags = [{"name": "team", "value": "a"}, {"name": "kind", "value": "x"}]
    assert await found(world, {"tags": tags}) == [both]
    assert await found(world, {"tags": [{"name": "team", "value": "x"}]}) == []
    for by in sorting.KEYS:
        name = {"METRIC": "loss", "ARGUMENT": "x", "TAG": "kind"}.get(by)
        for direction in ("ASCENDING", "DESCENDING"):
            assert set(await found(world, None, by=by, name=name, direction=direction)) == {one, both}
