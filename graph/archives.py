"""A run as a whole, in one zip file that is made while it is sent.

    run.json                    the run, its jobs and attempts, as the API tells them
    pipeline.yaml               the revision that it executed
    metrics.csv                 every point of every attempt
    inputs/NAME                 its input files
    jobs/STEP/logs/A-R.log      what rank R of attempt A printed
    jobs/STEP/outputs/NAME      what the step made

Contents of files are stored as they are, all else is deflated. A name that a file system would take for a path loses
what makes it one; where two names become the same, the later has a number.
"""

import asyncio
import re
import secrets
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request

from db import exports, files, runs
from db.curves import Wanted
from db.files import FileState
from db.points import Points
from db.viewers import Viewer
from graph import log_text, nodes
from graph.context import Context
from graph.encoding import encode
from graph.export_formats import ExportFormat, Sink, Writer, few, writer
from graph.http import Endpoint
from graph.surroundings import Surroundings

_READ_BYTES = 1 << 20
_NAME_BYTES = 200
"""File systems take 255; a number may have to be added."""
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Windows takes these for devices, whatever comes after the dot."""
_JOB = """id step state reason message exitCode arguments matrix output needs workers queuedAt startedAt endedAt
  attempts { id number reason message exitCode startedAt endedAt workers { rank phase exitCode node } }
  inputs { id name sizeBytes sha256 } outputs { id name sizeBytes sha256 mediaType tags url }
  logGaps { attempt rank fromLine toLine sizeBytes }"""
RUN = f"""query Archive($id: ID!) {{ run(id: $id) {{
  id name state external notes archived createdAt startedAt endedAt
  tags {{ name value }} project {{ id name }} pipeline {{ id name }} revision {{ id number yaml }}
  files {{ id name sizeBytes sha256 }} metrics {{ name last lastStep min minStep max maxStep }}
  timeline {{ seq at kind step state reason message }}
  jobs {{ {_JOB} }} }} }}"""


async def table(made: Writer, parts: AsyncIterator[list[Points]]) -> AsyncIterator[bytes]:
    """The bytes of a table of these points."""
    yield made.begin()
    async for some in parts:
        for pieces in few(some, made.most):
            yield await asyncio.to_thread(made.add, pieces)
    yield await asyncio.to_thread(made.end)


class Archive:
    """The zip file of one run, for who may see it."""

    def __init__(self, request: Request, around: Surroundings, viewer: Viewer, run_id: bytes) -> None:
        self._request, self._around, self._viewer, self._run_id = request, around, viewer, run_id
        self._sink = Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._names: set[str] = set()

    async def stream(self) -> AsyncIterator[bytes]:
        """What the file consists of, in order."""
        run = await self._described()
        async for part in self._member("run.json", _once(orjson.dumps(run, option=orjson.OPT_INDENT_2))):
            yield part
        if run["revision"] is not None:
            async for part in self._member("pipeline.yaml", _once(run["revision"].pop("yaml").encode())):
                yield part
        async for part in self._metrics():
            yield part
        for file in run["files"]:
            async for part in self._file(f"inputs/{_plain(file['name'])}", file):
                yield part
        for job in run["jobs"]:
            async for part in self._job(job):
                yield part
        async with self._around.database.read() as session:
            # Raises where it was deleted half way: this is not its end.
            await runs.get(session, self._viewer, self._run_id)
        await asyncio.to_thread(self._zip.close)
        yield self._sink.take()

    async def _described(self) -> Any:
        context = Context(self._request, self._around, viewer=self._viewer, request_id=secrets.token_hex(8))
        endpoint: Endpoint = self._request.app.state.endpoint
        variables = {"id": self._request.path_params["id"]}
        result = await endpoint.schema.execute(RUN, variables, context)
        if result.errors or result.data is None:
            raise RuntimeError(f"a run cannot be described: {result.errors}")
        return orjson.loads(encode(result.data["run"]))

    async def _metrics(self) -> AsyncIterator[bytes]:
        wanted = Wanted(runs=[self._run_id], names=[], latest=False)
        found = await exports.found(self._around.database, self._viewer, wanted, every=True)
        if found:
            content = table(writer(ExportFormat.CSV), exports.parts(self._around.database, found))
            async for part in self._member("metrics.csv", content):
                yield part

    async def _job(self, job: Any) -> AsyncIterator[bytes]:
        folder = f"jobs/{_plain(job['step'])}"
        job_id = nodes.key("job", job["id"], "job")
        for attempt in job["attempts"]:
            for worker in attempt["workers"]:
                number, rank = attempt["number"], worker["rank"]
                lines = log_text.whole(self._around, self._viewer, job_id, number, rank)
                async for part in self._member(f"{folder}/logs/{number}-{rank}.log", lines):
                    yield part
        for file in job["outputs"]:
            async for part in self._file(f"{folder}/outputs/{_plain(file['name'])}", file):
                yield part

    async def _file(self, name: str, file: Any) -> AsyncIterator[bytes]:
        async with self._around.database.read() as session:
            found = await files.find(session, self._viewer, nodes.key("file", file["id"]))
        if found is None or found.state is not FileState.READY or found.sha256 is None:
            return  # a job reads its inputs alone
        path = self._around.blobs.path(found.sha256)
        # Contents may be freed; run.json names the file all the same.
        if await asyncio.to_thread(path.is_file):
            async for part in self._member(name, _content(path), zipfile.ZIP_STORED):
                yield part

    async def _member(
        self, name: str, content: AsyncIterator[bytes], method: int = zipfile.ZIP_DEFLATED
    ) -> AsyncIterator[bytes]:
        entry = zipfile.ZipInfo(self._free(name), datetime.now(UTC).timetuple()[:6])
        entry.compress_type = method
        entry.external_attr = 0o644 << 16
        with self._zip.open(entry, "w", force_zip64=True) as member:
            async for part in content:
                await asyncio.to_thread(member.write, part)
                yield self._sink.take()
        yield self._sink.take()

    def _free(self, name: str) -> str:
        """The name, or one like it that no member has, whatever the case of its letters."""
        free, number = name, 1
        while free.lower() in self._names:
            number += 1
            stem, dot, suffix = name.rpartition(".")
            free = f"{stem}-{number}.{suffix}" if dot and "/" not in suffix else f"{name}-{number}"
        self._names.add(free.lower())
        return free


def _plain(name: str) -> str:
    """A name that is no path, on any system."""
    cut = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).encode("utf-8", "replace")[:_NAME_BYTES]
    plain = cut.decode("utf-8", "ignore").strip(" .")
    return f"_{plain}" if not plain or _DEVICE.fullmatch(plain) else plain


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _content(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while part := await asyncio.to_thread(source.read, _READ_BYTES):
            yield part
