"""What a launch takes on a Docker engine, each step harmless when it is repeated. Part of `docker.py`.

The holder is made and filled, the workers are made, and only then started. Whoever finds the holder made by
another waits a little for the workers; one that crashed in between is healed by doing again what it did. Only what
was to be started in another life of the engine is never started again: it may have run.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any

from aiodocker.exceptions import DockerError

from backends import base, container_files, containers
from backends.containers import REFUSAL, STARTED, Names
from backends.docker_native import Native, unavailable
from backends.docker_options import DockerOptions
from backends.engines import reachable
from backends.images import Images

_OTHERS_SECONDS = 3.0
"""How long another launcher of the same attempt is given before it is taken for dead."""
_LOOK_SECONDS = 0.1
_MADE_BY = f"{containers.LABEL}.made-by"
_PASSING = ("context canceled", "deadline exceeded", "shutting down", "connection refused", "timeout")


class Launcher:
    """Makes attempts on one engine and starts them."""

    def __init__(self, native: Native, images: Images, options: DockerOptions) -> None:
        self._native = native
        self._images = images
        self._options = options
        self._instance = secrets.token_hex(8)
        self._inspected: dict[str, Mapping[str, Any]] = {}
        self._found: set[tuple[str, str]] = set()

    async def launch(self, spec: base.JobSpec) -> None:
        """Have the attempt started, whatever of it is there."""
        names = self._native.names(spec.name)
        made = await self._native.workers(spec.name)
        is_ours = False
        if not _is_complete(made, spec.workers):
            is_ours = await self._make(spec, names)
            made = await self._native.workers(spec.name)
        waiting = {rank: found for rank, found in sorted(made.items()) if found["State"] == "created"}
        if waiting and not is_ours:
            await self._native.learn_life()
        for rank, found in waiting.items():
            # An engine that dies while it starts a container forgets that it has: whoever watches calls it LOST.
            is_forgotten = not is_ours and self._native.is_another_life(found["Labels"])
            if REFUSAL not in found["Labels"] and not is_forgotten:
                await self._start(names.worker(rank))

    def forget(self, image: str) -> None:
        """An image may be gone."""
        self._inspected.pop(image, None)

    async def _make(self, spec: base.JobSpec, names: Names) -> bool:
        """Make all that an attempt consists of, but start nothing; False when another launcher has made it."""
        image, inspected = await self._image(spec.prepared)
        marks = containers.labels(self._native.owner, spec)
        holder = containers.holder(names, image, marks, self._instance)
        if not await self._create(names.holder, holder) and await self._is_made_by_another(spec, names):
            return False
        with container_files.keeping("what it is given cannot be packed"):
            archive = await asyncio.to_thread(container_files.given, spec)
        with archive:
            await self._put(names.holder, archive)
        await self._native.learn_life()
        marks = {**marks, STARTED: self._native.life}
        refusal = await self._refusal(spec, names, image, inspected)
        if refusal is not None:
            marks = {**marks, REFUSAL: refusal}
        elif spec.workers > 1:
            await self._network(names, spec, marks)
        for rank in range(1 if refusal else spec.workers):
            worker = containers.worker(names, image, spec, rank, marks, self._options)
            await self._create(names.worker(rank), worker)
        return True

    async def _is_made_by_another(self, spec: base.JobSpec, names: Names) -> bool:
        """Whether somebody else is at it, and gets there while we look."""
        holder = await self._native.find(names.holder)
        if holder is not None and holder["Config"]["Labels"].get(_MADE_BY) == self._instance:
            return False
        until = time.monotonic() + _OTHERS_SECONDS
        while time.monotonic() < until:
            if _is_complete(await self._native.workers(spec.name), spec.workers):
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _image(self, prepared: str | None) -> tuple[str, Mapping[str, Any]]:
        """What to run, by its immutable reference, and what the engine knows of it."""
        try:
            reference = prepared or (await self._images.base()).reference
        except base.PreparationFailed as error:
            raise base.LaunchRejected(str(error), base.EndReason.IMAGE_UNAVAILABLE) from error
        if reference not in self._inspected:
            found = await self._images.inspect(reference)
            if found is None:
                raise _no_image(reference)
            self._inspected[reference] = found
        return reference, self._inspected[reference]

    async def _create(self, name: str, config: containers.Config) -> bool:
        """Make a container; False when there is one of this name."""
        try:
            await self._native.engine.json("POST", "containers/create", {"name": name}, given=config)
        except DockerError as error:
            if error.status == 409 and "already in use" in error.message:
                return False
            if error.status == 404 and "image" in error.message.lower():
                self.forget(config["Image"])
                raise _no_image(config["Image"]) from error
            if error.status == 400:
                raise base.LaunchRejected(error.message) from error
            raise unavailable(error) from error
        return True

    async def _put(self, container: str, archive: Any) -> None:
        put = self._native.engine.stream(
            "PUT",
            f"containers/{container}/archive",
            {"path": "/"},
            data=container_files.sent(archive),
            headers={"Content-Type": "application/x-tar"},
        )
        try:
            async with put as response:
                with reachable():
                    await response.read()
        except DockerError as error:
            raise unavailable(error) from error

    async def _refusal(
        self, spec: base.JobSpec, names: Names, image: str, inspected: Mapping[str, Any]
    ) -> str | None:
        """Why the command can never run, where it is not there: the engine's init would only end with 127."""
        if not spec.command or (image, spec.command[0]) in self._found:
            return None
        paths = containers.find_paths(spec.command[0], inspected)
        for path in paths:
            if await self._is_there(names.holder, path):
                if not path.startswith(containers.SOURCE):
                    self._found.add((image, spec.command[0]))
                return None
        folders = ":".join(path.rpartition("/")[0] for path in paths)
        return f"there is no command {paths[0] if len(paths) == 1 else f'{spec.command[0]} in {folders}'}"

    async def _is_there(self, container: str, path: str) -> bool:
        try:
            async with self._native.engine.stream("GET", f"containers/{container}/archive", {"path": path}):
                return True
        except DockerError as error:
            if error.status in (400, 404):
                return False
            raise unavailable(error) from error

    async def _network(self, names: Names, spec: base.JobSpec, marks: Mapping[str, str]) -> None:
        """A network of the attempt's own, which leads nowhere else unless that was asked for."""
        inside = not containers.is_connected(spec, self._options)
        given = {"Name": names.network, "CheckDuplicate": True, "Internal": inside, "Labels": dict(marks)}
        try:
            await self._native.engine.json("POST", "networks/create", given=given)
        except DockerError as error:
            if error.status != 409:
                raise unavailable(error) from error

    async def _start(self, container: str) -> None:
        """Start it; a refusal stays with the container, and is told as the end of the attempt."""
        try:
            await self._native.engine.json("POST", f"containers/{container}/start")
        except DockerError as error:
            if error.status == 404 or any(words in error.message for words in _PASSING):
                raise unavailable(error) from error


def _is_complete(made: Mapping[int, Mapping[str, Any]], workers: int) -> bool:
    """Whether nothing is left to be made: all workers, or the first with why none can be."""
    return len(made) == workers or any(REFUSAL in each["Labels"] for each in made.values())


def _no_image(reference: str) -> base.LaunchRejected:
    words = f"the image {reference} is not on the engine any more"
    return base.LaunchRejected(words, base.EndReason.IMAGE_UNAVAILABLE)
