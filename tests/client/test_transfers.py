"""File contents up and down, whole or not at all."""

import asyncio
import contextlib
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rungraph import transfers
from rungraph.api import Client
from rungraph.backoff import Backoff
from rungraph.errors import ApiError, ClientError, Corrupted, Refused, Unreachable
from tests.client.peer import TOKEN, Peer, cut_short, range_start

QUICK = Backoff(first_seconds=0.001, most_seconds=0.002, patience_seconds=5)
CONTENT = bytes(range(256)) * 12_000  # three pieces


def client_of(peer: Peer) -> Client:
    return Client(peer.url, TOKEN, for_requests=QUICK)


def offer(peer: Peer, content: bytes, **changed: Any) -> dict[str, Any]:
    """Has the peer hold a file, and its description."""
    peer.contents["f"] = content
    sha256 = hashlib.sha256(content).hexdigest()
    file = {"id": "file_1", "name": "data.bin", "state": "READY", "sizeBytes": len(content), "sha256": sha256}
    return file | {"mediaType": "application/octet-stream", "url": "/contents/f"} | changed


def accept(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer take an upload; what completeUpload is told."""
    completed: list[dict[str, Any]] = []

    def complete(input: dict[str, Any]) -> dict[str, Any]:
        completed.append(input)
        file = {"id": "file_1", "name": "data.bin", "state": "READY", "mediaType": "text/plain"}
        return {"file": {**file, "sizeBytes": input["sizeBytes"], "sha256": input["sha256"]}, "errors": []}

    peer.fields["createUpload"] = {
        "file": {"id": "file_1"},
        "upload": {"url": "/contents/up"},
        "errors": [],
    }
    peer.fields["completeUpload"] = complete
    return completed


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
async def test_an_upload_arrives_with_its_size_and_sha256(peer: Peer, tmp_path: Path, content: bytes) -> None:
    completed = accept(peer)
    source = tmp_path / "data.csv"
    source.write_bytes(content)
    told: list[tuple[int, int]] = []
    async with client_of(peer) as client:
        file = await transfers.upload(client, source, progress=lambda *done: told.append(done))
    assert peer.uploaded == {"up": content}
    sha256 = hashlib.sha256(content).hexdigest()
    assert completed == [{"id": "file_1", "sha256": sha256, "sizeBytes": len(content)}]
    assert file["state"] == "READY"
    assert told == ([] if not content else [*told[:-1], (len(content), len(content))])
    created = peer.operations[0][1]["input"]
    assert created == {"name": "data.csv", "sizeBytes": len(content), "mediaType": "text/csv", "tags": {}}


async def test_an_upload_starts_over_when_the_server_is_busy(peer: Peer, tmp_path: Path) -> None:
    accept(peer)
    (tmp_path / "data").write_bytes(CONTENT)
    peer.file_faults = [lambda request: PlainTextResponse("later", 503)]
    async with client_of(peer) as client:
        await transfers.upload(client, tmp_path / "data")
    assert peer.uploaded == {"up": CONTENT}


@contextlib.asynccontextmanager
async def taking(*stops: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that takes so much of an upload at each try, and a little later hangs up; the last time it takes all."""
    came: list[int] = []
    left = list(stops)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        size = left.pop(0) if left else int(length[1])
        body = await reader.readexactly(size)
        came.append(len(body))
        await asyncio.sleep(0.3)
        if size == int(length[1]):
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            writer.close()
        else:
            writer.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # else it takes megabytes unread
        async with await asyncio.start_server(serve, sock=listener, limit=1 << 16):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", came


async def test_an_upload_that_comes_farther_each_time_is_not_given_up(tmp_path: Path) -> None:
    with (tmp_path / "data").open("wb") as file:
        file.truncate(48 << 20)
    hasty = Backoff(first_seconds=0.001, most_seconds=0.002, patience_seconds=0.2)
    async with taking(8 << 20, 24 << 20) as (url, came), Client(url, TOKEN, for_requests=hasty) as client:
        sha256 = await transfers._put(client, "/up", tmp_path / "data", 48 << 20, transfers.unwatched)
    assert came == [8 << 20, 24 << 20, 48 << 20]
    assert sha256 == hashlib.sha256(bytes(48 << 20)).hexdigest()


async def test_an_upload_that_comes_no_farther_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    hasty = Backoff(first_seconds=0.001, most_seconds=0.002, patience_seconds=0.2)
    async with taking(*[1000] * 50) as (url, came), Client(url, TOKEN, for_requests=hasty) as client:
        with pytest.raises(Unreachable, match="lost the connection"):
            await transfers._put(client, "/up", tmp_path / "data", len(CONTENT), transfers.unwatched)
    assert 2 <= len(came) <= 5


async def test_a_server_that_takes_its_time_to_store_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(CONTENT)
    async with taking() as (url, came), Client(url, TOKEN) as client:
        client.http.timeout = httpx.Timeout(0.1)
        await transfers._put(client, "/up", tmp_path / "data", len(CONTENT), transfers.unwatched)
    assert came == [len(CONTENT)]


async def test_a_refused_upload_is_not_tried_again(peer: Peer, tmp_path: Path) -> None:
    completed = accept(peer)
    (tmp_path / "data").write_bytes(b"x")
    peer.file_faults = [lambda request: PlainTextResponse("the disk is full", 413)]
    async with client_of(peer) as client:
        with pytest.raises(ApiError, match="the disk is full") as caught:
            await transfers.upload(client, tmp_path / "data")
    assert (caught.value.code, completed) == ("LIMIT_EXCEEDED", [])


async def test_a_file_that_shrinks_while_it_is_sent_is_told(peer: Peer, tmp_path: Path) -> None:
    accept(peer)
    source = tmp_path / "data"
    source.write_bytes(CONTENT)

    def shrink(done_bytes: int, total_bytes: int) -> None:
        source.write_bytes(b"")

    async with client_of(peer) as client:
        with pytest.raises(ClientError, match="became shorter"):
            await transfers.upload(client, source, progress=shrink)


async def test_a_refusal_ends_the_upload(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    error = {"code": "LIMIT_EXCEEDED", "message": "too large", "path": ["sizeBytes"], "retryable": False}
    peer.fields["createUpload"] = {"file": None, "upload": None, "errors": [error]}
    async with client_of(peer) as client:
        with pytest.raises(Refused, match="too large"):
            await transfers.upload(client, tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
async def test_a_download_is_the_file_and_leaves_no_part(peer: Peer, tmp_path: Path, content: bytes) -> None:
    told: list[tuple[int, int]] = []
    async with client_of(peer) as client:
        target = await transfers.download(
            client, offer(peer, content), tmp_path / "got", progress=lambda *done: told.append(done)
        )
    assert target.read_bytes() == content
    assert list(tmp_path.glob("*.part")) == []
    assert told == ([] if not content else [*told[:-1], (len(content), len(content))])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=5), there=st.integers(0, len(CONTENT) + 5))
async def test_a_download_goes_on_where_it_was_cut(
    peer: Peer, tmp_path: Path, cuts: list[int], there: int
) -> None:
    peer.file_faults = [_cut_after(cut) for cut in cuts]
    target = tmp_path / "got"
    (tmp_path / "got.part").write_bytes((CONTENT + b"extra")[:there])
    async with client_of(peer) as client:
        await transfers.download(client, offer(peer, CONTENT), target)
    assert target.read_bytes() == CONTENT
    peer.file_faults.clear()


async def test_only_what_is_missing_is_fetched(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "got.part").write_bytes(CONTENT[:1000])
    async with client_of(peer) as client:
        await transfers.download(client, offer(peer, CONTENT), tmp_path / "got")
    assert peer.ranges == ["bytes=1000-"]


async def test_a_part_of_something_else_is_fetched_anew(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "got.part").write_bytes(b"something else")
    async with client_of(peer) as client:
        await transfers.download(client, offer(peer, CONTENT), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert peer.ranges == ["bytes=14-", None]


async def test_a_server_without_ranges_sends_it_from_the_start(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "got.part").write_bytes(CONTENT[:1000])
    peer.file_faults = [lambda request: Response(CONTENT)]
    async with client_of(peer) as client:
        await transfers.download(client, offer(peer, CONTENT), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT


async def test_a_corrupted_download_is_not_kept(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "got").write_bytes(b"what was there before")
    file = offer(peer, CONTENT)
    peer.contents["f"] = CONTENT[:-1] + b"!"
    async with client_of(peer) as client:
        with pytest.raises(Corrupted, match="SHA-256"):
            await transfers.download(client, file, tmp_path / "got")
    assert [path.name for path in tmp_path.glob("got*")] == ["got"]
    assert (tmp_path / "got").read_bytes() == b"what was there before"


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (None, "NOT_FOUND"),
        ({"state": "UPLOADING", "sha256": None, "url": None}, "CONFLICT"),
    ],
)
async def test_only_a_whole_file_is_described(peer: Peer, file: dict[str, Any] | None, code: str) -> None:
    peer.fields["file"] = file and offer(peer, b"x", **file)
    async with client_of(peer) as client:
        with pytest.raises(ApiError) as caught:
            await transfers.describe(client, "file_1")
    assert caught.value.code == code


def _cut_after(count: int) -> Callable[[Request], Response]:
    """An answer to a range that stops after `count` bytes, as a lost connection does."""

    def answer(request: Request) -> Response:
        start = range_start(request)
        rest = CONTENT[start:]
        status = 206 if start else 200
        if count >= len(rest):
            headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
            return Response(rest, status, headers)
        return cut_short(rest[:count], len(rest), status, start)

    return answer
