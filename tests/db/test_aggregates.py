"""Counting runs: exact while they are few, then at least so many."""

from datetime import timedelta

import pytest

from db import aggregates, errors, listing
from db.database import Database
from tests.db.crowd import Crowd, holds, parsed


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.repeats
async def test_counts_agree_with_the_model(
    database: Database, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    crowd = await Crowd.make(database)
    for document in ({}, {"hasTags": ["kind"]}, {"archived": None, "states": ["FAILED", "RUNNING"]}):
        where = parsed(document)
        matching = [one for one in crowd.runs if all(holds(part, one) for part in where)]
        async with database.scan() as session:
            total = await aggregates.count(session, crowd.world.viewer, where)
            kinds = {
                by: await aggregates.groups(session, crowd.world.viewer, where, by)
                for by in ("STATE", "DAY", "PIPELINE")
            }
        assert total == aggregates.Count(len(matching), False)
        for by, groups in kinds.items():
            assert sum(group.count for group in groups) == len(matching), by
            assert not any(group.capped for group in groups)
        for group in kinds["STATE"]:
            assert group.count == sum(one.state is group.key for one in matching)
        for group in kinds["PIPELINE"]:
            assert group.count == sum(one.pipeline == group.key for one in matching)


async def test_what_is_many_is_counted_to_the_limit_and_said_to_be_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW", 0)
    monkeypatch.setattr(aggregates, "COUNTED", 4)
    crowd = await Crowd.make(database, 8)
    where = parsed({"archived": None, "project": None})
    async with database.scan() as session:
        total = await aggregates.count(session, crowd.world.viewer, where)
        with pytest.raises(errors.Invalid):
            await aggregates.groups(session, crowd.world.viewer, where, "DAY", days=93)
        later = crowd.runs[-1].created_at + timedelta(days=2)
        days = await aggregates.groups(session, crowd.world.viewer, where, "DAY", days=3, now=later)
    assert total.capped and 1 <= total.count <= 4
    assert [day.count > 0 for day in days] == [False, False, True]
