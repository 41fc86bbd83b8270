"""Two supervisors of one cluster, each a process, beside a server: one is killed or stands still, and nothing is lost.

The cluster is the fake backend's folder, which says how often each attempt was launched.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db.bus import Bus
from db.database import Database
from db.leases import Supervisor
from rungraph import modules, pipelines, runs
from rungraph.api import Client
from rungraph.module_sources import Wanted
from rungraph.output import Output
from tests.processes import SECONDS, Alone, Server, serving, until
from tests.telling import watched
from tests.test_replicas import copy_keys

pytestmark = pytest.mark.slow

ADOPTED_SECONDS = 30.0
"""How long a dead supervisor's jobs may be without one."""
LINES = 60
MANIFEST = f"""\
name: scripted
functions:
  tell:
    command: [fake, "every 0.5 {LINES} print line {{n}}"]
  quick:
    command: [fake, print done]
"""
STORY = """query Story($run: ID!) { run(id: $run) { state jobs {
  state reason message attempts { number reason }
  logs(first: 100) { nodes { text } } } } }"""


@dataclass(frozen=True)
class Replicas:
    """A server and two supervisors, and a client of the server."""

    server: Server
    alone: tuple[Alone, Alone]
    client: Client
    cluster: Path
    database: Database

    async def holder(self) -> Server | None:
        """Who holds the cluster's lease just now."""
        async with self.database.read() as session:
            row = await session.find(Supervisor, select(Supervisor).where(Supervisor.name == "engine"))
        of = {(each.home / "host").read_text().strip(): each for each in (self.server, *self.alone)}
        return of.get(row.holder) if row else None

    async def held_by(self, *wanted: Server) -> Server:
        """Whoever of these holds the lease, once one does."""
        deadline = time.monotonic() + SECONDS
        found = await self.holder()
        while found is None or found not in wanted:
            assert time.monotonic() < deadline, "nobody took the lease"
            await asyncio.sleep(0.05)
            found = await self.holder()
        return found

    async def start(self, function: str, count: int) -> list[str]:
        """So many runs of one job."""
        steps = [{"name": "only", "function": f"scripted/{function}"}]
        pipeline = (await pipelines.create(self.client, f"{function}-{time.time_ns()}", steps))["id"]
        return [(await runs.start(self.client, {"pipeline": pipeline}, ""))["id"] for _ in range(count)]

    async def launched(self, count: int) -> None:
        """Wait until so many attempts were launched."""
        await until(lambda: len(self.names()) >= count, f"{count} attempts are launched", every_seconds=0.02)

    def names(self) -> list[str]:
        """What was launched, as often as it was."""
        path = self.cluster / "launched"
        return path.read_text().splitlines() if path.exists() else []

    async def ended(self, run: str) -> Any:
        """The one job of a run at its end."""
        async with watched(self.client, run):
            pass
        (job,) = (await self.client.execute(STORY, {"run": run}))["run"]["jobs"]
        return job


@asynccontextmanager
async def replicas(folder: Path, database_url: str) -> AsyncIterator[Replicas]:
    """All three at work, one of the supervisors holding the lease."""
    cluster, config, module = folder / "cluster", folder / "backends.yaml", folder / "scripted"
    config.write_text(f"backends: [{{name: engine, kind: fake, cluster: {cluster}, slots: 64}}]")
    module.mkdir()
    (module / "rungraph.yaml").write_text(MANIFEST)
    shared = {"RUNGRAPH_CONFIG": str(config), "RUNGRAPH_FILES_URL": str(folder / "contents")}
    if database_url.startswith("postgresql"):
        shared["RUNGRAPH_BROADCAST_URL"] = database_url
    async with serving(folder / "home", database_url, **shared) as server, server.client() as client:
        version = await modules.install(client, Output(as_json=True), Wanted(str(module)))
        assert [each["state"] for each in version["preparations"]] == ["READY"]
        alone = tuple(
            Alone(folder / name, database_url, RUNGRAPH_PUBLIC_URL=server.url, **shared) for name in "ab"
        )
        database = Database(database_url, bus=Bus("memory://"))
        try:
            for each in alone:
                copy_keys(server.home, each.home)
                await each.again()
            found = Replicas(server, (alone[0], alone[1]), client, cluster, database)
            server.stop()
            await found.held_by(*alone)
            await server.again()
            yield found
        finally:
            await database.close()
            for each in alone:
                each.stop()


async def test_a_killed_supervisors_jobs_are_adopted_within_half_a_minute_and_none_runs_twice(
    database_url: str, tmp_path: Path
) -> None:
    async with replicas(tmp_path, database_url) as all_of:
        started = await all_of.start("tell", 10)
        await all_of.launched(10)
        holder = await all_of.held_by(*all_of.alone)
        killed_at = time.monotonic()
        holder.kill()
        started += await all_of.start("quick", 5)  # which nobody claims but the next holder
        others = [each for each in (all_of.server, *all_of.alone) if each is not holder]
        await all_of.held_by(*others)
        await all_of.launched(15)
        assert time.monotonic() - killed_at < ADOPTED_SECONDS
        for run in started:
            job = await all_of.ended(run)
            assert (job["state"], job["attempts"]) == ("SUCCEEDED", [{"number": 1, "reason": "COMPLETED"}])
            told = [line["text"] for line in job["logs"]["nodes"]]
            assert told in (["done"], [f"line {number}" for number in range(LINES)])
        assert len(all_of.names()) == len(set(all_of.names())) == len(started)


async def test_a_supervisor_that_stood_still_and_wakes_changes_nothing(
    postgresql_url: str, tmp_path: Path
) -> None:
    # Of SQLite there is one writer: one that stands still while it writes keeps everybody else from writing.
    async with replicas(tmp_path, postgresql_url) as all_of:
        started = await all_of.start("tell", 5)
        await all_of.launched(5)
        holder = await all_of.held_by(*all_of.alone)
        started += await all_of.start("quick", 20)  # it may stop in the middle of launching them
        holder.freeze()
        others = [each for each in (all_of.server, *all_of.alone) if each is not holder]
        next_holder = await all_of.held_by(*others)
        await asyncio.sleep(2.0)
        holder.thaw()
        started += await all_of.start("quick", 5)
        jobs = [await all_of.ended(run) for run in started]
        assert {(job["state"], len(job["attempts"])) for job in jobs} == {("SUCCEEDED", 1)}
        assert await all_of.holder() is next_holder
        assert len(set(all_of.names())) == len(started)
        # What it was about to launch when it stopped may have ended meanwhile, and been removed (docs/servers.md).
        assert len(all_of.names()) <= len(started) + 1
