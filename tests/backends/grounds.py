"""What the tests of the adapters stand on: a place for jobs to run, and a witness of what a watch tells."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from backends.base import (
    Backend,
    Ended,
    EndReason,
    Handle,
    JobSpec,
    LaunchRejected,
    Observation,
    Piece,
    WorkerStarted,
)
from tests.backends.players import player

DEADLINE_SECONDS = 60.0
"""How long anything may take on a busy machine."""
FOREVER = "import time; time.sleep(600)"
T = TypeVar("T")


@dataclass
class Ground:
    """One place where jobs run. Every adapter opened here sees what the others launched.

    `prepared` is what its jobs run in. `count` says how often a job was started where that can be told without
    running it.
    """

    make: Callable[[], Backend]
    source: Path
    prepared: str = ""
    count: Callable[[Handle], int] | None = None
    prefix: str = "job"
    """Of the names of its jobs, which others on the same engine must not have."""
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    opened: list[Backend] = field(default_factory=list)

    async def open(self) -> Backend:
        adapter = self.make()
        self.opened.append(adapter)
        await adapter.open()
        return adapter

    def job(self, code: str, **more: Any) -> JobSpec:
        """A job that runs this Python; every start of it leaves a byte in the output file `ran`."""
        ran = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/ran', 'a').write('x')\n"
        return self.command("python", "-S", "-c", ran + code, **more)

    def script(self, *steps: str, **more: Any) -> JobSpec:
        """A job that plays a script of `backends/scripts.py`, on whatever there is to play it."""
        if self.count is not None:
            return self.command("fake", *(steps or ("wait 0",)), **more)
        return self.command("python", "-S", "-c", player(), *steps, **more)

    def command(self, *command: str, **more: Any) -> JobSpec:
        name = f"{self.prefix}-{next(self.numbers)}"
        spec = JobSpec(name, command, source=self.source, prepared=self.prepared, input_document=b"{}")
        return replace(spec, **more)

    async def ran(self, adapter: Backend, handle: Handle) -> int:
        """How often a job was started."""
        return self.count(handle) if self.count else await ran(adapter, handle)


class Witness:
    """Keeps all that one watch tells: `async with Witness(adapter) as witness`."""

    def __init__(self, adapter: Backend, *known: Handle) -> None:
        self._watch = adapter.watch(known)
        self.seen: list[Observation] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _follow(self) -> None:
        async for observation in self._watch:
            self.seen.append(observation)
            self._news.set()

    def of(self, kind: type[T], name: str) -> list[T]:
        return [each for each in self.seen if isinstance(each, kind) and getattr(each, "name", "") == name]

    async def sees(self, kind: type[T], handle: Handle | JobSpec) -> T:
        """The first observation of this kind of that attempt, now or soon."""
        name = handle.name if isinstance(handle, JobSpec) else handle["name"]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (found := self.of(kind, name)):
                self._news.clear()
                if self._task.done():
                    self._task.result()
                await self._news.wait()
        return found[0]

    async def started(self, handle: Handle) -> WorkerStarted:
        return await self.sees(WorkerStarted, handle)

    async def ended(self, handle: Handle) -> Ended:
        return await self.sees(Ended, handle)


async def eventually(what: Callable[[], Awaitable[T]], *, seconds: float = DEADLINE_SECONDS) -> T:
    """The first true answer; for what has no event to wait on."""
    async with asyncio.timeout(seconds):
        while not (found := await what()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def pieces(adapter: Backend, handle: Handle, *, rank: int = 0, limit: int = 1 << 20) -> list[Piece]:
    """All output of a worker so far."""
    found: list[Piece] = []
    offset = 0
    while (output := await adapter.read(handle, rank, offset, limit)).pieces:
        found += output.pieces
        offset = output.next_offset
    return found


def lines(found: Sequence[Piece], stream: int) -> list[bytes]:
    """The lines of one stream, continued ones put together again."""
    text = b""
    for piece in found:
        if piece.stream == stream:
            text += piece.data if piece.continued else piece.data + b"\n"
    return text.split(b"\n")[:-1]


async def ran(adapter: Backend, handle: Handle) -> int:
    """How often the job was started."""
    return len((await adapter.outputs(handle) / "ran").read_bytes())


async def rejected(adapter: Backend, witness: Witness, job: JobSpec) -> str:
    """Why a job is rejected: at once, or when it was tried."""
    try:
        handle = await adapter.launch(job)
    except LaunchRejected as error:
        return error.reason
    ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code, ended.exit_codes) == (EndReason.LAUNCH_REJECTED, None, {})
    return ended.message or ""
