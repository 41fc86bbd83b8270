"""Lists of runs: every filter in every order, page by page, against a model that looks at each run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from db import errors, filters, listing, sorting
from db.database import Database
from db.filters import Condition
from db.paging import Page
from db.runs import Run
from db.sorting import Key, Sort
from db.viewers import Kind, Viewer
from tests.db.crowd import SORTS, Crowd, documents, parsed
from tests.db.world import World, few

CROWDS: dict[int, Crowd] = {}


async def crowd_in(database: Database) -> Crowd:
    """The crowd of this test: its examples share it."""
    found = CROWDS.get(id(database))
    async with database.read() as session:
        fresh = await session.scalar(Run.__table__.select().limit(1)) is None
    if found is None or fresh:
        found = CROWDS[id(database)] = await Crowd.make(database)
    return found


async def walk(
    world: World,
    where: tuple[Condition, ...],
    sort: Sort,
    size: int,
    *,
    backward: bool = False,
    between: Any = None,
) -> list[bytes]:
    """The ids of every page, in the order of the list."""
    walked: list[bytes] = []
    at: Key | None = None
    more = True
    while more:
        page = Page(size, **{"before" if backward else "after": at}, backward=backward)
        async with world.database.scan(seconds=20) as session:
            part = await listing.list_runs(session, world.viewer, page, where=where, sort=sort)
        found = [run.id for run in part.rows]
        walked = [*found, *walked] if backward else [*walked, *found]
        more = part.has_previous if backward else part.has_next
        keys = part.keys if part.keys is not None else found
        place = part.resume if part.resume is not None else (keys[0 if backward else -1] if keys else None)
        at = sort.key(place.hex() if isinstance(place, bytes) else place) if place is not None else None
        assert at is not None or not more
        if between is not None:
            await between()
    return walked


@few
@given(data=st.data())
async def test_a_walk_in_any_order_meets_every_run_that_matches_once(
    database: Database, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = await crowd_in(database)
    monkeypatch.setattr(listing, "FEW", data.draw(st.sampled_from([0, 3, 100])))
    monkeypatch.setattr(listing, "EXAMINED", data.draw(st.sampled_from([2, 9, 1000])))
    monkeypatch.setattr(listing, "LEAST_EXAMINED", 1)
    size, backward = data.draw(st.sampled_from([2, 7, 50])), data.draw(st.booleans())
    sort = data.draw(st.sampled_from(SORTS))
    for document in data.draw(st.lists(st.sampled_from(documents(crowd)), min_size=2, max_size=2)):
        where = parsed(document)
        walked = await walk(crowd.world, where, sort, size, backward=backward)
        assert walked == crowd.expected(where, sort), (document, sort)


@pytest.mark.parametrize("few_are", [0, 100])
@pytest.mark.repeats
async def test_every_filter_and_every_order_agree_with_the_model(
    database: Database, few_are: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = await crowd_in(database)
    monkeypatch.setattr(listing, "FEW", few_are)
    for document in documents(crowd):
        assert await walk(crowd.world, parsed(document), Sort(), 100) == crowd.expected(
            parsed(document), Sort()
        )
    for sort in SORTS:
        where = parsed({"archived": None})
        assert await walk(crowd.world, where, sort, 5) == crowd.expected(where, sort), sort


async def test_what_changes_beside_a_walk_neither_repeats_nor_hides_a_run(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    started = [await world.start(pipeline_id, priority=number % 2) for number in range(5)]
    others = [
        await world.start(pipeline_id, priority=number % 2, tags=[("other", "")]) for number in range(4)
    ]

    async def change() -> None:
        await world.start(pipeline_id, priority=1, tags=[("other", "")])
        async with database.begin() as session:
            if others:
                await session.execute(
                    update(Run).where(Run.id == others.pop()).values(priority=7, name="moved")
                )

    where = parsed({})
    for sort in (Sort(), Sort("PRIORITY"), Sort("NAME", descending=False)):
        walked = await walk(world, where, sort, 2, between=change)
        assert sorted(run_id for run_id in walked if run_id in started) == started
        assert len(walked) >= len(set(walked)) >= len(started)


async def test_a_job_sees_its_run_and_a_user_the_runs_of_their_projects(database: Database) -> None:
    crowd = await crowd_in(database)
    own, other = crowd.runs[0], next(one for one in crowd.runs if one.project != crowd.runs[0].project)
    where = parsed({"archived": None})
    theirs = {one.id for one in crowd.runs if one.project == other.project}
    for viewer, seen in (
        (Viewer(Kind.JOB, run_id=own.id), {own.id}),
        (Viewer(Kind.USER, projects=frozenset({other.project})), theirs),
        (Viewer(Kind.USER), set()),
    ):
        for sort in (Sort(), Sort("METRIC", name="loss"), Sort("NAME")):
            async with database.scan() as session:
                page = await listing.list_runs(session, viewer, Page(100), where=where, sort=sort)
            assert {run.id for run in page.rows} == seen


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"colour": "red"}, ("filter", "colour")),
        ({"metrics": [{"name": "loss"}]}, ("filter", "metrics", "0")),
        ({"search": "  "}, ("filter", "search")),
        ({"createdAt": {"since": "yesterday"}}, ("filter", "createdAt", "since")),
        ({"createdAt": {"since": "2026-01-01T00:00:00"}}, ("filter", "createdAt", "since")),
        ({"arguments": [{"name": "a", "eq": [1]}]}, ("filter", "arguments", "0", "eq")),
        ({"tags": [{"name": "a\0"}]}, ("filter", "tags", "0")),
        (
            {"not": {"not": {"not": {"not": {"not": {"name": "a"}}}}}},
            ("filter", "not", "not", "not", "not", "not"),
        ),
        ({"or": [{"name": "a"}] * 51}, ("filter",)),
        ({"or": [{}] * 51}, ("filter",)),
        ({"and": [{"or": [{"or": []}] * 26}] * 2}, ("filter",)),
        ({"createdAt": {"since": "0001-01-01T00:00:00+14:00"}}, ("filter", "createdAt", "since")),
        ({"createdAt": {"before": "9999-12-31T23:59:59-14:00"}}, ("filter", "createdAt", "before")),
    ],
)
def test_a_filter_that_cannot_be_is_refused_where_it_is_wrong(
    document: dict[str, Any], path: tuple[str, ...]
) -> None:
    with pytest.raises(errors.Invalid) as refused:
        filters.parse(document)
    assert path in [problem.path for problem in refused.value.problems]


@pytest.mark.parametrize("sort", SORTS, ids=lambda sort: f"{sort.by}-{sort.descending}")
def test_a_cursor_of_another_order_is_none_of_this_one(sort: Sort) -> None:
    place = sort.place(Key(0, None, b"x" * 16))
    assert [other for other in SORTS if other != sort and other.key(place) and other.by != "CREATED"] == []
    for wrong in (
        None,
        5,
        [],
        [1, 2, 3, 4],
        "x",
        {"a": 1},
        [*place[:3], "zz"] if isinstance(place, list) else "",
    ):
        assert sort.key(wrong) is None


def test_a_cursor_holds_no_number_that_its_column_cannot_have() -> None:
    for by, most in (("PRIORITY", 2**31 - 1), ("STARTED", 2**63 - 1)):
        sort = Sort(by)
        for value, fits in ((most, True), (-most - 1, True), (most + 1, False), (-most - 2, False)):
            key = Key(0, value, b"x" * 16)
            assert sort.key(sort.place(key)) == (key if fits else None)


def test_a_sort_says_what_it_lacks() -> None:
    for document in (
        {"by": "METRIC"},
        {"by": "NAME", "name": "a"},
        {"by": "TASTE"},
        {"by": "TAG", "name": "\0"},
    ):
        with pytest.raises(errors.Invalid):
            sorting.parse(document)


async def test_what_takes_too_long_is_cut_off(database: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(errors.LimitExceeded, match="narrow it"):
        async with database.scan(seconds=0.05) as session:
            await session.execute(text(endless))
    async with database.scan(seconds=5) as session:
        assert await session.scalar(text("SELECT 1")) == 1
