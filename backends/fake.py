"""A backend without processes: its jobs are scripts, and what they did by when is computed.

For trying pipelines, settings and several servers together without running anything, and for tests of what
watches backends. A function whose command begins with `fake` says what its job does (`scripts.py` has the words),
in the rest of its command or in its option `script`; of any other command it is only said that it would run, after
which the job ends well. The cluster is a folder that servers may share: `fake_cluster.py` has what lies there,
`histories.py` how an attempt stands at a moment.
"""

import asyncio
import contextlib
import json
import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from backends import base, options, scripts
from backends.fake_cluster import Cluster
from backends.histories import Asks
from db import texts

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

COMMAND = "fake"
LOOK_SECONDS = 0.05
"""How late is heard what another process asked for."""
PASS_SECONDS = 0.002
"""For how long many attempts are looked at without a pause."""
MAX_WORKERS = 64
MASTER_PORT = 29500
NAME = re.compile(r"[a-z0-9-]{1,63}")
_FILES = ThreadPoolExecutor(1, "fake")
"""One: several that work with files take the interpreter from the event loop several times as often."""


async def _by_thread(work: Callable[[*Ts], T], *given: *Ts) -> T:
    return await asyncio.get_running_loop().run_in_executor(_FILES, work, *given)


def _folder(value: object) -> str:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ValueError(f"must be the absolute path of a folder, not {texts.shown(value)}")
    return value


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """Options of `kind: fake`."""

    cluster: str | None = options.option(None, read=_folder)
    """The folder of the cluster; without it one of this server's own."""
    speed: float = options.option(1.0, least=0.001, most=1e6)
    """How many of a script's seconds pass in one."""
    dry_seconds: float = options.option(0.0, least=0, most=1e6)
    """How many of a script's seconds a job takes whose command is no script."""
    rejects: bool = options.option(False)
    """Whether commands that are no scripts are refused instead."""


def adapter(home: Path, given: Mapping[str, Any]) -> base.Backend:
    """The adapter with these options, keeping its cluster below `home` unless they say otherwise."""
    read = options.parse(FakeOptions, given)
    return Fake(Path(read.cluster) if read.cluster else home / "cluster", read)


@dataclass(slots=True)
class Told:
    """What was told of a followed attempt, and when to look again."""

    waits: bool = False
    started: bool = False
    next_look: float = 0.0
    pieces: dict[int, int] = field(default_factory=dict)


