"""File contents: up in one stream with its SHA-256, down in as many ranges as it takes.

An upload is three steps, because contents never pass through GraphQL: createUpload says where, a PUT carries
the bytes, completeUpload says what they should have been. A download grows `NAME.part` and becomes NAME
only when its SHA-256 is right, so a file that stands there is whole.
"""

import asyncio
import hashlib
import mimetypes
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import httpx

from rungraph.api import Client
from rungraph.backoff import pause
from rungraph.errors import ApiError, ClientError, Corrupted, Unreachable
from rungraph.replies import failure

CHUNK_BYTES = 2**20
_STORED = httpx.Timeout(30, connect=5, read=600)
"""A content is answered for when it is on the server's disk, which takes its time over what it has only in memory."""

CREATE_UPLOAD = """mutation CreateUpload($input: CreateUploadInput!) {
  createUpload(input: $input) { file { id } upload { url } errors { code message path retryable } }
}"""

COMPLETE_UPLOAD = """mutation CompleteUpload($input: CompleteUploadInput!) {
  completeUpload(input: $input) {
    file { id name state sizeBytes sha256 mediaType }
    errors { code message path retryable }
  }
}"""

FILE = """query File($id: ID!) { file(id: $id) { id name state sizeBytes sha256 mediaType url } }"""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all, after every piece."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def unwatched(done_bytes: int, total_bytes: int) -> None:
    """Progress that nobody looks at."""


async def upload(
    client: Client, path: Path, *, tags: Mapping[str, Any] | None = None, progress: Progress = unwatched
) -> dict[str, Any]:
    """Stores the file at `path` on the server; its `File` when it is READY."""
    size = path.stat().st_size
    wanted: dict[str, Any] = {"name": path.name, "sizeBytes": size, "tags": dict(tags or {})}
    if media_type := mimetypes.guess_type(path.name)[0]:
        wanted["mediaType"] = media_type
    created = (await client.execute(CREATE_UPLOAD, {"input": wanted}))["createUpload"]
    sha256 = await _put(client, created["upload"]["url"], path, size, progress)
    complete = {"id": created["file"]["id"], "sha256": sha256, "sizeBytes": size}
    completed = await client.execute(COMPLETE_UPLOAD, {"input": complete}, repeatable=True)
    file: dict[str, Any] = completed["completeUpload"]["file"]
    return file


async def describe(client: Client, file_id: str) -> dict[str, Any]:
    """What the server knows of a file that is whole; raises ApiError NOT_FOUND, or CONFLICT if it is not."""
    file: dict[str, Any] | None = (await client.execute(FILE, {"id": file_id}))["file"]
    if file is None:
        raise ApiError("NOT_FOUND", f"there is no file “{file_id}”: see `rungraph file list`")
    if file["state"] != "READY" or not file["url"] or not file["sha256"]:
        raise ApiError("CONFLICT", f"{file_id} is still being uploaded")
    return file


async def download(
    client: Client, file: Mapping[str, Any], target: Path, *, progress: Progress = unwatched
) -> Path:
    """Fetches a described file to `target`, going on with a `.part` of it; raises Corrupted if it differs."""
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    await _fetch(client, file, part, progress)
    if resumed and await asyncio.to_thread(_sha256, part) != file["sha256"]:
        # What lay there was the beginning of something else.
        part.unlink()
        await _fetch(client, file, part, progress)
    if await asyncio.to_thread(_sha256, part) != file["sha256"]:
        part.unlink()
        raise Corrupted(f"what arrived is not {file['id']}: its SHA-256 is wrong; nothing was kept")
    part.replace(target)
    return target


async def _put(client: Client, url: str, path: Path, size: int, progress: Progress) -> str:
    """Sends the first `size` bytes of a file, from the start at every try; their SHA-256 in hex.

    Patience starts anew with every try that comes farther than those before.
    """
    delays = client.for_requests.delays()
    sent = farthest = 0

    def told(done_bytes: int, total_bytes: int) -> None:
        nonlocal sent
        sent = done_bytes
        progress(done_bytes, total_bytes)

    while True:
        digest = hashlib.sha256()
        content = _pieces(path, size, digest, told)
        lost: ClientError
        try:
            headers = {"Content-Length": str(size)}
            response = await client.http.put(url, content=content, headers=headers, timeout=_STORED)
        except httpx.TransportError as error:
            lost = Unreachable.lost(client.url, error)
        else:
            if response.is_success:
                return digest.hexdigest()
            lost = failure(response)
            if response.status_code != 503:
                raise lost
        if sent > farthest:
            farthest, delays = sent, client.for_requests.delays()
        await pause(delays, lost)


async def _pieces(path: Path, size: int, digest: _Digest, progress: Progress) -> AsyncIterator[bytes]:
    done = 0
    with path.open("rb") as source:
        while done < size:
            piece = await asyncio.to_thread(source.read, min(CHUNK_BYTES, size - done))
            if not piece:
                raise ClientError(f"{path} became shorter while it was being sent")
            digest.update(piece)
            yield piece
            done += len(piece)
            progress(done, size)


async def _fetch(client: Client, file: Mapping[str, Any], part: Path, progress: Progress) -> None:
    """Grows `part` until it is as long as the file; patience starts anew with every piece that comes."""
    size: int = file["sizeBytes"]
    part.touch()
    if part.stat().st_size > size:
        part.write_bytes(b"")
    delays = client.for_requests.delays()
    while (before := part.stat().st_size) < size:
        lost: ClientError = Unreachable.lost(client.url, "the answer ended early")
        try:
            await _fetch_range(client, file, part, progress)
        except httpx.TransportError as error:
            lost = Unreachable.lost(client.url, error)
        except ApiError as error:
            if not error.retryable:
                raise
            lost = error
        if part.stat().st_size > before:
            delays = client.for_requests.delays()
        else:
            await pause(delays, lost)


async def _fetch_range(client: Client, file: Mapping[str, Any], part: Path, progress: Progress) -> None:
    start, size = part.stat().st_size, file["sizeBytes"]
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    async with client.http.stream("GET", file["url"], headers=headers) as response:
        if not response.is_success:
            await response.aread()
            raise failure(response)
        # 200 to a range means the whole of it, from the start.
        with part.open("ab" if response.status_code == 206 else "wb") as sink:
            done = sink.tell()
            async for piece in response.aiter_bytes(CHUNK_BYTES):
                done += await _write(sink, piece[: size - done])
                progress(done, size)
                if done >= size:
                    return


async def _write(sink: BinaryIO, piece: bytes) -> int:
    return await asyncio.to_thread(sink.write, piece)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
