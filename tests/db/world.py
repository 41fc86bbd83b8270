"""A small world to test in: a project, a backend and its supervisor, modules, pipelines and runs, all real.

`World.make` puts what every run needs; its verbs are those of users (install, draw, start, cancel) and of a
supervisor (claim, begin, end), each through the commands of db.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from sqlalchemy import insert, update

from db import (
    attempts,
    backends,
    batches,
    claims,
    columns,
    contracts,
    curves,
    documents,
    ends,
    feeds,
    files,
    ids,
    installations,
    jobs,
    leases,
    manifests,
    module_sources,
    pipelines,
    preparations,
    projects,
    reports,
    runs,
    starts,
    users,
)
from db.claims import Launch
from db.database import Database, Session
from db.ends import End, Ended, Made
from db.installations import Content
from db.points import Column, Origin, Points
from db.reports import Launched, Started
from db.starts import StartSpec
from db.states import EndReason, JobState
from db.steps import StepSpec
from db.viewers import Kind, Viewer

HOST = "here"
GIB = 1 << 30
SOURCE = module_sources.parse("/modules/ml")
EXIT_CODES = {EndReason.COMPLETED: 0, EndReason.EXIT_CODE: 1, EndReason.OUT_OF_MEMORY: 137}

Needs = Mapping[str, tuple[str, ...] | None]
Draw = Mapping[str, StepSpec] | Needs

few = settings(
    max_examples=max(4, settings().max_examples * 15 // 100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""For properties that need a database: every example goes on in the same one, with runs of its own."""


def function(name: str = "step", **values: Any) -> manifests.Function:
    """A function of one worker that takes any file."""
    return manifests.Function(name, **values)


