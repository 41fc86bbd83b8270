"""What may happen to containers: the engine dies, somebody removes them, they take too much, their image is gone."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backends import containers
from tests.chaos.docker_place import Docker
from tests.chaos.loads import Figures, at_once, greedy, hit, load, tried_again

pytestmark = [pytest.mark.chaos, pytest.mark.docker]
Tell = Callable[[Figures], None]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Docker]:
    yield Docker(tmp_path)


async def test_the_engine_is_started_anew_under_running_containers(
    place: Docker, restart: str, sqlite_url: str, kills: int, jobs: int, told: Tell
) -> None:
    restarts = max(1, kills // 5)
    chance = random.Random(kills)
    figures = Figures("docker", "the engine started anew", restarts, jobs)
    told(figures)
    async with load(place, sqlite_url, retries=restarts) as made:
        for _ in range(restarts):
            await made.start(jobs // (restarts + 1), pause=0.3)
            # Some run by then, some begin, some wait.
            await asyncio.sleep(chance.uniform(0.5, 5))
            process = await asyncio.create_subprocess_shell(restart)
            assert await process.wait() == 0
        await made.start(jobs - len(made.runs))
        await made.judge(figures, tried_again("LOST"))


async def test_containers_are_removed_by_somebody_else(
    place: Docker, sqlite_url: str, kills: int, jobs: int, told: Tell
) -> None:
    figures = Figures("docker", "containers removed by others", kills, jobs)
    told(figures)
    async with load(place, sqlite_url, retries=1) as made:
        held = set(await made.start(kills, fate="held"))
        await made.start(jobs - kills)
        left = set(held)
        while left:
            for each in await place.workers():
                run = each["Labels"][f"{containers.LABEL}.run"]
                if run in left and each["State"] == "running":
                    await place.engine.json("DELETE", f"containers/{each['Id']}", {"force": True})
                    left.discard(run)
            await asyncio.sleep(0.1)
        await made.judge(figures, hit(held, set(), "LOST"))


async def test_containers_over_their_memory_end_so(
    place: Docker, sqlite_url: str, jobs: int, told: Tell
) -> None:
    async with greedy(place, sqlite_url, jobs, told) as (made, figures, taken):

        def fits(run: str, reasons: list[str]) -> bool:
            if run not in taken:
                return at_once(run, reasons)
            # Of some containers that end under load the engine never says it, in no event and in no answer.
            return reasons == ["OUT_OF_MEMORY"] or (run not in place.starved and reasons == ["EXIT_CODE"])

        await made.judge(figures, fits)
        assert place.starved


async def test_an_image_that_is_gone_ends_what_needs_it(place: Docker, sqlite_url: str, told: Tell) -> None:
    figures = Figures("docker", "the image removed", 1, 1)
    told(figures)
    label = f"chaos={secrets.token_hex(8)}"
    async with load(place, sqlite_url, dockerfile=f"FROM python:3.11-slim\nLABEL {label}\n") as made:
        images = await place.engine.json("GET", "images/json", {"filters": {"label": [label]}})
        for image in images:
            await place.engine.json("DELETE", f"images/{image['Id']}", {"force": True})
        await made.start(1)
        await made.judge(figures, lambda _run, reasons: reasons == ["IMAGE_UNAVAILABLE"] * 3)
    assert images
