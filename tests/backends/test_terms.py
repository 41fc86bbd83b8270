"""What a term does again until it is done, and how often it says so."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backends import terms
from backends.base import BackendUnavailable, Handle, JobSpec
from backends.fake import Fake
from db.database import Database
from db.states import RunState
from tests.backends.conftest import hinting
from tests.backends.grounds import eventually
from tests.backends.test_supervisor import ends_well, supervisor_of, world_of


class Failing:
    """Work that fails as it is told to, and then does not."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


async def test_a_backend_that_is_away_is_waited_for_quietly() -> None:
    away = [BackendUnavailable(f"port {number} is closed", retry_in_seconds=0.0) for number in range(5)]
    with capture_logs() as logged:
        await terms._insist(Failing(*away))
    assert [(each["log_level"], each["error"]) for each in logged] == [("warning", "port 0 is closed")]


async def test_a_fault_is_logged_when_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "_AGAIN_SECONDS", 0.0)
    with capture_logs() as logged:
        await terms._insist(Failing(OSError("full"), OSError("full"), ValueError("wrong")))
    assert [each["error"] for each in logged] == ["OSError('full')", "ValueError('wrong')"]


class Slow(Fake):
    """Launches nothing before it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may = asyncio.Event()

    async def launch(self, spec: JobSpec) -> Handle:
        await self.may.wait()
        return await super().launch(spec)


async def test_while_launches_wait_what_more_there_is_stays_queued_and_is_cancelled_at_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "_PATIENCE", 10**6)
    async with hinting(Database, database_url) as database:
        world, adapter = await world_of(database, tmp_path), Slow(tmp_path / "cluster")
        runs = [await world.start({"a": ()}) for _ in range(terms._CLAIMS + 8)]
        made = supervisor_of(database, tmp_path, "one", adapter, slots=1000)
        await made.open()
        try:

            async def claimed() -> list[bytes]:
                found = [run for run in runs if await world.attempts(run)]
                return found if len(found) >= terms._CLAIMS else []

            launching = await eventually(claimed)
            await asyncio.sleep(0.3)
            assert len(await claimed()) == len(launching) == terms._CLAIMS
            left = [run for run in runs if run not in launching]
            for run in left:
                await world.cancel(run)
                assert (await world.run(run)).state is RunState.CANCELLED
            adapter.may.set()
            for run in launching:
                await ends_well(world, run)
            assert not [run for run in left if await world.attempts(run)]
        finally:
            await made.close()
