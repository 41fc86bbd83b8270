"""A process beside the server for its work with files.

A thread that does a file's dozens of calls to the system asks for the interpreter after each of them, and each time
the event loop gives it away it waits to have it back, on a busy machine for a processor too: with jobs as processes
beside, that was most of what the loop waited for. A process has an interpreter of its own.

It must run what this server runs: where the files have been replaced since (an upgrade in place), the server does the
work itself, in threads, until it is started anew.
"""

import asyncio
import contextlib
import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple, cast

import structlog

from backends.handiwork import HEAD
from backends.zygote import INTERPRETER, ROOT

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROGRAM = "import sys; sys.path.append(sys.argv[1]); from backends import handiwork; handiwork.main()"
END_SECONDS = 10.0
"""How long what it was told may take once the server ends."""


def state(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What tells the Python files of a folder from others, as Python tells whether its bytecode is of a file."""
    try:
        found = [(path.name, path.stat()) for path in folder.glob("*.py")]
    except FileNotFoundError:  # they are being replaced just now
        return frozenset()
    return frozenset((name, at.st_mtime_ns, at.st_size) for name, at in found)


CODE = Path(__file__).parent
BEGAN_WITH = state(CODE)
"""As the server has read it."""


class Do(Protocol):
    """What has a function called elsewhere, and waits: `asyncio.to_thread`, or a Hand's `do`."""

    async def __call__(self, work: Callable[[*Ts], T], /, *given: *Ts) -> T:
        """What it returned; raises what it raised."""


class Hand:
    """One such process: started when it is first needed, and again when it died.

    What it does must do no harm when it is done again, and be a function of a module that handiwork.py imports, which
    needs nothing but the standard library and `backends`; whoever is cancelled does not wait for it.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._running: tuple[asyncio.subprocess.Process, asyncio.Task[None]] | None = None
        """The process, and the task that hears its answers until it is gone."""
        self._starting = asyncio.Lock()
        self._fits: bool | None = None
        """Whether the one that runs has read the code of this server; None until it is known."""

    async def do(self, work: Callable[[*Ts], T], /, *given: *Ts) -> T:
        """Have it called there. Raises what it raised; ConnectionError without a process, or when two died of it."""
        asked = pickle.dumps((work, given))
        for _ in range(2):
            running = await self._started()
            if running is None:
                return await asyncio.to_thread(work, *given)
            process, hearing = running
            try:
                returned, outcome = pickle.loads(await self._ask(process, asked))
            except ConnectionError:
                await asyncio.shield(hearing)  # until it is known to be gone
                continue
            if not returned:
                raise outcome
            return cast("T", outcome)
        raise ConnectionResetError("the process that works with files dies as soon as it is asked")

    async def _ask(self, process: asyncio.subprocess.Process, asked: bytes) -> bytes:
        assert process.stdin is not None
        if process.stdin.is_closing():  # uvloop knows of a death before we hear of it, and refuses to write
            raise ConnectionResetError
        number = next(self._numbers)
        self._asked[number] = answered = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(HEAD.pack(number, len(asked)) + asked)
            await process.stdin.drain()
            answer: bytes = await answered
            return answer
        finally:
            answered.cancel()
            del self._asked[number]

    async def _started(self) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]] | None:
        """The process and who hears it; None when one would run other code than this server."""
        async with self._starting:
            if self._fits is False:
                return None
            if self._running is None:
                self._fits = None
                self._running = await self._start()
            process, hearing = running = self._running
            if self._fits is None:
                # It has read its code when it answers; of its death whoever asks it for more hears.
                with contextlib.suppress(ConnectionError):
                    await self._ask(process, pickle.dumps((os.getpid, ())))
                self._fits = state(CODE) == BEGAN_WITH
            if self._fits:
                return running
            log.warning(
                "the files of this server were replaced: start it anew", meanwhile="threads do its work"
            )
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(hearing)
            return None

    async def _start(self) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        try:
            process = await asyncio.create_subprocess_exec(
                *(INTERPRETER, "-S", "-E", "-I", "-c", PROGRAM, str(ROOT)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # an interrupt from the terminal is the server's
            )
        except OSError as error:  # told from one of the work's, a file that is not there for example
            raise ConnectionRefusedError(f"{INTERPRETER} cannot be started: {error}") from error
        return process, asyncio.create_task(self._hear(process))

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, size = HEAD.unpack(await process.stdout.readexactly(HEAD.size))
                answer = await process.stdout.readexactly(size)
                if (answered := self._asked.get(number)) is not None and not answered.done():
                    answered.set_result(answer)
        self._running = None
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(ConnectionResetError())
        await process.wait()

    async def close(self) -> None:
        """End the process, once it has done what it was told."""
        if self._running is None:
            return
        process, hearing = self._running
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.shield(hearing)
        except TimeoutError:
            process.kill()
            await hearing
