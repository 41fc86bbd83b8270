"""Jobs as containers of a Docker engine, here or elsewhere: nothing of them lies on this host but what is fetched.

What there is of an attempt says containers.py; the engine is the record: names derive from the attempt, so that a
launch that crashed anywhere is done again and finds what it had done. Every step can be repeated: the holder is
made, filled, the workers are made, and only then started; a worker that is there was made after the filling.

    engine                                   ours
    created                                  being launched
    created in another life of the engine    LOST: it may have begun to run, and does not begin again
    created, with an error                   LAUNCH_REJECTED, in the engine's words
    running, paused                          running
    exited 0                                 COMPLETED
    exited, killed for memory                OUT_OF_MEMORY
    exited by a signal in another life of    LOST: the engine took it along
      the engine than it was made in
    exited otherwise                         EXIT_CODE
    no image                                 IMAGE_UNAVAILABLE
    removed by others                        LOST
"""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from aiodocker.exceptions import DockerError

from backends import base, container_files, containers, folders
from backends.docker_following import Following
from backends.docker_launching import Launcher
from backends.docker_logs import Logs
from backends.docker_native import Native, unavailable
from backends.docker_options import DockerOptions
from backends.engines import Engine, reachable
from backends.images import Building, Images

_STALE_SECONDS = 3600.0
_LEAST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 0.5, 5.0


