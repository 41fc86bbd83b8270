"""What else may die: a watcher, a machine, an answer on its way, a database's connections, a builder.

Beside test_crashes.py, which kills the server alone, at every moment of a run.
"""

import asyncio
import tarfile
from pathlib import Path

import asyncpg
import pytest

from backends import attempts
from rungraph import modules
from rungraph.module_sources import Wanted
from rungraph.output import Output
from tests.conftest import SQLITE_FIRST
from tests.processes import until
from tests.telling import Telling, assert_complete, telling, watched

PROJECT = """\
[project]
name = "patient"
version = "1"
[build-system]
requires = []
build-backend = "waiting"
backend-path = ["."]
"""
BUILDING = """\
import pathlib, time, zipfile

METADATA = "Metadata-Version: 2.1\\nName: patient\\nVersion: 1\\n"
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("{folder}", "building").touch()
    while not pathlib.Path("{folder}", "go").exists():
        time.sleep(0.01)
    with zipfile.ZipFile(pathlib.Path(folder, "patient-1-py3-none-any.whl"), "w") as wheel:
        for name, content in (("METADATA", METADATA), ("WHEEL", WHEEL), ("RECORD", "")):
            wheel.writestr("patient-1.dist-info/" + name, content)
    return "patient-1-py3-none-any.whl"
"""
SDIST = {
    "pyproject.toml": PROJECT,
    "waiting.py": BUILDING,
    "PKG-INFO": "Metadata-Version: 2.1\nName: patient\nVersion: 1\n",
}
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def kill_watchers(told: Telling) -> None:
    """End the processes that stand by the attempts, as nothing but a fault would."""
    for folder in told.attempts():
        claim = attempts.read_claim(str(folder))
        assert claim is not None
        attempts.kill([claim["pid"]])


def unfinished(folder: Path) -> Path:
    """A module whose one requirement is built by a backend of its own, which waits until it may."""
    module, package = folder / "unfinished", folder / "patient-1"
    for path in (module, package):
        path.mkdir()
    for name, content in SDIST.items():
        (package / name).write_text(content.format(folder=str(folder)))
    with tarfile.open(folder / "patient-1.tar.gz", "w:gz") as archive:
        archive.add(package, package.name)
    functions = "{nothing: {command: [python, -c, pass]}}"
    manifest = f"name: unfinished\nrequirements: [patient==1]\nfunctions: {functions}\n"
    (module / "rungraph.yaml").write_text(manifest)
    return module


def uv_settings(folder: Path) -> dict[str, str]:
    """What lets uv find packages in a folder, ask nobody else, and have built none before."""
    return {"UV_FIND_LINKS": str(folder), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(folder / "uv")}


@SQLITE_FIRST
async def test_a_start_whose_answer_is_lost_starts_one_run(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        pipeline = await told.pipeline()
        starting = asyncio.create_task(told.start(pipeline, "the key"))
        await asyncio.sleep(0)  # it is on its way
        told.server.kill()
        await told.server.again()
        run = await starting
        async with watched(told.client, run):
            assert await told.start(pipeline, "the key") == run
        await assert_complete(told, run)


@SQLITE_FIRST
async def test_a_job_without_its_watcher_is_lost_and_tried_again(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("only")
        run = await told.start(await told.pipeline(["only"], "tell_again"))
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("only"), "it prints")
            kill_watchers(told)
            await until(lambda: len(told.launches("only")) == 2, "it runs again")
            told.release("only")
        (job,) = (await told.story(run))["jobs"]
        assert [attempt["reason"] for attempt in job["attempts"]] == ["LOST", "COMPLETED"]
        await told.leaves_nothing()


@pytest.mark.slow
async def test_a_job_without_its_watcher_is_lost_where_no_retry_is_granted(
    database_url: str, tmp_path: Path
) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("first")
        run = await told.start(await told.pipeline(function="tell_once"))
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("first"), "it prints")
            kill_watchers(told)
        jobs = (await told.story(run))["jobs"]
        assert [job["state"] for job in jobs] == ["FAILED", "SKIPPED", "SKIPPED"]
        assert jobs[0]["reason"] == "LOST"
        await told.leaves_nothing()


@SQLITE_FIRST
async def test_a_run_goes_on_after_everything_died_at_once(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("only")
        run = await told.start(await told.pipeline(["only"], "tell_again"))
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("only"), "it prints")
            told.server.kill()
            kill_watchers(told)
            attempts.kill(pid for pid, _ in told.processes("only"))
            told.release("only")
            await told.server.again()
        (job,) = (await told.story(run))["jobs"]
        assert [attempt["reason"] for attempt in job["attempts"]] == ["LOST", "COMPLETED"]
        assert told.launches("only") == ["1", "2"]
        await told.leaves_nothing()


@SQLITE_FIRST
async def test_a_cancellation_that_was_answered_is_carried_out(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("first")
        run = await told.start()
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("first"), "it prints")
            await told.cancel(run)
            told.server.kill()
            await told.server.again()
        assert [job["state"] for job in (await told.story(run))["jobs"]] == ["CANCELLED"] * 3
        await told.leaves_nothing()


@pytest.mark.slow
async def test_a_retry_that_was_granted_is_made(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        arguments = [{"step": "only", "arguments": {"exit_code": 1}}]
        pipeline = await told.pipeline(["only"], "tell_again")
        run = await told.start(pipeline, arguments=arguments)
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.states("only").count("QUEUED") == 2, "it waits for its retry")
            told.server.kill()
            await told.server.again()
        (job,) = (await told.story(run))["jobs"]
        assert [attempt["reason"] for attempt in job["attempts"]] == ["EXIT_CODE", "EXIT_CODE"]
        assert told.launches("only") == ["1", "2"]
        await told.leaves_nothing()


@pytest.mark.slow
async def test_a_run_outlives_the_loss_of_every_connection(postgresql_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(postgresql_url)
    try:
        async with telling(tmp_path, postgresql_url) as told:
            run = await told.start()
            async with watched(told.client, run) as watcher:
                for _ in range(10):
                    await connection.execute(END_OTHERS)
                    await watcher.hears()
            await told.server.ready()  # who asks first meets the connections that were lost last
            await assert_complete(told, run)
            await told.leaves_nothing()
    finally:
        await connection.close()


@SQLITE_FIRST
async def test_an_environment_is_finished_after_its_builder_died(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url, **uv_settings(tmp_path)) as told:
        version = await modules.request_install(
            told.client, Output(as_json=True), Wanted(str(unfinished(tmp_path)))
        )
        await until((tmp_path / "building").exists, "the environment is being built")
        told.server.kill()
        (tmp_path / "go").touch()
        await told.server.again()
        variables = {"id": version["id"], "after": 0}
        async for _ in told.client.follow(modules.WATCH, variables):
            pass
        made = (await told.client.execute(modules.VERSION, {"id": version["id"]}))["node"]
        assert [each["state"] for each in made["preparations"]] == ["READY"]
        await told.leaves_nothing()
