"""What one owner has on a Docker engine, asked for and acted on by the attempts' names. Part of `docker.py`."""

from collections.abc import Mapping
from typing import Any

from aiodocker.exceptions import DockerError

from backends import base
from backends.containers import ATTEMPT, OWNER, RANK, STARTED, WORKERS, Names
from backends.engines import Engine, Parameters

_DONE = ("is not running", "is not paused", "is already paused", "already in progress", "No such container")


class Native:
    """The engine, and whose containers on it are meant."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.owner = ""
        self.life = ""
        """What is another after every start of the engine that ends what runs."""

    def names(self, attempt: str) -> Names:
        return Names(f"rungraph-{self.owner}", attempt)

    async def learn_life(self) -> None:
        """Learn which life of the engine it is: its default network is made anew when it starts with nothing kept."""
        try:
            found = await self.engine.json("GET", "networks/bridge")
        except DockerError as error:
            if error.status != 404:
                raise unavailable(error) from error
            found = {"Id": ""}
        self.life = str(found["Id"])[:16]

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