class Docker:
    """The backend of one engine; what is fetched from it, and what says whose containers are ours, is below `home`."""

    def __init__(self, home: Path, options: DockerOptions) -> None:
        self._home = home.absolute()
        self._options = options
        self._native = Native(Engine(options.host))
        building = Building(options.image, options.build_network, dict(options.build_arguments))
        self._images = Images(self._native.engine, building, options.owner or "")
        self._launcher = Launcher(self._native, self._images, options)
        self._logs = Logs(self._native)
        self._node = ""
        self._following: Following | None = None
        self._failures = 0
        self._closed = False
        self._launched: dict[str, base.Handle] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._graces: dict[str, tuple[float, asyncio.Task[None]]] = {}

    @property
    def capabilities(self) -> base.Capabilities:
        groups = "control groups of the engine"
        return base.Capabilities(
            scope=self._options.adopted_by,
            needs_container=True,
            max_workers=containers.MAX_WORKERS,
            suspends=True,
            memory=groups,
            cpus=groups,
        )

    async def open(self) -> None:
        try:
            for folder in ("new", "fetched"):
                (self._home / folder).mkdir(parents=True, exist_ok=True)
            self._native.owner = self._images.owner = self._options.owner or folders.keep(
                self._home / "owner", secrets.token_hex(4)
            )
            await asyncio.to_thread(self._sweep)
        except OSError as error:
            raise base.BackendUnavailable(f"{self._home} cannot be used: {error}") from error
        self._closed = False
        await self._native.engine.open()
        self._node = await self._native.meet()

    async def capacity(self) -> base.Capacity | None:
        told = await self._native.ask("GET", "info")
        return base.Capacity(cpus=float(told["NCPU"]), memory_bytes=int(told["MemTotal"]))

    async def prepare(self, spec: base.PrepareSpec, log: Callable[[str], Awaitable[None]]) -> str:
        return (await self._images.prepare(spec, log)).reference

    async def discard(self, prepared: str) -> None:
        self._launcher.forget(prepared)
        if prepared:
            await self._images.discard(prepared)

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        containers.check(spec, self._options)
        handle = {"name": spec.name, "workers": spec.workers}
        async with self._turn(spec.name):
            await self._launcher.launch(spec)
        self._launched[spec.name] = handle
        if self._following is not None:
            self._following.add(handle)
        return handle

    async def watch(self, known: Sequence[base.Handle]) -> AsyncGenerator[base.Observation]:
        if self._following is not None:
            raise RuntimeError("this adapter is watched already")
        self._following = following = Following(
            self._native, self._logs, self._node, self.stop, self._options.usage_seconds
        )
        try:
            await self._native.meet()
            for handle in (*known, *self._launched.values()):
                following.add(handle)
            async for observation in following.observations():
                self._failures = 0
                if isinstance(observation, base.Ended | base.Missing):
                    self._launched.pop(observation.name, None)
                yield observation
        except base.BackendUnavailable as error:
            if self._closed:
                return
            error.retry_in_seconds = min(_MOST_RETRY_SECONDS, _LEAST_RETRY_SECONDS * 2**self._failures)
            self._failures = min(self._failures + 1, 10)
            raise
        finally:
            self._following = None
            await following.close()

    async def read(
        self, handle: base.Handle, rank: int, offset: int, limit_bytes: int = 1 << 20
    ) -> base.Output:
        return await self._logs.read((str(handle["name"]), rank), offset, limit_bytes)

    async def stored(self, handle: base.Handle, rank: int, offset: int) -> None:
        """The engine frees no part of a log before its container goes; what we hold of it goes as it is read."""

    async def outputs(self, handle: base.Handle) -> Path:
        target = self._fetched(handle) / "output"
        holder = self._native.names(handle["name"]).holder
        if not target.is_dir():
            with contextlib.suppress(_Gone), self._staged(target) as new:
                await container_files.unpack(self._archive(holder, containers.OUTPUT), new)
        return target

    async def spool(self, handle: base.Handle) -> Path:
        target = self._fetched(handle) / "spool"
        if not target.is_dir():
            with self._staged(target) as new:
                for rank in range(handle["workers"]):
                    worker = self._native.names(handle["name"]).worker(rank)
                    with contextlib.suppress(_Gone):
                        await container_files.unpack(
                            self._archive(worker, containers.SPOOL), new, depth=container_files.SPOOL_DEPTH
                        )
        return target

    async def stop(self, handle: base.Handle, grace_seconds: float) -> None:
        name = str(handle["name"])
        if self._following is not None:
            self._following.expect_end(name)
        deadline = time.monotonic() + grace_seconds
        before = self._graces.get(name)
        if before is None or before[1].done():
            await self._native.each(handle, "kill", {"signal": "SIGTERM" if grace_seconds > 0 else "SIGKILL"})
        elif before[0] <= deadline:
            return
        else:
            before[1].cancel()
        self._graces[name] = (deadline, asyncio.create_task(self._force(handle, grace_seconds)))

    async def suspend(self, handle: base.Handle) -> None:
        await self._native.each(handle, "pause")

    async def resume(self, handle: base.Handle) -> None:
        await self._native.each(handle, "unpause")

    async def remove(self, handle: base.Handle) -> None:
        name = str(handle["name"])
        self._launched.pop(name, None)
        if (grace := self._graces.pop(name, None)) is not None:
            grace[1].cancel()
        await self._logs.close(name)
        async with self._turn(name):
            await self._remove(handle)
        await asyncio.to_thread(folders.discard, self._fetched(handle))

    async def held(self) -> Sequence[base.Handle]:
        return await self._native.handles()

    async def close(self) -> None:
        self._closed = True
        if self._following is not None:
            await self._following.close()
        for _, task in self._graces.values():
            task.cancel()
        await self._logs.close()
        await self._native.engine.close()

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """One at a time launches an attempt, or removes it."""
        turn = self._turns[name]
        async with turn:
            yield
        if not turn.locked() and self._turns.get(name) is turn:
            del self._turns[name]

    async def _remove(self, handle: base.Handle) -> None:
        """Take all of it off the engine; the volumes last, which what is left would hold."""
        names = self._native.names(handle["name"])
        for found in await self._native.containers(handle["name"]):
            await self._native.settle("DELETE", f"containers/{found['Id']}", {"force": True})
        for volume in names.volumes.values():
            await self._native.settle("DELETE", f"volumes/{volume}")
        if handle["workers"] > 1:
            await self._native.settle("DELETE", f"networks/{names.network}")

    async def _force(self, handle: base.Handle, grace_seconds: float) -> None:
        """Kill when the grace is over; with an engine away, when it is back."""
        await asyncio.sleep(grace_seconds)
        while True:
            try:
                return await self._native.each(handle, "kill", {"signal": "SIGKILL"})
            except base.BackendUnavailable as error:
                await asyncio.sleep(error.retry_in_seconds)

    def _fetched(self, handle: base.Handle) -> Path:
        return self._home / "fetched" / str(handle["name"])

    @contextlib.contextmanager
    def _staged(self, target: Path) -> Iterator[Path]:
        with (
            container_files.keeping(f"{target} cannot be written"),
            container_files.staged(target, self._home / "new") as new,
        ):
            yield new

    async def _archive(self, container: str, path: str) -> AsyncGenerator[bytes]:
        """A folder of a container, as it comes."""
        asked = self._native.engine.stream("GET", f"containers/{container}/archive", {"path": path})
        try:
            async with asked as response:
                with reachable():
                    async for chunk in response.content.iter_chunked(1 << 20):
                        yield chunk
        except DockerError as error:
            if error.status == 404:
                raise _Gone from error
            raise unavailable(error) from error

    def _sweep(self) -> None:
        """Free what a crash left half fetched."""
        for each in (self._home / "new").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - each.stat().st_mtime > _STALE_SECONDS:  # else it may be being filled
                    folders.discard(each)


class _Gone(Exception):
    """The container, or the folder in it, is not there."""
