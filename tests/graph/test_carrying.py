"""The listener for jobs elsewhere: what a job's token opens there, and that nothing else does."""

import asyncio
import io
import json
import socket
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from graph.settings import Settings
from tests.graph.conftest import Serve
from tests.graph.serving import Server
from tests.processes import Alone
from tests.test_replicas import copy_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAITS = """
import os, pathlib, time
pathlib.Path({told!r}).write_text(os.environ['RUNGRAPH_TOKEN'])
print('up', flush=True)
while not pathlib.Path({told!r} + '.go').exists(): time.sleep(0.02)
"""
LOG = """mutation { logMetrics(input: {
  producer: "p", number: 1, series: [{name: "loss", steps: [1], values: [0.5]}]}) { errors { message } } }"""


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest_asyncio.fixture(loop_scope="module")
async def door(serve: Serve, tmp_path: Path) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    address = _free_address()
    async with (
        serve(jobs_listen=address) as server,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        yield server, client


async def _running(server: Server, told: Path) -> tuple[Any, str]:
    """A run whose one job has an input and waits, and the job's token."""
    file = await server.upload("données.bin", b"0123456789" * 1000)
    pipeline = await server.pipeline({"step": WAITS.format(told=str(told))})
    run = await server.start(pipeline, files=[file])
    await server.until(run["id"], "LinesAdded")
    return run, told.read_text()


async def test_a_job_fetches_what_it_is_given_while_it_runs(
    door: tuple[Server, httpx.AsyncClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = door
    told = tmp_path / "token"
    run, token = await _running(server, told)
    headers = {"Authorization": f"Bearer {token}"}

    source = await client.get("/attempt/source.tar", headers=headers)
    with tarfile.open(fileobj=io.BytesIO(source.content)) as tar:
        names = tar.getnames()
    assert "source/rungraph.yaml" in names
    assert "client/rungraph/log.py" in names
    assert names[-1] == "complete"

    whole = await client.get("/attempt/inputs/données.bin", headers=headers)
    assert whole.content == b"0123456789" * 1000
    rest = await client.get("/attempt/inputs/données.bin", headers={**headers, "Range": "bytes=9995-"})
    assert (rest.status_code, rest.content) == (206, b"56789")
    assert (await client.get("/attempt/inputs/other", headers=headers)).status_code == 404
    assert (await client.get("/attempt/inputs/../../token", headers=headers)).status_code == 404

    viewer = await client.post("/graphql", json={"query": "{ viewer { kind } }"}, headers=headers)
    assert viewer.json() == {"data": {"viewer": {"kind": "JOB"}}}

    await _try_ranges(client, headers, whole)
    await _hang_up(client, headers)
    assert not [each for each in caplog.records if each.levelname == "ERROR"], (
        "a job may be killed as it reports"
    )

    told.with_name("token.go").touch()
    await server.finish(run["id"])
    assert (await client.get("/attempt/source.tar", headers=headers)).status_code == 401


async def _try_ranges(client: httpx.AsyncClient, headers: dict[str, str], whole: httpx.Response) -> None:
    """Whatever is asked for of an input is a part of it, said to be one, or refused."""
    content, tag = whole.content, whole.headers["etag"]
    for asked, status, first, stop in (
        ("bytes=9998-20000", 206, 9998, 10_000),
        ("bytes=-3", 206, 9997, 10_000),
        ("bytes=5-5", 206, 5, 6),
        ("bytes=10000-", 416, 0, 0),
        ("bytes=20000-30000", 416, 0, 0),
    ):
        part = await client.get(
            "/attempt/inputs/données.bin", headers={**headers, "Range": asked, "If-Range": tag}
        )
        assert part.status_code == status, asked
        if status == 206:
            assert part.content == content[first:stop]
            assert part.headers["content-range"] == f"bytes {first}-{stop - 1}/{len(content)}"
    for asked, tag in (("bytes=5-", '"another"'), ("bytes=5-", "Sat, 01 Jan 2000 00:00:00 GMT")):
        other = await client.get(
            "/attempt/inputs/données.bin", headers={**headers, "Range": asked, "If-Range": tag}
        )
        assert (other.status_code, other.content) == (200, content)
    several = await client.get(
        "/attempt/inputs/données.bin", headers={**headers, "Range": "bytes=0-1,9000-9001"}
    )
    assert several.status_code == 206 and several.headers["content-type"].startswith("multipart/byteranges")


async def _hang_up(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Send half a report, and go."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = {**headers, "Host": "here", "Content-Type": "application/json", "Content-Length": "1000"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /graphql HTTP/1.1\r\n{lines}\r\n".encode() + b'{"query": "mutation')
    await writer.drain()
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_a_supervisor_without_the_api_listens_too(
    serve: Serve, database_url: str, tmp_path: Path
) -> None:
    address, told, home = _free_address(), tmp_path / "token", tmp_path / "alone"
    async with serve(files_url=tmp_path / "contents") as server:
        copy_keys(server.home, home)
        run, token = await _running(server, told)
        alone = Alone(
            home,
            database_url,
            RUNGRAPH_PUBLIC_URL=server.url,
            RUNGRAPH_FILES_URL=str(tmp_path / "contents"),
            RUNGRAPH_JOBS_LISTEN=address,
        )
        headers = {"Authorization": f"Bearer {token}"}
        try:
            await alone.again()
            async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as client:
                source = await client.get("/attempt/source.tar")
                with tarfile.open(fileobj=io.BytesIO(source.content)) as tar:
                    assert {"source/rungraph.yaml", "client/rungraph/log.py"} <= {*tar.getnames()}
                assert (await client.get("/attempt/inputs/données.bin")).content == b"0123456789" * 1000
                answer = await client.post("/graphql", json={"query": LOG})
                assert answer.json() == {"data": {"logMetrics": {"errors": []}}}
                client.headers["Authorization"] = server.bearer
                assert (await client.post("/graphql", json={"query": LOG})).status_code == 401
        finally:
            assert alone.stop() == 0, alone.told()
        told.with_name("token.go").touch()
        await server.until(run["id"], "PointsAdded")
        await server.finish(run["id"])


async def test_no_other_token_opens_anything(door: tuple[Server, httpx.AsyncClient]) -> None:
    server, client = door
    for token in (server.client.token, "rg_j_attempt_x.y", "nobody"):
        headers = {"Authorization": f"Bearer {token}"}
        for answer in (
            await client.get("/attempt/source.tar", headers=headers),
            await client.post("/graphql", json={"query": "{ __typename }"}, headers=headers),
            await client.get("/files/x", headers=headers),
            await client.get("/", headers=headers),
        ):
            assert answer.status_code == 401, answer.text
            assert json.loads(answer.text)["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await client.get("/health")).json() == {"status": "ok"}


async def test_a_report_without_a_length_is_refused(
    door: tuple[Server, httpx.AsyncClient], tmp_path: Path
) -> None:
    server, client = door
    told = tmp_path / "token"
    run, token = await _running(server, told)

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"

    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.post("/graphql", content=endless(), headers=headers)).status_code == 413
    told.with_name("token.go").touch()
    await server.finish(run["id"])


@pytest.mark.parametrize("wrong", ["8001", "host:", ":8001", "host:99999", "host:http"])
async def test_an_address_says_host_and_port(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        Settings(jobs_listen=wrong)


async def test_an_address_that_is_taken_ends_the_start_in_words(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit, match=f"cannot listen on {address}"):
            async with asyncio.timeout(60), serve(jobs_listen=address):
                pass
