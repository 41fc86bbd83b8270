"""A process beside the server for its work with files.

A thread that does a file's dozens of calls to the system asks for the interpreter after each of them, and each time
the event loop gives it away it waits to have it back, on a busy machine for a processor too: with jobs as processes
beside, that was most of what the loop waited for. A process has an interpreter of its own.
"""

import asyncio
import contextlib
import itertools
import pickle
from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple, cast

from backends.handiwork import HEAD
from backends.zygote import INTERPRETER, ROOT

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROGRAM = "import sys; sys.path.append(sys.argv[1]); from backends import handiwork; handiwork.main()"
END_SECONDS = 10.0
"""How long what it was told may take once the server ends."""


class Do(Protocol):
    """What has a function called elsewhere, and waits: `asyncio.to_thread`, or a Hand's `do`."""

    async def __call__(self, work: Callable[[*Ts], T], /, *given: *Ts) -> T:
        """What it returned; raises what it raised."""


class Hand:
    """One such process: started when it is first needed, and again when it died.

    What it does must do no harm when it is done again, and be a function of a module that needs nothing but the
    standard library and `backends`; whoever is cancelled does not wait for it.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._running: tuple[asyncio.subprocess.Process, asyncio.Task[None]] | None = None
        """The process, and the task that hears its answers until it is gone."""
        self._starting = asyncio.Lock()

    async def do(self, work: Callable[[*Ts], T], /, *given: *Ts) -> T:
        """Have it called there. Raises what it raised; ConnectionError without a process, or when two died of it."""
        asked = pickle.dumps((work, given))
        for _ in range(2):
            process, hearing = await self._started()
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

    async def _started(self) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        async with self._starting:
            if self._running is None:
                try:
                    process = await asyncio.create_subprocess_exec(
                        *(INTERPRETER, "-S", "-E", "-I", "-c", PROGRAM, str(ROOT)),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        start_new_session=True,  # an interrupt from the terminal is the server's
                    )
                except OSError as error:  # told from one of the work's, a file that is not there for example
                    raise ConnectionRefusedError(f"{INTERPRETER} cannot be started: {error}") from error
                self._running = process, asyncio.create_task(self._hear(process))
            return self._running

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
