"""Describing versions of datasets: their files read in a process beside the server, one version at a time.

Intent lies in the database (PROFILING); whatever a crash interrupts is begun again from there. The process
is given paths of contents and says of each what its table is (profiler.py); one that takes too long or dies
costs that file its description and no more.
"""

import asyncio
import contextlib
import json
import sys

import structlog

from backends import profiler
from backends.blobs import Blobs
from backends.errands import POLL_SECONDS, Errands
from db import dataset_versions, profiles
from db.database import Database
from db.dataset_versions import Member
from db.profiles import Profile

log = structlog.get_logger(__name__)

_FILE_SECONDS = 600.0
_MOST_ANSWER_BYTES = 16 << 20
_COMMAND = ("-P", "-m", profiler.__name__)


class Profiler:
    """Describes whatever version waits for it."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        file_seconds: float = _FILE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._file_seconds = file_seconds
        self._errands = Errands(database, self.step, poll_seconds=poll_seconds)

    def open(self) -> None:
        """Begin, with what a former server left undone."""
        self._errands.open()

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        await self._errands.close()

    async def step(self) -> None:
        """Describe every version that waits, oldest first."""
        async with self._database.read() as session:
            waiting = await dataset_versions.profiling(session)
        for version_id in waiting:
            await self._describe(version_id)

    async def _describe(self, version_id: bytes) -> None:
        async with self._database.read() as session:
            members = await dataset_versions.members(session, version_id)
        if lost := [member.name for member in members if not self._blobs.exists(member.sha256)]:
            async with self._database.begin() as session:
                message = f"the content of {', '.join(lost[:5])} is no longer in the store"
                await dataset_versions.failed(session, version_id, message)
            return
        tables = [member for member in members if profiler.reader(member.name) is not None]
        async with contextlib.aclosing(_Reading()) as reading:
            found = {member.position: await self._read(reading, member) for member in tables}
        async with self._database.begin() as session:
            await dataset_versions.described(session, version_id, found)

    async def _read(self, reading: "_Reading", member: Member) -> Profile:
        path = str(self._blobs.path(member.sha256))
        try:
            async with asyncio.timeout(self._file_seconds):
                return await reading.ask(path, member.name)
        except TimeoutError:
            await reading.aclose()
            return Profile(message=f"takes longer to read than {self._file_seconds:g} s")
        except (ConnectionError, EOFError, ValueError) as error:
            await reading.aclose()
            log.warning("a table was not described", file=member.name, error=repr(error))
            return Profile(message="cannot be read: whatever read it has died")


class _Reading:
    """The process that reads, started when it is first asked and again after it was ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, path: str, name: str) -> Profile:
        """What the table in a file is; raises EOFError or ConnectionError when the process dies of it."""
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_MOST_ANSWER_BYTES,
                env={},  # what it reads is a stranger's: it need not know ours
            )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"path": path, "name": name}).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise EOFError
        told = json.loads(line)
        return Profile(told["rows"], profiles.decode(told["columns"]), told["message"])

    async def aclose(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