@dataclass(frozen=True)
class World:
    """Who and what there is. `host` is the supervisor's, and the one modules are prepared for."""

    database: Database
    project_id: bytes
    viewer: Viewer
    supervisor: leases.Supervisor
    backend: backends.Backend

    @classmethod
    async def make(cls, database: Database, *functions: manifests.Function, **capacity: Any) -> "World":
        """A world whose module `ml` has these functions, or `step` alone."""
        async with database.begin() as session:
            project_id = await projects.ensure_default(session)
            user_id = await users.ensure_administrator(session, "the administrator's token")
            supervisor = await leases.take(session, HOST, HOST)
            assert supervisor is not None
            backend = await backends.configure(session, supervisor, _backend("local", capacity))
        viewer = Viewer(Kind.ADMINISTRATOR, user_id=user_id)
        world = cls(database, project_id, viewer, supervisor, backend)
        await world.install(*(functions or (function(),)))
        return world

    async def add_project(self, name: str) -> bytes:
        """Another project, with a module `ml` of its own."""
        project_id = ids.new()
        values = {"id": project_id, "name": name, "created_at": columns.now()}
        async with self.database.begin() as session:
            await session.execute(insert(projects.Project).values(values))
        await self.install(function(), project_id=project_id)
        return project_id

    async def install(
        self, *functions: manifests.Function, name: str = "ml", project_id: bytes | None = None
    ) -> bytes:
        """A version of a module, fetched and prepared; returns its id."""
        manifest = manifests.Manifest(name, functions=functions)
        async with self.database.begin() as session:
            version_id = await installations.install(session, self.viewer, SOURCE, project_id=project_id)
            version = await installations.fetched(session, version_id, Content(version_id.hex(), manifest))
            assert version is not None
            await preparations.request(session, version, self.backend.id, HOST)
            (wanted,) = await preparations.of_versions(session, [version_id])
            await preparations.finish(session, wanted, "/environments/ml")
        return version_id

    async def request(self, project_id: bytes | None = None) -> bytes:
        """Ask for an installation; returns the version's id."""
        async with self.database.begin() as session:
            return await installations.install(session, self.viewer, SOURCE, project_id=project_id)

    async def fetch(self, version_id: bytes, *functions: manifests.Function, name: str = "ml") -> None:
        """Record what was fetched, and ask for its preparation."""
        manifest = manifests.Manifest(name, functions=functions)
        async with self.database.begin() as session:
            version = await installations.fetched(session, version_id, Content(version_id.hex(), manifest))
            assert version is not None
            await preparations.request(session, version, self.backend.id, HOST)

    async def prepare(self, version_id: bytes, failure: str | None = None) -> None:
        """Finish what is to be prepared of a version, or fail it."""
        async with self.database.read() as session:
            (wanted,) = await preparations.of_versions(session, [version_id])
        async with self.database.begin() as session:
            await preparations.begin(session, wanted)
        async with self.database.begin() as session:
            if failure is None:
                await preparations.finish(session, wanted, "/environments/ml")
            else:
                await preparations.fail(session, wanted, failure)

    async def draw(self, given: Draw, *, name: str | None = None, project_id: bytes | None = None) -> bytes:
        """A pipeline of these steps, given whole or by what they need; returns its id."""
        async with self.database.begin() as session:
            return await pipelines.create(
                session, self.viewer, name or f"p{ids.new().hex()}", steps(given), project_id=project_id
            )

    async def start(self, given: Draw | bytes, **values: Any) -> bytes:
        """Start a run of a pipeline, or of one drawn for it; returns its id."""
        pipeline_id = given if isinstance(given, bytes) else await self.draw(given)
        spec = StartSpec(pipeline_id=pipeline_id, backend=values.pop("backend", "local"), **values)
        async with self.database.begin() as session:
            return await starts.start(session, self.viewer, spec)

    async def cancel(self, run_id: bytes, grace_seconds: float = 5.0) -> None:
        """Ask for a run's end."""
        async with self.database.begin() as session:
            await runs.cancel(session, self.viewer, run_id, grace_seconds=grace_seconds)

    async def upload(self, name: str, content: str = "content") -> bytes:
        """A file that is ready to be given to runs."""
        arrived: Any = {
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "size_bytes": len(content.encode()),
        }
        async with self.database.begin() as session:
            file_id = await files.create_upload(session, self.viewer, name, arrived["size_bytes"])
            await files.record_content(session, self.viewer, file_id, **arrived)
            await files.complete_upload(session, self.viewer, file_id, **arrived)
        return file_id

    async def claim(self, most: int = 64) -> dict[str, Launch]:
        """Claim what can be launched; what is to be launched, by step."""
        return {name: launch for (_, name), launch in (await self.claim_all(most)).items()}

    async def claim_all(self, most: int = 64) -> dict[tuple[bytes, str], Launch]:
        """Claim what can be launched; what is to be launched, by run and step, in order."""
        async with self.database.begin() as session:
            claimed = await claims.claim(session, self.supervisor, self.backend.id, HOST, most=most)
        async with self.database.read() as session:
            launches = {launch.attempt_id: launch for launch in await claims.describe(session, claimed)}
            rows = await jobs.find_jobs(session, self.viewer, [row.job_id for row in launches.values()])
        names = {row.id: row.step for row in rows}
        ordered = [launches[attempt_id] for attempt_id in claimed]
        return {(launch.run_id, names[launch.job_id]): launch for launch in ordered}

    async def begin(self, launch: Launch) -> None:
        """Report that an attempt was launched and that all its workers run."""
        async with self.database.begin() as session:
            handle = Launched(launch.attempt_id, {"pid": 1})
            await reports.launched(session, self.supervisor, [handle])
            address = (launch.attempt_id, launch.feed_id)
            given = [
                Started(*address, rank, "node", "10.0.0.1", columns.now()) for rank in range(launch.workers)
            ]
            await reports.started(session, self.supervisor, given)

    async def end(
        self, launch: Launch, reason: EndReason = EndReason.COMPLETED, *made: Made, **values: Any
    ) -> bool:
        """Report an attempt's end; returns whether it was ours to record."""
        supervisor = values.pop("supervisor", self.supervisor)
        async with self.database.begin() as session:
            end = ending(launch, reason, *made, **values)
            (ours,) = await ends.ended(session, supervisor, [Ended(launch.attempt_id, launch.feed_id, end)])
            return ours

    async def drive(self, outcomes: Mapping[str, EndReason] | None = None) -> list[str]:
        """Claim, begin and end until nothing is left to claim; the steps launched, in order."""
        launched: list[str] = []
        while claimed := await self.claim_all():
            for (_, step), launch in claimed.items():
                launched.append(step)
                await self.begin(launch)
                await self.end(launch, (outcomes or {}).get(step, EndReason.COMPLETED))
        return launched

    async def run(self, run_id: bytes) -> runs.Run:
        """A run as it stands."""
        async with self.database.read() as session:
            return await runs.get(session, self.viewer, run_id)

    async def jobs(self, run_id: bytes) -> dict[str, jobs.Job]:
        """A run's jobs as they stand, by step."""
        async with self.database.read() as session:
            return {job.step: job for job in await jobs.of_run(session, run_id)}

    async def states(self, run_id: bytes) -> dict[str, JobState]:
        """How a run's jobs stand, by step."""
        return {step: job.state for step, job in (await self.jobs(run_id)).items()}

    async def attempts(self, run_id: bytes) -> list[attempts.Attempt]:
        """The attempts of a run's jobs."""
        members = await self.jobs(run_id)
        async with self.database.read() as session:
            return await attempts.of_jobs(session, [job.id for job in members.values()])

    async def events(self, run_id: bytes) -> list[feeds.Event]:
        """Everything a run's feed says of its states."""
        feed_id = (await self.run(run_id)).feed_id
        async with self.database.read() as session:
            return await feeds.events(session, feed_id, 0)

    async def wait_out(self, run_id: bytes) -> None:
        """Let the time pass that a run's jobs wait for before their next attempt."""
        past = columns.now() - timedelta(seconds=1)
        async with self.database.begin() as session:
            waiting = update(jobs.Job).where(jobs.Job.run_id == run_id, jobs.Job.not_before.is_not(None))
            await session.execute(waiting.values(not_before=past))


