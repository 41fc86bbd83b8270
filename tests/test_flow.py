"""End to end: the real server as a process, the command's API client, jobs as processes, both databases."""

from pathlib import Path

import pytest

from rungraph import transfers
from tests.conftest import SQLITE_FIRST
from tests.processes import until
from tests.telling import assert_complete, telling, watched


@SQLITE_FIRST
async def test_a_pipeline_is_started_watched_and_read_to_its_last_line(
    database_url: str, tmp_path: Path
) -> None:
    async with telling(tmp_path, database_url) as told:
        given = tmp_path / "given.bin"
        given.write_bytes(b"given")
        file = await transfers.upload(told.client, given)
        run = await told.start(files=[file["id"]], tags=[{"name": "kind", "value": "flow"}])
        async with watched(told.client, run) as watcher:
            pass
        assert watcher.states("third") == ["WAITING", "QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
        await assert_complete(told, run)
        assert (await told.story(run))["tags"] == [{"name": "kind", "value": "flow"}]
        await told.leaves_nothing()


@pytest.mark.slow
async def test_arguments_of_a_run_take_the_place_of_the_pipelines(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        arguments = [{"step": "only", "arguments": {"exit_code": 3, "lines": 1}}]
        run = await told.start(await told.pipeline(["only"]), arguments=arguments)
        async with watched(told.client, run):
            pass
        (job,) = (await told.story(run))["jobs"]
        assert (job["state"], job["reason"]) == ("FAILED", "EXIT_CODE")


@SQLITE_FIRST
async def test_a_cancelled_run_ends_and_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("first")
        run = await told.start()
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("first"), "the first step prints")
            await told.cancel(run)
        jobs = (await told.story(run))["jobs"]
        assert [job["state"] for job in jobs] == ["CANCELLED"] * 3
        assert told.launches("second") == []
        await told.leaves_nothing()


@SQLITE_FIRST
async def test_a_job_goes_on_while_its_server_is_restarted_and_is_adopted(
    database_url: str, tmp_path: Path
) -> None:
    async with telling(tmp_path, database_url) as told:
        told.hold("first")
        run = await told.start()
        async with watched(told.client, run) as watcher:
            await until(lambda: watcher.told("first"), "the first step prints")
            told.server.stop()
            assert not (told.server.home / "url").exists(), "it took its leave"
            assert len(told.server.left()) == 3, "the job's folder, its watcher and its process"
            told.release("first")
            await told.server.again()
        assert watcher.states("first").count("RUNNING") == 1
        await assert_complete(told, run)
        await told.leaves_nothing()
