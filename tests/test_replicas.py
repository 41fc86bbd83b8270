"""Two servers on one database and one folder of contents, each a process with a home of its own.

Whatever is theirs together is done once: fires of schedules, runs, what the janitor clears away. Jobs stay with
the host that launched them.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db import ids
from db.bus import Bus
from db.database import Database
from db.runs import Run
from rungraph import runs
from rungraph.api import Client
from tests.processes import SECONDS, Server, serving, until
from tests.telling import Telling, assert_complete, telling, watched

pytestmark = pytest.mark.slow

KEYS = ("token", "secret", "secrets.key")
"""What servers of one database have in common."""
FIRES = """query Fires($id: ID!) { schedule(id: $id) {
  fires(first: 100) { nodes { outcome dueAt message run { id } } } } }"""
SCHEDULE = """mutation Schedule($input: CreateScheduleInput!) {
  createSchedule(input: $input) { schedule { id } errors { message path } } }"""
EXTERNAL = """mutation External($input: CreateRunInput!) {
  createRun(input: $input) { run { id } errors { message path } } }"""
STATE = "query State($id: ID!) { run(id: $id) { state } }"
DELETE = """mutation Delete($input: DeleteRunsInput!) {
  deleteRuns(input: $input) { results { id errors { message } } errors { message } } }"""


@dataclass(frozen=True)
class Two:
    """The one that has the module and so runs its jobs, and another; the folder of contents of both."""

    told: Telling
    other: Server
    client: Client
    contents: Path


@asynccontextmanager
async def two(folder: Path, database_url: str) -> AsyncIterator[Two]:
    """Both servers, and a client of each."""
    contents = folder / "contents"
    shared = {"RUNGRAPH_FILES_URL": str(contents)}
    if database_url.startswith("postgresql"):
        shared["RUNGRAPH_BROADCAST_URL"] = database_url
    async with telling(folder, database_url, **shared) as told:
        home = folder / "other"
        copy_keys(told.server.home, home)
        async with serving(home, database_url, **shared) as other, other.client() as client:
            yield Two(told, other, client, contents)


def copy_keys(source: Path, target: Path) -> None:
    """Make a home of another server of the same database."""
    target.mkdir(mode=0o700)
    for name in KEYS:
        shutil.copy(source / name, target / name)


async def every_second(client: Client, pipeline: str) -> str:
    """A schedule that starts this pipeline each second; its id."""
    wanted = {"name": "often", "pipeline": pipeline, "interval": {"everySeconds": 1}, "catchUp": "ALL"}
    created = (await client.execute(SCHEDULE, {"input": wanted}))["createSchedule"]
    assert created["errors"] == []
    schedule: str = created["schedule"]["id"]
    return schedule


async def fired(client: Client, schedule: str, count: int) -> list[dict[str, Any]]:
    """All fires of the schedule, once there are so many."""
    async with asyncio.timeout(SECONDS):
        while True:
            found: list[dict[str, Any]] = (await client.execute(FIRES, {"id": schedule}))["schedule"][
                "fires"
            ]["nodes"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def erased(database_url: str, run: str) -> None:
    """Wait until nothing of a run is in the database."""
    database = Database(database_url, bus=Bus("memory://"))
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                async with database.read() as session:
                    count = select(func.count()).select_from(Run).where(Run.id == ids.decode("run", run))
                    if not await session.scalar(count):
                        return
                await asyncio.sleep(0.05)
    finally:
        await database.close()


def assert_once_each(fires: list[dict[str, Any]]) -> None:
    """Each due time has one fire, and each fire a run of its own."""
    assert {fire["outcome"] for fire in fires} == {"STARTED"}, fires
    assert len({fire["dueAt"] for fire in fires}) == len(fires)
    assert len({fire["run"]["id"] for fire in fires}) == len(fires)


async def test_a_run_started_through_either_runs_once(database_url: str, tmp_path: Path) -> None:
    async with two(tmp_path, database_url) as both:
        pipeline = await both.told.pipeline()
        wanted = {"pipeline": pipeline}
        mine, theirs = await asyncio.gather(
            runs.start(both.told.client, wanted, "the key"), runs.start(both.client, wanted, "the key")
        )
        assert mine["id"] == theirs["id"]
        async with watched(both.client, mine["id"]):
            pass
        await assert_complete(both.told, mine["id"])
        assert list(both.other.jobs.iterdir()) == []


async def test_a_schedule_fires_once_each_time_and_goes_on_when_one_server_dies(
    database_url: str, tmp_path: Path
) -> None:
    async with two(tmp_path, database_url) as both:
        pipeline = await both.told.pipeline(["only"])
        schedule = await every_second(both.client, pipeline)
        assert_once_each(await fired(both.client, schedule, 3))
        both.told.server.kill()
        before = len(await fired(both.client, schedule, 0))
        assert_once_each(await fired(both.client, schedule, before + 3))
        await both.told.server.again()
        fires = await fired(both.client, schedule, 0)
        for run in (fires[0]["run"]["id"], fires[-1]["run"]["id"]):
            async with watched(both.client, run):
                pass
            assert (await both.told.story(run))["state"] == "SUCCEEDED"


async def test_what_a_dead_server_was_to_do_is_done_by_the_other(database_url: str, tmp_path: Path) -> None:
    async with two(tmp_path, database_url) as both:
        created = await both.client.execute(EXTERNAL, {"input": {"name": "elsewhere", "heartbeatSeconds": 1}})
        external = created["createRun"]["run"]["id"]
        run = await both.told.start(await both.told.pipeline(["only"]))
        async with watched(both.client, run):
            pass
        deleted = (await both.told.client.execute(DELETE, {"input": {"ids": [run]}}))["deleteRuns"]
        assert deleted["results"] == [{"id": run, "errors": []}]
        both.told.server.kill()
        async with watched(both.client, external):
            pass
        assert (await both.client.execute(STATE, {"id": external}))["run"] == {"state": "FAILED"}
        await erased(database_url, run)


async def test_contents_in_use_are_freed_by_neither(database_url: str, tmp_path: Path) -> None:
    async with two(tmp_path, database_url) as both:
        run = await both.told.start()
        async with watched(both.client, run):
            pass
        for server in (both.told.server, both.other):
            server.stop()
        needless = both.contents / "be" / "ef" / ("beef" + "0" * 60)
        needless.parent.mkdir(parents=True)
        needless.write_bytes(b"nobody names this")
        long_ago = time.time() - 2 * 86_400
        for path in both.contents.glob("??/??/*"):
            os.utime(path, (long_ago, long_ago))
        for server in (both.told.server, both.other):
            server.start()
        for server in (both.told.server, both.other):
            await server.ready()
        await until(lambda: not needless.exists(), "what nobody names is freed")
        await assert_complete(both.told, run)


async def test_a_second_server_whose_token_is_another_does_not_lock_out_the_first(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path / "home", sqlite_url) as server, server.client() as client:
        other = Server(tmp_path / "stranger", sqlite_url)
        assert await other.fails() != 0
        assert "copy token, secret and secrets.key" in other.told()
        assert await client.execute("{ viewer { __typename } }", {}) == {"viewer": {"__typename": "Viewer"}}
