"""Servers that are killed at random while jobs run, on every kind of backend."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.loads import Figures, load
from tests.chaos.places import KINDS, place

pytestmark = pytest.mark.chaos
Tell = Callable[[Figures], None]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_is_killed_at_random(
    kind: str, sqlite_url: str, tmp_path: Path, kills: int, jobs: int, told: Tell
) -> None:
    chance = random.Random(kills)
    figures = Figures(kind, "kill -9 of the server", kills, jobs)
    told(figures)
    async with load(place(kind, tmp_path), sqlite_url) as made:
        (server,) = made.servers
        share = -(-jobs // (kills + 1))
        for _ in range(kills):
            await made.start(min(share, jobs - len(made.runs)))
            await asyncio.sleep(chance.uniform(0, 1.5))
            server.kill()
            await server.again()
        await made.start(jobs - len(made.runs))
        await made.judge(figures)


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_one_of_two_supervisors_dies_or_stands_still(
    kind: str, postgresql_url: str, tmp_path: Path, kills: int, jobs: int, told: Tell
) -> None:
    chance = random.Random(kills)
    figures = Figures(kind, "one of two killed or paused", kills, jobs)
    told(figures)
    async with load(place(kind, tmp_path), postgresql_url, servers=2) as made:
        share = -(-jobs // (kills + 1))
        for number in range(kills):
            await made.start(min(share, jobs - len(made.runs)))
            await asyncio.sleep(chance.uniform(0, 1.5))
            server = chance.choice(made.servers)
            # Now and then for longer than a lease lasts, so that the other takes over.
            seconds = chance.uniform(20, 25) if number % 5 == 0 else chance.uniform(0, 3)
            if chance.random() < 0.5:
                server.kill()
                await asyncio.sleep(seconds)
                await server.again()
            else:
                server.freeze()
                await asyncio.sleep(seconds)
                server.thaw()
        await made.start(jobs - len(made.runs))
        await made.judge(figures)