class Fake:
    """The backend whose cluster is a folder."""

    def __init__(self, cluster: Path, made: FakeOptions | None = None) -> None:
        self._cluster = Cluster(cluster)
        self._options = made or FakeOptions()
        self._launched: dict[str, base.Handle] = {}
        self._followed: dict[str, Told] | None = None
        self._news = asyncio.Event()
        self._closed = False

    @property
    def capabilities(self) -> base.Capabilities:
        return base.Capabilities(
            scope=base.Scope.CLUSTER, needs_container=False, max_workers=MAX_WORKERS, suspends=True
        )

    async def open(self) -> None:
        self._cluster.reach()
        self._cluster.make()

    async def capacity(self) -> base.Capacity | None:
        self._cluster.reach()
        return None

    async def prepare(self, spec: base.PrepareSpec, log: Callable[[str], Awaitable[None]]) -> str:
        """Nothing is installed, as nothing will run."""
        self._cluster.reach()
        return ""

    async def discard(self, prepared: str) -> None:
        self._cluster.reach()

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        self._cluster.reach()
        steps, environment = self._steps(spec), _variables(spec)
        _check(spec, steps, environment)
        await _by_thread(self._cluster.launch, spec, steps, environment, self._options.speed)
        handle = {"name": spec.name}
        self._launched[spec.name] = handle
        if self._followed is not None:
            self._followed.setdefault(spec.name, Told())
            self._news.set()
        return handle

    async def watch(self, known: Sequence[base.Handle]) -> AsyncGenerator[base.Observation]:
        if self._followed is not None:
            raise RuntimeError("this adapter is watched already")
        self._cluster.reach()
        names = [str(handle["name"]) for handle in (*known, *self._launched.values())]
        self._followed = followed = {name: Told() for name in names}
        looked_at = -1
        try:
            while not self._closed:
                self._cluster.reach()
                self._news.clear()
                now, changes = time.time(), self._cluster.changes()
                looked = time.perf_counter()
                for name, told in list(followed.items()):
                    if changes == looked_at and now < told.next_look:
                        continue
                    if time.perf_counter() - looked > PASS_SECONDS:
                        await asyncio.sleep(0)  # of many that change at once
                        looked = time.perf_counter()
                    for observation in self._look(name, told, now):
                        if isinstance(observation, base.Ended | base.Missing):
                            followed.pop(name, None)
                            self._launched.pop(name, None)
                        yield observation
                looked_at = changes
                await self._rest(followed)
        finally:
            self._followed = None

    async def read(
        self, handle: base.Handle, rank: int, offset: int, limit_bytes: int = 1 << 20
    ) -> base.Output:
        self._cluster.reach()
        history = self._cluster.history(handle["name"])
        taken: list[base.Piece] = []
        begins = reached = 0
        for piece in history.pieces(rank, time.time()) if history else ():
            begins, reached = reached, reached + _size(piece)
            if begins >= offset and taken and reached - offset > limit_bytes:
                return base.Output(tuple(taken), begins)
            if begins >= offset:
                taken.append(piece)
        return base.Output(tuple(taken), reached if taken else offset)

    async def stored(self, handle: base.Handle, rank: int, offset: int) -> None:
        """Nothing is kept that could be freed."""
        self._cluster.reach()

    async def outputs(self, handle: base.Handle) -> Path:
        self._cluster.reach()
        return await _by_thread(self._cluster.outputs, handle["name"])

    async def spool(self, handle: base.Handle) -> Path:
        self._cluster.reach()
        return self._cluster.spool(handle["name"])

    async def stop(self, handle: base.Handle, grace_seconds: float) -> None:
        self._ask(handle, lambda asks: asks.stops.append((time.time(), grace_seconds)))

    async def suspend(self, handle: base.Handle) -> None:
        self._ask(handle, _pause)

    async def resume(self, handle: base.Handle) -> None:
        self._ask(handle, _go_on)

    async def remove(self, handle: base.Handle) -> None:
        self._cluster.reach()
        self._launched.pop(handle["name"], None)
        await _by_thread(self._cluster.remove, handle["name"])

    async def held(self) -> Sequence[base.Handle]:
        self._cluster.reach()
        return [{"name": name} for name in self._cluster.held()]

    async def close(self) -> None:
        self._closed = True
        self._news.set()

    def _steps(self, spec: base.JobSpec) -> list[str]:
        if not spec.command:
            raise base.LaunchRejected("the command is empty")
        if spec.command[0] != COMMAND:
            words = " ".join(spec.command)
            if self._options.rejects:
                raise base.LaunchRejected(f"{words!r} is no script, and nothing else runs here")
            return [f"print would run: {words}", f"wait {self._options.dry_seconds}"]
        if len(spec.command) > 1:
            return list(spec.command[1:])
        return scripts.split(str(json.loads(spec.input_document).get("options", {}).get("script", "")))

    def _ask(self, handle: base.Handle, change: Callable[[Asks], None]) -> None:
        self._cluster.reach()
        self._cluster.ask(handle["name"], change)
        self._news.set()

    def _look(self, name: str, told: Told, now: float) -> Iterator[base.Observation]:
        history = self._cluster.history(name)
        if history is None:
            yield base.Missing(name)
            return
        told.next_look = history.next_change(now)
        if not told.waits and (waits := history.waits(now)) is not None:
            told.waits = True
            yield waits
        if history.started(now):
            yield from () if told.started else history.workers()
            told.started = True
            for rank in range(len(history.notes.plays)):
                pieces = len(history.pieces(rank, now))
                if pieces > told.pieces.get(rank, 0):
                    told.pieces[rank] = pieces
                    yield base.HasOutput(name, rank)
        if (ended := history.ended(now)) is not None:
            yield ended

    async def _rest(self, followed: Mapping[str, Told]) -> None:
        """Wait until something is to be told."""
        due = min((told.next_look for told in followed.values()), default=math.inf) - time.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(LOOK_SECONDS, due))):
                await self._news.wait()


def _check(spec: base.JobSpec, steps: Sequence[str], environment: Mapping[str, str]) -> None:
    base.check(spec, NAME, "a job", MAX_WORKERS)
    names = {file.name for file in spec.inputs} | {"input.json"}
    try:
        refused = scripts.before(steps).refused
        for rank in range(spec.workers):
            scripts.check(scripts.play(steps, scripts.Given(rank, environment, "")), names)
    except scripts.BadScript as error:
        raise base.LaunchRejected(str(error)) from error
    if refused is not None:
        raise base.LaunchRejected(refused)


def _variables(spec: base.JobSpec) -> dict[str, str]:
    """What every worker is told, but for its rank."""
    hosts = [f"{spec.name}-{rank}" for rank in range(spec.workers)]
    return {
        "RUNGRAPH_INPUT": "/mnt/input",
        "RUNGRAPH_OUTPUT": "/mnt/output",
        "RUNGRAPH_HOSTS": ",".join(hosts),
        "WORLD_SIZE": str(spec.workers),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": hosts[0] if hosts else "",
        "MASTER_PORT": str(MASTER_PORT),
        **spec.environment,
    }


def _pause(asks: Asks) -> None:
    if not asks.pauses or asks.pauses[-1][1] is not None:
        asks.pauses.append((time.time(), None))


def _go_on(asks: Asks) -> None:
    if asks.pauses and asks.pauses[-1][1] is None:
        asks.pauses[-1] = (asks.pauses[-1][0], time.time())


def _size(piece: base.Piece) -> int:
    return len(piece.data) + (not piece.continued)
