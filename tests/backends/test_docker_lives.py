"""By what it is known that an engine was started anew, however it is configured; with a small engine."""

import asyncio
from typing import Any

import pytest

from backends.containers import STARTED
from backends.docker_native import Native
from backends.engines import Engine
from tests.backends import smallengine
from tests.backends.smallengine import SmallEngine

WAYS: list[dict[str, Any]] = [
    {},
    {"live_restore": True},
    {"bridge": None},
    {"bridge": None, "live_restore": True},
]


async def met(engine: SmallEngine, owner: str = "lab") -> Native:
    """A server that has just come to the engine."""
    native = Native(Engine(engine.url))
    native.owner = owner
    await native.engine.open()
    assert await native.meet() == "node"
    return native


@pytest.mark.parametrize("configured", WAYS)
async def test_what_was_made_in_another_life_is_known_however_the_engine_is_configured(
    configured: dict[str, Any],
) -> None:
    async with smallengine.running(**configured) as engine:
        former = await met(engine)
        made = {STARTED: former.life}
        same = await met(engine)
        await same.learn_life()
        assert former.life and not same.is_another_life(made)
        engine.restart()
        successor = await met(engine)
        assert successor.is_another_life(made)
        await former.learn_life()
        assert former.life == successor.life
        for native in (former, same, successor):
            await native.engine.close()


async def test_only_an_engine_whose_network_does_not_tell_has_a_mark_and_one_for_all_replicas() -> None:
    async with smallengine.running(live_restore=True) as engine:
        replicas = await asyncio.gather(*(met(engine) for _ in range(5)))
        assert len({native.life for native in replicas}) == 1
        other = await met(engine, owner="other")
        assert sorted(engine.containers) == ["rungraph-lab.life", "rungraph-other.life"]
        assert await other.containers("any") == []
        engine.live_restore = False
        told = await met(engine)
        assert engine.bridge is not None and told.life == engine.bridge[:16]
        for native in (*replicas, other, told):
            await native.engine.close()


async def test_a_mark_is_nothing_that_a_backend_holds() -> None:
    async with smallengine.running(bridge=None) as engine:
        native = await met(engine)
        assert await native.all_workers() == []
        assert await native._list() == []
        await native.engine.close()
