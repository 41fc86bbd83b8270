"""What one owner has on a Docker engine, asked for and acted on by the attempts' names. Part of `docker.py`."""

import tarfile
from collections.abc import Mapping
from typing import Any

from aiodocker.exceptions import DockerError

from backends import base, containers
from backends.containers import ATTEMPT, OWNER, RANK, STARTED, WORKERS, Names
from backends.engines import Engine, Parameters, reachable

_EMPTY = "rungraph/empty:1"
_TRIES = 5
_DONE = ("is not running", "is not paused", "is already paused", "already in progress", "No such container")


class Native:
    """The engine, and whose containers on it are meant."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.owner = ""
        self.life = ""
        """What is another after every start of the engine; where that keeps what runs, after every start at all."""
        self._keeps = False

    def names(self, attempt: str) -> Names:
        return Names(f"rungraph-{self.owner}", attempt)

    async def meet(self) -> str:
        """Learn how the engine keeps what runs, and which life of it this is; returns its host's name."""
        told = await self.ask("GET", "info")
        self._keeps = bool(told.get("LiveRestoreEnabled"))
        await self.learn_life()
        return str(told["Name"])

    async def learn_life(self) -> None:
        """Learn which life of the engine it is: its default network is made anew when it starts with nothing kept.

        An engine that keeps what runs (live-restore) keeps that network as well, and some have none: there it is a
        container of ours that is never started, and that every engine removes when it starts.
        """
        self.life = (await self._bridge() or await self._mark())[:16]

    async def _bridge(self) -> str:
        """The default network's id; nothing where it does not tell."""
        if self._keeps:
            return ""
        try:
            return str((await self.engine.json("GET", "networks/bridge"))["Id"])
        except DockerError as error:
            if error.status != 404:
                raise unavailable(error) from error
            return ""

    async def _mark(self) -> str:
        """The id of the container that lasts as long as the engine lives; the first who looks for it makes it."""
        name = f"rungraph-{self.owner}.life"
        given = containers.mark(self.owner, _EMPTY)
        for _ in range(_TRIES):
            if (found := await self.find(name)) is not None:
                return str(found["Id"])
            try:
                await self.engine.json("POST", "containers/create", {"name": name}, given=given)
            except DockerError as error:
                if error.status == 404:
                    await self._import_empty()
                elif error.status != 409:  # another was faster
                    raise unavailable(error) from error
        raise base.BackendUnavailable(f"Docker: {name} cannot be made")

    async def _import_empty(self) -> None:
        """Have an image of no file, for what never runs: one of a module would keep that from being freed."""
        repository, _, tag = _EMPTY.partition(":")
        asked = {"fromSrc": "-", "repo": repository, "tag": tag}
        nothing, kind = bytes(2 * tarfile.BLOCKSIZE), {"Content-Type": "application/x-tar"}
        try:
            async with self.engine.stream(
                "POST", "images/create", asked, data=nothing, headers=kind
            ) as response:
                with reachable():
                    await response.read()
        except DockerError as error:
            raise unavailable(error) from error

    def is_another_life(self, labels: Mapping[str, str]) -> bool:
        """Whether the engine has been started anew since a container was made."""
        return bool(self.life) and labels.get(STARTED, "") not in ("", self.life)

    async def ask(self, method: str, path: str, params: Parameters | None = None) -> Any:
        """What must be answered: a refusal is a fault of the engine's."""
        try:
            return await self.engine.json(method, path, params)
        except DockerError as error:
            raise unavailable(error) from error

    async def settle(self, method: str, path: str, params: Parameters | None = None) -> None:
        """Ask for what may be done already."""
        try:
            await self.engine.json(method, path, params)
        except DockerError as error:
            if error.status != 404 and not any(words in error.message for words in _DONE):
                raise unavailable(error) from error

    async def each(self, handle: base.Handle, what: str, params: Parameters | None = None) -> None:
        """Do this to every worker; one that is gone, or so already, is none of our business."""
        for rank in range(handle["workers"]):
            worker = self.names(handle["name"]).worker(rank)
            await self.settle("POST", f"containers/{worker}/{what}", params)

    async def containers(self, attempt: str) -> list[dict[str, Any]]:
        """Every container of an attempt, whatever its state."""
        return await self._list(f"{ATTEMPT}={attempt}")

    async def workers(self, attempt: str) -> dict[int, dict[str, Any]]:
        """The workers of an attempt that were made, by rank."""
        return {int(each["Labels"][RANK]): each for each in await self._list(f"{ATTEMPT}={attempt}", RANK)}

    async def all_workers(self) -> list[dict[str, Any]]:
        """Every worker of every attempt."""
        return await self._list(RANK)

    async def handles(self) -> list[base.Handle]:
        """Every attempt of which there is something left, if only a volume."""
        found = [each["Labels"] for each in await self._list()]
        volumes = await self.ask("GET", "volumes", {"filters": {"label": [f"{OWNER}={self.owner}"]}})
        found += [each["Labels"] for each in volumes["Volumes"] or ()]
        handles = {each[ATTEMPT]: int(each[WORKERS]) for each in found}
        return [{"name": name, "workers": workers} for name, workers in handles.items()]

    async def inspect(self, attempt: str, rank: int) -> dict[str, Any] | None:
        """A worker as the engine knows it; None when it does not."""
        return await self.find(self.names(attempt).worker(rank))

    async def find(self, container: str) -> dict[str, Any] | None:
        """A container as the engine knows it; None when it does not, or not yet."""
        try:
            found: dict[str, Any] = await self.engine.json("GET", f"containers/{container}/json")
        except DockerError as error:
            if error.status == 404:
                return None
            raise unavailable(error) from error
        return found

    async def stats(self, attempt: str, rank: int) -> dict[str, Any] | None:
        """What a worker has used so far; None when it is gone, or the engine away."""
        path = f"containers/{self.names(attempt).worker(rank)}/stats"
        try:
            found: dict[str, Any] | None = await self.engine.json(
                "GET", path, {"stream": False, "one-shot": True}
            )
        except (DockerError, base.BackendUnavailable):
            return None
        return found

    async def _list(self, *labels: str) -> list[dict[str, Any]]:
        asked = {"all": True, "filters": {"label": [f"{OWNER}={self.owner}", *labels]}}
        found: list[dict[str, Any]] = await self.ask("GET", "containers/json", asked)
        return found


def unavailable(error: DockerError) -> base.BackendUnavailable:
    return base.BackendUnavailable(f"Docker: {error.message}", retry_in_seconds=1.0)
