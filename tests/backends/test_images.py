"""Images made by a real engine: of a Dockerfile, of requirements, and what is said when none can be made."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.base import BackendUnavailable, PreparationFailed, PrepareSpec
from backends.engines import Engine
from backends.images import Image, Images
from tests.backends import enginehouse

pytestmark = pytest.mark.docker


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with enginehouse.running() as engine:
        yield engine


class Builds:
    """The images of a test, which are gone after it, and what was told while they were made."""

    def __init__(self, engine: Engine, source: Path) -> None:
        self.images = Images(engine, enginehouse.BUILDING, f"test-{secrets.token_hex(4)}")
        self.source = source
        self.told: list[str] = []
        self.made: list[Image] = []

    async def log(self, line: str) -> None:
        self.told.append(line)

    async def prepare(
        self, *requirements: str, dockerfile: str | None = None, image: str | None = None
    ) -> Image:
        digest = str(self.source)
        spec = PrepareSpec("v1", self.source, requirements, None, digest, image, dockerfile)
        self.made.append(await self.images.prepare(spec, self.log))
        return self.made[-1]

    def dockerfile(self, *lines: str) -> None:
        (self.source / "Dockerfile").write_text("\n".join([f"FROM {enginehouse.BASE}", *lines, ""]))


@pytest.fixture
async def builds(engine: Engine, tmp_path: Path) -> AsyncIterator[Builds]:
    builds = Builds(engine, tmp_path)
    yield builds
    for image in builds.made:
        await builds.images.discard(image.reference)


async def test_a_module_that_asks_for_nothing_gets_the_base_as_it_is_now(builds: Builds) -> None:
    base = await builds.images.find(enginehouse.BASE)
    assert base is not None
    assert await builds.prepare() == await builds.prepare(image=enginehouse.BASE) == base
    assert (base.reference, builds.told) == (base.id, [])
    assert base.id.startswith("sha256:")
    await builds.images.discard(base.reference)
    assert await builds.images.find(enginehouse.BASE) == base


async def test_a_dockerfile_is_built_once_with_its_log_as_it_appears(builds: Builds, engine: Engine) -> None:
    (builds.source / "data").mkdir()
    (builds.source / "data" / "kept.txt").write_text("kept")
    (builds.source / "data" / "left.pyc").write_text("left")
    (builds.source / ".dockerignore").write_text("**/*.pyc\n")
    builds.dockerfile("COPY . /module", "RUN ls /module/data; echo >&2 'it says so'", 'CMD ["python"]')
    image = await builds.prepare(dockerfile="Dockerfile")
    assert {"kept.txt", "it says so"} <= set(builds.told)
    assert "left.pyc" not in builds.told
    builds.told.clear()
    again = Builds(engine, builds.source)
    again.images.owner = builds.images.owner
    assert await again.prepare(dockerfile="Dockerfile") == image
    assert again.told == []
    assert await builds.images.find(image.name) == image
    await builds.images.discard(image.reference)
    await builds.images.discard(image.reference)
    assert await builds.images.find(image.name) is None


async def test_an_image_of_two_servers_stays_until_both_have_discarded_it(
    builds: Builds, engine: Engine
) -> None:
    builds.dockerfile("RUN echo ours > /ours")
    ours = await builds.prepare(dockerfile="Dockerfile")
    other = Builds(engine, builds.source)
    theirs = await other.prepare(dockerfile="Dockerfile")
    assert theirs.id == ours.id and theirs.name != ours.name
    await builds.images.discard(ours.reference)
    assert await builds.images.find(ours.name) is None
    assert await other.images.find(theirs.reference) is not None
    await other.images.discard(theirs.reference)
    assert await other.images.find(theirs.reference) is None


async def test_an_image_that_a_container_has_stays(builds: Builds, engine: Engine) -> None:
    builds.dockerfile("RUN echo used > /used")
    image = await builds.prepare(dockerfile="Dockerfile")
    made = await engine.json("POST", "containers/create", given={"Image": image.id, "Cmd": ["true"]})
    try:
        with pytest.raises(BackendUnavailable, match="container"):
            await builds.images.discard(image.reference)
        assert await builds.images.find(image.reference) is not None
    finally:
        await engine.json("DELETE", f"containers/{made['Id']}")
    await builds.images.discard(image.reference)
    assert await builds.images.find(image.reference) is None


async def test_requirements_are_installed_above_whatever_the_module_brings(builds: Builds) -> None:
    builds.dockerfile("RUN echo mine > /mine")
    image = await builds.prepare("cronsim==2.8", dockerfile="Dockerfile")
    assert any(line.startswith("Successfully installed cronsim-2.8") for line in builds.told)
    assert image.name.startswith(f"rungraph/environment:{builds.images.owner}-")
    assert image.id != (await builds.prepare(dockerfile="Dockerfile")).id


async def test_a_step_that_fails_is_told_in_its_own_last_words(builds: Builds) -> None:
    builds.dockerfile("RUN echo fine", "RUN echo 'no such thing' >&2; exit 3")
    with pytest.raises(PreparationFailed) as failed:
        await builds.prepare(dockerfile="Dockerfile")
    first, *_, last = str(failed.value).splitlines()
    assert first.startswith("Step 3/")
    assert "no such thing" in str(failed.value)
    assert last.endswith("returned a non-zero code: 3")


async def test_a_dockerfile_that_cannot_be_read_is_told_so(builds: Builds) -> None:
    builds.dockerfile("FROBNICATE all")
    with pytest.raises(PreparationFailed, match="FROBNICATE"):
        await builds.prepare(dockerfile="Dockerfile")


async def test_an_image_that_nobody_has_fails_with_its_name(builds: Builds) -> None:
    with pytest.raises(PreparationFailed, match=r"nowhere\.invalid"):
        await builds.prepare(image="nowhere.invalid/nothing:1")
    assert builds.told == ["Pulling nowhere.invalid/nothing:1"]
