"""Images for pods, made by a Docker engine: pushed to a registry that the nodes pull from, or used where it is theirs.

Without a registry a pod can only say a name, never an engine's id; so that the name means one image for ever, an
image that has none of our own, digests of what they were made from, is given one by its id.
"""

from collections.abc import Awaitable, Callable

from aiodocker.exceptions import DockerError

from backends.base import BackendUnavailable, PrepareSpec
from backends.engines import Engine
from backends.images import ENVIRONMENTS, FROZEN, MODULES, Building, Images
from backends.images import Image as Made
from backends.kubernetes.options import KubernetesOptions
from backends.kubernetes.pods import Image


class Builder:
    """One engine, reached when it is needed."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._engine = Engine(options.builder)
        building = Building(
            base=options.image,
            network=options.build_network,
            arguments=dict(options.build_arguments),
            registry=options.registry,
            credentials=dict(options.registry_login),
        )
        # Not the owner's of a Docker backend that may be called the same, and have the same engine.
        self._images = Images(self._engine, building, f"{options.owner}.pods")

    async def prepare(self, spec: PrepareSpec, log: Callable[[str], Awaitable[None]]) -> Image:
        """A module version's image, with its own command and folder for functions that name none."""
        await self._engine.open()
        made = await self._images.prepare(spec, log)
        found = await self._images.inspect(made.id)
        config = (found or {}).get("Config") or {}
        command = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
        return Image(made.pushed or await self._name(made), command, config.get("WorkingDir") or "/")

    async def discard(self, image: Image) -> None:
        """Free an image that no version needs any more; what lies in a registry stays."""
        await self._engine.open()
        await self._images.discard(image.name)

    async def close(self) -> None:
        await self._engine.close()

    async def _name(self, made: Made) -> str:
        if made.name.startswith((f"{MODULES}:", f"{ENVIRONMENTS}:")):
            return made.name
        name = self._images.named(FROZEN, made.id.removeprefix("sha256:")[:32])
        repository, _, tag = name.partition(":")
        try:
            await self._engine.json("POST", f"images/{made.id}/tag", {"repo": repository, "tag": tag})
        except DockerError as error:
            raise BackendUnavailable(f"Docker: {error.message}") from error
        return name
