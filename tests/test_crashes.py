"""What the product promises: a server may die at any moment, and nothing is lost and nothing done twice.

The server's process is killed, it alone, at moments told from outside: by what a watcher has seen and by what
lies in the folders. Afterwards everything a run did is compared with what its jobs say they did.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from backends import attempts
from db.attempts import Attempt
from db.database import Database
from tests.processes import until
from tests.telling import STEPS, Telling, Watcher, assert_complete, telling, watched

Moment = Callable[[Telling, Watcher], Coroutine[Any, Any, None]]
NARROW = 0.0005
"""How often to look for a moment that is soon over, in seconds."""


def record(name: str) -> Moment:
    """When an attempt's folder holds this record; the watcher writes them one after the other."""

    async def reached(told: Telling, watcher: Watcher) -> None:
        await until(
            lambda: watcher.ended or any(told.server.jobs.glob(f"*/{name}")), f"there is {name}", NARROW
        )

    return reached


def state(step: str, word: str) -> Moment:
    """When a watcher is told of a job's state."""

    async def reached(_: Telling, watcher: Watcher) -> None:
        await until(lambda: word in watcher.states(step), f"{step} is {word}", NARROW)

    return reached


def printed(step: str) -> Moment:
    """When a step that waits half way has been told of."""

    async def reached(_: Telling, watcher: Watcher) -> None:
        await until(lambda: watcher.told(step), f"{step} prints")

    return reached


def after(step: str, moment: Moment) -> Moment:
    """A moment after a step went on; its success, should that have been faster."""

    async def reached(told: Telling, watcher: Watcher) -> None:
        told.release(step)
        waiting = [asyncio.create_task(each(told, watcher)) for each in (moment, state(step, "SUCCEEDED"))]
        done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.gather(*done)

    return reached


async def at_once(_told: Telling, _watcher: Watcher) -> None:
    """Now."""


async def gathering(told: Telling, watcher: Watcher) -> None:
    """When a content is being taken over."""
    await until(
        lambda: watcher.ended or any(told.server.home.glob("files/tmp/*")), "outputs are gathered", NARROW
    )


async def ended(_: Telling, watcher: Watcher) -> None:
    """When the run's last event is told: its last attempt is not yet removed."""
    await until(lambda: watcher.ended is not None, "the feed has ended", NARROW)


MOMENTS: dict[str, Moment] = {
    "right after startRun answered": at_once,
    "between claim and launch": state("first", "STARTING"),
    "during launch": record("spec.json"),
    "while the first step prints": printed("first"),
    "at the first step's end": after("first", record(attempts.EXIT)),
    "between two steps": state("first", "SUCCEEDED"),
    "while the second step prints": printed("second"),
    "during outputs gathering": after("second", gathering),
    "while the last step prints": printed("third"),
    "right after the end": after("third", ended),
}
NARROWEST = (
    "between claim and launch",
    "during launch",
    "at the first step's end",
    "during outputs gathering",
    "right after the end",
)
"""Those of every run of the suite, where what is done and what is recorded of it lie furthest apart."""


async def removing(told: Telling, watcher: Watcher) -> None:
    """When the folder of an ended attempt is being thrown away."""
    trash = told.server.home / "local" / "trash"
    await until(lambda: watcher.ended or any(trash.iterdir()), "an attempt is removed", NARROW)


async def somewhere(told: Telling, watcher: Watcher, chance: random.Random) -> None:
    """At a moment drawn by lot, and then a little later."""
    step = chance.choice(STEPS)
    narrow = [record(name) for name in (attempts.SPEC, attempts.CLAIM, attempts.STARTED, attempts.EXIT)]
    told_of = [state(step, word) for word in ("STARTING", "RUNNING", "SUCCEEDED")]
    await chance.choice([*narrow, *told_of, at_once, gathering, removing])(told, watcher)
    await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.003), chance.uniform(0, 0.05)]))


async def all_removed(database: Database) -> None:
    """Wait until no backend holds anything of any attempt."""
    held = select(func.count()).where(~Attempt.removed)
    async with asyncio.timeout(60):
        while True:
            async with database.read() as session:
                if not await session.scalar(held):
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("database_url", "moments"),
    [
        pytest.param("sqlite", NARROWEST, id="sqlite-five"),
        pytest.param("sqlite", tuple(MOMENTS), id="sqlite-ten", marks=pytest.mark.slow),
        pytest.param("postgresql", tuple(MOMENTS), id="postgresql-ten", marks=pytest.mark.slow),
    ],
    indirect=["database_url"],
)
async def test_a_run_outlives_kills_of_its_server(
    database: Database, tmp_path: Path, moments: Sequence[str]
) -> None:
    url = database.url.render_as_string(hide_password=False)
    async with telling(tmp_path, url) as told:
        for step in STEPS:
            told.hold(step)
        run = await told.start()
        async with watched(told.client, run) as watcher:
            for moment in moments:
                await MOMENTS[moment](told, watcher)
                told.server.kill()
                await told.server.again()
        assert told.server.lives == 1 + len(moments)
        await assert_complete(told, run)
        await all_removed(database)
        await told.leaves_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_run_outlives_kills_drawn_by_lot(database: Database, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with telling(tmp_path, database.url.render_as_string(hide_password=False)) as told:
        run = await told.start()
        async with watched(told.client, run) as watcher:
            for _ in range(8):
                await somewhere(told, watcher, chance)
                told.server.kill()
                if chance.random() < 0.4:  # once more, while it starts
                    told.server.start()
                    await asyncio.sleep(chance.uniform(0.3, 1.2))
                    told.server.kill()
                await told.server.again()
        await assert_complete(told, run)
        await all_removed(database)
        await told.leaves_nothing()
