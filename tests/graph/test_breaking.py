"""What breaks off over real sockets, on either side: no half is taken for a whole, and another try is like a first."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from db import errors, log_search
from graph import archives, log_text, nodes
from graph.content import Streamed
from tests.backends.grounds import eventually
from tests.graph.serving import Server, listening

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT = bytes(range(256)) * 8_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PRINTS = """
import os, sys, time
for number in range(5):
    print("line", number, flush=True)
    time.sleep(0.3)
with open(os.environ["RUNGRAPH_OUTPUT"] + "/model.bin", "wb") as file:
    file.write(bytes(1000))
"""


async def _send(server: Server, file: str, head: str, body: bytes) -> bytes:
    """What is answered to so much of an upload; nothing where the connection was closed without an answer."""
    url = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = (
        f"PUT /files/{file} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: {server.bearer}\r\n{head}\r\n\r\n"
    )
    writer.write(lines.encode() + body)
    await writer.drain()
    writer.write_eof()
    answer = b""
    with suppress(ConnectionResetError):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(f"Content-Length: {len(CONTENT)}", b"", id="before the content"),
        pytest.param(f"Content-Length: {len(CONTENT)}", CONTENT[:1_500_000], id="half way"),
        pytest.param(f"Content-Length: {len(CONTENT)}", CONTENT[:-1], id="before the last byte"),
        pytest.param(
            "Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(CONTENT), CONTENT), id="no last chunk"
        ),
        pytest.param(
            "Transfer-Encoding: chunked", b"%x\r\n%b" % (len(CONTENT), CONTENT[:999]), id="in a chunk"
        ),
        pytest.param("Transfer-Encoding: chunked", b"zz\r\n" + CONTENT, id="nonsense for a chunk"),
    ],
)
async def test_an_upload_that_breaks_off_leaves_nothing_and_is_sent_again(
    server: Server, caplog: pytest.LogCaptureFixture, head: str, body: bytes
) -> None:
    file = await server.announce("a.bin", len(CONTENT))
    answer = await _send(server, file, head, body)
    assert not answer.startswith(b"HTTP/1.1 2")
    await eventually(lambda: _is_clean(server))
    whole = await _send(server, file, f"Content-Length: {len(CONTENT)}\r\nConnection: close", CONTENT)
    assert whole.startswith(b"HTTP/1.1 204")
    told = await server.change(
        "completeUpload", "file { state }", id=file, sha256=DIGEST, sizeBytes=len(CONTENT)
    )
    assert told == {"file": {"state": "READY"}, "errors": []}
    assert not [each for each in caplog.records if each.levelname == "ERROR"], "a client may go"


async def _is_clean(server: Server) -> bool:
    """Whether no half of a content lies where contents are written."""
    return not list((server.around.blobs.path(DIGEST).parents[2] / "tmp").glob("*"))


async def test_two_who_send_one_upload_at_once_leave_one_whole_content(server: Server) -> None:
    file = await server.announce("a.bin", len(CONTENT))
    other = CONTENT[::-1]
    answers = await asyncio.gather(*(server.put(file, content) for content in (CONTENT, other) * 4))
    assert {answer.status_code for answer in answers} == {204}
    tried = [
        await server.change(
            "completeUpload", "file { state sha256 }", id=file, sha256=sha256, sizeBytes=len(CONTENT)
        )
        for sha256 in (DIGEST, hashlib.sha256(other).hexdigest())
    ]
    (told,) = [each["file"] for each in tried if not each["errors"]]
    got = await server.get(f"/files/{file}")
    assert hashlib.sha256(got.content).hexdigest() == told["sha256"]


@pytest.mark.parametrize("pieces", [0, 1, 50])
async def test_what_is_made_while_it_is_sent_and_fails_half_way_has_no_end(pieces: int) -> None:
    async def half() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield bytes(1 << 16)
        raise errors.Conflict("gone")

    async def answer(_: Request) -> Streamed:
        return Streamed(half(), media_type="text/csv")

    app = Starlette(routes=[Route("/", answer)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with listening(app, listener), httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")


async def test_an_archive_of_a_run_that_is_deleted_meanwhile_has_no_end(server: Server) -> None:
    run = await server.play(PRINTS)
    viewer = await server.around.credentials.viewer(str(server.client.token))
    assert viewer is not None
    scope = {"type": "http", "app": server.app, "path_params": {"id": run["id"]}, "headers": []}
    parts = archives.Archive(Request(scope), server.around, viewer, nodes.key("run", run["id"])).stream()
    assert await anext(parts)
    await server.change("deleteRun", "id", id=run["id"])
    with pytest.raises(errors.NotFound):
        async for _ in parts:
            pass


async def test_a_log_of_a_job_that_is_deleted_meanwhile_has_no_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "_CHUNKS_AT_ONCE", 1)
    run = await server.play(PRINTS)
    viewer = await server.around.credentials.viewer(str(server.client.token))
    assert viewer is not None
    job_id = nodes.key("job", run["jobs"][0]["id"])
    lines = log_text.whole(server.around, viewer, job_id, 1, 0)
    whole = [part async for part in log_text.whole(server.around, viewer, job_id, 1, 0)]
    assert len(whole) > 1 and b"".join(whole) == b"".join(b"line %d\n" % number for number in range(5))
    assert await anext(lines) == whole[0]
    await server.change("deleteRun", "id", id=run["id"])
    with pytest.raises(errors.NotFound, match="was deleted while its log was read"):
        async for _ in lines:
            pass