async def origin_of(world: World, launch: Launch, rank: int = 0) -> Origin:
    """Where the points of a worker come from."""
    async with world.database.read() as session:
        (attempt,) = [
            a for a in await attempts.of_jobs(session, [launch.job_id]) if a.id == launch.attempt_id
        ]
        workers = await attempts.workers_of(session, [attempt.id])
        (job,) = await jobs.find_jobs(session, world.viewer, [launch.job_id])
    worker = workers[rank]
    return Origin(
        job.run_id, job.project_id, job.id, job.step, attempt.id, attempt.number, worker.id, worker.rank
    )


def steps(given: Draw) -> list[StepSpec]:
    """Steps by name: whole ones, or what each needs (None: the one above)."""
    return [
        value if isinstance(value, StepSpec) else StepSpec(name, "ml/step", {}, value)
        for name, value in given.items()
    ]


def written(*given: Mapping[str, Any]) -> dict[str, StepSpec]:
    """Steps as their author writes them, by name; the function is `ml/step` where none is said."""
    found, problems = documents.read_steps([{"function": "ml/step", **step} for step in given])
    assert not problems, problems
    return {step.name: step for step in found}


async def report(world: "World", launch: Launch, **values: float | list[float]) -> None:
    """Report metrics of an attempt's first worker, each by one value or by several in order."""
    columns = []
    for name, value in values.items():
        points = np.array(value if isinstance(value, list) else [value], np.float64)
        columns.append(Column(name, np.zeros(len(points), np.int64), points))
    origin = await origin_of(world, launch)
    async with world.database.begin() as session:
        head = await feeds.lock(session, launch.feed_id)
        await batches.append(session, head, origin, columns)


async def points_of(
    session: Session, viewer: Viewer, run_ids: Sequence[bytes], metric_names: Sequence[str]
) -> list[Points]:
    """All points of these metrics, of each job's latest attempt."""
    wanted = curves.Wanted(list(run_ids), list(metric_names))
    return [curve.points for curve in await curves.read(session, viewer, wanted)]


def made(name: str, **values: Any) -> Made:
    """A file that a job created."""
    kind, tags = values.pop("kind", contracts.OutputKind.CREATED), values.pop("tags", {})
    output = contracts.OutputFile(name, kind, tags)
    return Made(
        output, values.pop("sha256", "a" * 64), values.pop("size_bytes", 1), values.pop("input_id", None)
    )


def ending(launch: Launch, reason: EndReason, *outputs: Made, at: datetime | None = None) -> End:
    """How an attempt ended whose workers all did alike."""
    code = EXIT_CODES.get(reason)
    codes = {rank: code for rank in range(launch.workers) if code is not None}
    return End(reason, code, codes, None, at or columns.now(), outputs=outputs)


def names(rows: Sequence[Any]) -> list[str]:
    """What rows are called."""
    return [row.name for row in rows]


ROOMY: Mapping[str, Any] = {"slots": 10_000, "cpus": 1e4, "memory_bytes": 1 << 50}
"""Capacity for a world whose every example leaves a job running."""


def _backend(name: str, capacity: Mapping[str, Any]) -> dict[str, Any]:
    room = {"slots": 64, "cpus": 64.0, "memory_bytes": 64 * GIB, "gpus": 0}
    return {"name": name, "kind": "local", "scope": backends.Scope.HOST, "config": {}, **room, **capacity}
