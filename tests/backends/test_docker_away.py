"""What the Docker adapter makes of an engine, or a disk of ours, that is not as it should be; with a small engine."""

import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from backends import base
from backends.docker import Docker
from backends.docker_options import DockerOptions
from tests.backends import disks, smallengine
from tests.backends.smallengine import SmallEngine

HANDLE = {"name": "job", "workers": 1}


@pytest.fixture
async def engine() -> AsyncIterator[SmallEngine]:
    async with smallengine.running() as engine:
        yield engine


@pytest.fixture
async def adapter(engine: SmallEngine, tmp_path: Path) -> AsyncIterator[Docker]:
    opened = Docker(tmp_path / "home", DockerOptions(host=engine.url, owner="me"))
    await opened.open()
    yield opened
    await opened.close()


def archive(folder: str, size: int) -> bytes:
    """As the engine gives a folder with one large file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        member = tarfile.TarInfo(f"{folder}/kept/large" if "spool" in folder else f"{folder}/large")
        member.size = size
        tar.addfile(member, io.BytesIO(bytes(size)))
    return written.getvalue()


@pytest.mark.parametrize(
    ("what", "container", "folder"),
    [("outputs", "rungraph-me-job", "output"), ("spool", "rungraph-me-job-0", "rungraph-spool")],
)
async def test_a_disk_of_ours_that_is_full_is_tried_again_when_there_is_room(
    adapter: Docker, engine: SmallEngine, what: str, container: str, folder: str
) -> None:
    engine.archives[container] = archive(folder, 2 << 20)
    with disks.full(), pytest.raises(base.BackendUnavailable, match="cannot be written"):
        await getattr(adapter, what)(HANDLE)
    found = await getattr(adapter, what)(HANDLE)
    assert [path.stat().st_size for path in found.rglob("*") if path.is_file()] == [2 << 20]


async def test_a_disk_that_takes_no_archive_of_what_a_job_is_given_is_tried_again(
    adapter: Docker, engine: SmallEngine, tmp_path: Path
) -> None:
    engine.names["python:3.11-slim"] = "sha256:base"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(bytes(9 << 20))
    spec = base.JobSpec("job", ("x",), tmp_path / "source", prepared=None, input_document=b"{}")
    with disks.full(), pytest.raises(base.BackendUnavailable, match="cannot be packed"):
        await adapter.launch(spec)
    assert list(engine.containers) == ["rungraph-me-job"], "the holder, which the next launch fills"


@pytest.mark.parametrize(
    ("said", "down"), [("context canceled", False), ("error reading from server: EOF", True)]
)
async def test_a_build_that_an_engine_ends_as_it_goes_down_is_no_failure_of_the_module(
    adapter: Docker, engine: SmallEngine, tmp_path: Path, said: str, down: bool
) -> None:
    async def silence(_: str) -> None:
        """Nobody listens."""

    async def build(_: Request) -> Response:
        engine.is_down = down
        return Response(json.dumps({"stream": "Step 1/2\n"}) + "\n" + json.dumps({"error": said}) + "\n")

    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\n")
    spec = base.PrepareSpec("v1", tmp_path, (), digest="abc", dockerfile="Dockerfile")
    engine.answers["build"] = build
    with pytest.raises(base.BackendUnavailable):
        await adapter.prepare(spec, silence)
    engine.is_down = False
    del engine.answers["build"]
    assert (await adapter.prepare(spec, silence)).startswith("sha256:")


@pytest.mark.parametrize("said", ['{"Id": "x", "Sta', "<html>be patient</html>"])
async def test_an_answer_that_is_no_json_is_not_the_engines(
    adapter: Docker, engine: SmallEngine, said: str
) -> None:
    async def page(_: Request) -> Response:
        return Response(said, media_type="application/json")

    engine.answers["info"] = page
    with pytest.raises(base.BackendUnavailable, match="is not the Docker engine, or broke off"):
        await adapter.capacity()
    del engine.answers["info"]
    assert await adapter.capacity() is not None
