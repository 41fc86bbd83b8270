"""Images of several servers on one small engine: each discards its own, and none that a container has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends import base
from backends.base import PrepareSpec
from backends.engines import Engine
from backends.images import Building, Images
from backends.kubernetes.building import Builder
from backends.kubernetes.options import KubernetesOptions
from tests.backends import smallengine
from tests.backends.smallengine import SmallEngine


@pytest.fixture
async def small() -> AsyncIterator[SmallEngine]:
    async with smallengine.running(names={"python:3.11-slim": "sha256:base"}) as engine:
        yield engine


@pytest.fixture
async def engine(small: SmallEngine) -> AsyncIterator[Engine]:
    engine = Engine(small.url)
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
def spec(tmp_path: Path) -> PrepareSpec:
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\n")
    return PrepareSpec("v1", tmp_path, (), digest="abc", dockerfile="Dockerfile")


async def silence(_line: str) -> None:
    """Nobody listens."""


async def test_of_several_servers_each_discards_its_own(engine: Engine, spec: PrepareSpec) -> None:
    ours, theirs = (Images(engine, Building(), name) for name in ("ours", "theirs"))
    one, two = await ours.prepare(spec, silence), await theirs.prepare(spec, silence)
    assert one.id == two.id and one.name != two.name
    for _ in range(2):
        await ours.discard(one.reference)
        assert await ours.find(one.name) is None
        assert await theirs.find(two.reference) is not None
    await theirs.discard(two.reference)
    assert await theirs.find(two.reference) is None
    assert await ours.find("python:3.11-slim") is not None


async def test_an_owner_whose_name_begins_like_ours_is_another(engine: Engine, spec: PrepareSpec) -> None:
    short, long = (Images(engine, Building(), name) for name in ("lab", "lab-2"))
    one, two = await short.prepare(spec, silence), await long.prepare(spec, silence)
    await short.discard(one.reference)
    assert await long.find(two.name) is not None


async def test_an_image_that_a_container_has_stays_until_it_has_not(
    small: SmallEngine, engine: Engine, spec: PrepareSpec
) -> None:
    images = Images(engine, Building(), "ours")
    made = await images.prepare(spec, silence)
    small.used.add(made.id)
    with pytest.raises(base.BackendUnavailable, match="conflict"):
        await images.discard(made.reference)
    assert await images.find(made.name) is not None
    small.used.clear()
    await images.discard(made.reference)
    assert await images.find(made.name) is None


async def test_what_pods_run_in_is_another_owners_than_what_containers_of_the_same_name_do(
    small: SmallEngine, engine: Engine, spec: PrepareSpec
) -> None:
    images = Images(engine, Building(), "lab")
    builder = Builder(KubernetesOptions(owner="lab", builder=small.url))
    ours = await images.prepare(spec, silence)
    theirs = await builder.prepare(spec, silence)
    assert ours.name != theirs.name
    await builder.discard(theirs)
    assert await images.find(ours.reference) is not None
    await builder.close()
