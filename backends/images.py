"""Images that modules run in, made by a Docker engine: from a Dockerfile, or of Python requirements on a base.

What an image is called is its owner and a digest of what it is made of, so that a name found is the work done. Equal
ones of several owners are one image, which the engine has under a name of each: who discards takes his own away, and
the last takes the image. What is handed out is its immutable id, or where it is pushed for others the
digest that the registry gives it. The classic builder does it, for it takes a context over plain HTTP, from
anywhere; what it prints is the preparation's log.
"""

import asyncio
import base64
import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import aiohttp
from aiodocker.exceptions import DockerError

from backends import pythons
from backends.base import BackendUnavailable, PreparationFailed, PrepareSpec
from backends.dockerignore import Ignored
from backends.engines import Engine, Parameters, reachable

Log = Callable[[str], Awaitable[None]]

KINDS = MODULES, ENVIRONMENTS, FROZEN = "rungraph/module", "rungraph/environment", "rungraph/frozen"
LABEL = "io.rungraph.made"
_LAST_WORDS = 20
_ENDED = "context canceled"
"""What the engine says of work that nobody waits for any more, but it was we who waited."""
_PAINT = re.compile(r"\x1b\[[\d;]*m")
"""The builder paints what a step says on standard error."""
_REQUIREMENTS = "rungraph-requirements.txt"
_SETTLED = re.compile(r"Digest: |Status: |.*(Pull complete|Already exists|Download complete|Pushed)")


@dataclass(frozen=True, slots=True)
class Building:
    """How images are made. `base` is what modules without one of their own run in.

    `network` is the builder's, None the engine's default. `arguments` are given to every build as `--build-arg`;
    pip's own settings among them (PIP_INDEX_URL, …) count where requirements are installed. They can be read in
    an image's history. `registry` is a prefix to push to, for those who run images elsewhere.
    """

    base: str = "python:3.11-slim"
    network: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    registry: str | None = None
    credentials: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there: its id on the engine, what it is called, and its digest in a registry, if pushed."""

    id: str
    name: str
    pushed: str | None = None

    @property
    def reference(self) -> str:
        """What it is to be run by: never another image later."""
        return self.pushed or self.id


class Images:
    """Makes images on one engine."""

    def __init__(self, engine: Engine, building: Building, owner: str) -> None:
        self._engine = engine
        self._building = building
        self.owner = owner
        """Whose they are: replicas' of one database, and nobody else's."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def prepare(self, spec: PrepareSpec, log: Log) -> Image:
        """The image of a module version; made now, or found. Raises PreparationFailed and BackendUnavailable."""
        if spec.dockerfile is not None:
            image = await self._module(spec, spec.dockerfile, log)
        else:
            base = spec.image or pythons.image(self._building.base, spec.python)
            image = await self._pulled(base, log)
        if spec.requirements:
            image = await self._environment(image, spec.requirements, log)
        return await self._pushed(image, log) if self._building.registry else image

    async def base(self) -> Image:
        """What modules without an image run in, pulled if need be."""
        return await self._pulled(self._building.base, _silence)

    async def find(self, name: str) -> Image | None:
        """The image of this name or id, if the engine has it."""
        found = await self.inspect(name)
        return None if found is None else Image(found["Id"], name)

    async def inspect(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._engine.json("GET", f"images/{name}/json")
        except DockerError as error:
            if error.status == 404:
                return None
            raise _unavailable(error) from error
        return found

    async def discard(self, reference: str) -> None:
        """Take the names away that we gave it, and with the last one the image; repeats silently.

        Raises BackendUnavailable for one that a container still has: it stays for now.
        """
        found = await self.inspect(reference)
        for name in (found or {}).get("RepoTags") or ():
            if name in (self.named(kind, name.rpartition("-")[2]) for kind in KINDS):
                try:
                    await self._engine.json("DELETE", f"images/{name}")
                except DockerError as error:
                    if error.status != 404:
                        raise _unavailable(error) from error

    def named(self, kind: str, key: str) -> str:
        """What an image of ours is called."""
        return f"{kind}:{self.owner}-{key}"

    async def _module(self, spec: PrepareSpec, dockerfile: str, log: Log) -> Image:
        digest = _digest(spec.digest or str(spec.source), dockerfile, self._building.arguments)
        name = self.named(MODULES, digest)
        return await self._built(name, lambda: _context(spec.source, dockerfile), log, dockerfile=dockerfile)

    async def _environment(self, base: Image, requirements: tuple[str, ...], log: Log) -> Image:
        """The requirements in a layer of their own above an image."""
        settings = sorted(name for name in self._building.arguments if name.startswith("PIP_"))
        lines = [
            f"FROM {base.id}",
            *(f"ARG {name}" for name in settings),
            f"COPY {_REQUIREMENTS} /tmp/{_REQUIREMENTS}",
            "RUN python -m pip install --no-cache-dir --no-input --disable-pip-version-check "
            f"--root-user-action=ignore -r /tmp/{_REQUIREMENTS}",
        ]
        files = {"Dockerfile": "\n".join(lines), _REQUIREMENTS: "\n".join(requirements) + "\n"}
        name = self.named(ENVIRONMENTS, _digest(base.id, *requirements, self._building.arguments))
        return await self._built(name, lambda: _small(files), log, dockerfile="Dockerfile")

    async def _built(
        self, name: str, context: Callable[[], IO[bytes]], log: Log, *, dockerfile: str
    ) -> Image:
        async with self._locks[name]:
            if (found := await self.find(name)) is not None:
                return found
            with await asyncio.to_thread(context) as archive:
                id = await self._build(name, archive, log, dockerfile)
            return Image(id, name)

    async def _build(self, name: str, archive: IO[bytes], log: Log, dockerfile: str) -> str:
        building = self._building
        asked = {
            "t": name,
            "dockerfile": dockerfile,
            "buildargs": dict(building.arguments),
            "labels": {LABEL: "1"},
            "networkmode": building.network,
            "rm": True,
            "forcerm": True,
        }
        work = self._progress(
            "build", asked, log, data=archive, headers={"Content-Type": "application/x-tar"}
        )
        id = None
        async for told in work:
            id = (told.get("aux") or {}).get("ID", id)
        if id is None:
            raise BackendUnavailable("the Docker engine went away while it built", retry_in_seconds=1.0)
        return str(id)

    async def _pulled(self, name: str, log: Log) -> Image:
        async with self._locks[name]:
            if (found := await self.find(name)) is not None:
                return found
            await log(f"Pulling {name}")
            whole = name if re.search(r"[:@][^/]+$", name) else f"{name}:latest"
            async for _ in self._progress("images/create", {"fromImage": whole}, log, headers=self._login()):
                pass
        if (found := await self.find(name)) is None:
            raise PreparationFailed(f"the image {name} was pulled, and is not there")
        return found

    async def _pushed(self, image: Image, log: Log) -> Image:
        """The image where others can pull it, by the digest it has there."""
        key = image.id.removeprefix("sha256:")[:32]
        repository = f"{self._building.registry}/rungraph"
        digest = None
        try:
            await self._engine.json("POST", f"images/{image.id}/tag", {"repo": repository, "tag": key})
        except DockerError as error:
            raise _unavailable(error) from error
        async for told in self._progress(
            f"images/{repository}/push", {"tag": key}, log, headers=self._login()
        ):
            digest = (told.get("aux") or {}).get("Digest", digest)
        if digest is None:
            raise BackendUnavailable(f"{repository} did not say what it took", retry_in_seconds=5.0)
        return Image(image.id, image.name, f"{repository}@{digest}")

    def _login(self) -> dict[str, str]:
        words = json.dumps(dict(self._building.credentials or {}))
        return {"X-Registry-Auth": base64.urlsafe_b64encode(words.encode()).decode()}

    async def _progress(
        self, path: str, params: Parameters, log: Log, **more: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """What the engine tells of long work, its lines logged as they come; one that fails with its last words."""
        rest, said = "", list[str]()
        try:
            async with self._engine.stream("POST", path, params, **more) as response:
                async for told in _documents(response):
                    *lines, rest = (rest + _words(told)).split("\n")
                    for line in filter(None, (line.rstrip() for line in lines)):
                        said = [*([] if line.startswith("Step ") else said[1 - _LAST_WORDS :]), line]
                        await log(line)
                    if "error" in told:
                        raise await self._failure([*said, str(told["error"])])
                    yield told
        except DockerError as error:
            raise await self._failure([*said, error.message]) from error

    async def _failure(self, said: list[str]) -> Exception:
        """What its last words mean: an engine that goes down ends its work as if that had failed."""
        await self._engine.knock()
        words = "\n".join(said)
        return (
            BackendUnavailable(words, retry_in_seconds=1.0)
            if _ENDED in said[-1]
            else PreparationFailed(words)
        )


def _words(told: Mapping[str, Any]) -> str:
    """What is worth a line of a log: a build's own words, and of transfers what is settled."""
    if "stream" in told:
        return _PAINT.sub("", str(told["stream"]))
    status = str(told.get("status", ""))
    whose = f"{told['id']}: " if "id" in told else ""
    return f"{whose}{status}\n" if _SETTLED.match(status) else ""


async def _documents(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """JSON documents, a line each, however long."""
    rest = b""
    with reachable():
        async for chunk in response.content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, whole):
                yield json.loads(line)


def _digest(*made_of: Any) -> str:
    plain = [dict(each) if isinstance(each, Mapping) else each for each in made_of]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:40]


def _small(files: Mapping[str, str]) -> IO[bytes]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    archive.seek(0)
    return archive


def _context(source: Path, dockerfile: str) -> IO[bytes]:
    """The folder as a build's context: the same bytes for the same content, so that the builder knows its layers."""
    ignored = Ignored.of(source, keep=(dockerfile, ".dockerignore"))
    archive = tempfile.TemporaryFile()  # noqa: SIM115
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source).as_posix()
            if ignored.has(name):
                continue
            member = tar.gettarinfo(path, name)
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            if member.isreg():
                with path.open("rb") as content:
                    tar.addfile(member, content)
            elif member.isdir() or member.issym():
                tar.addfile(member)
    archive.seek(0)
    return archive


def _unavailable(error: DockerError) -> BackendUnavailable:
    return BackendUnavailable(f"Docker: {error.message}")


async def _silence(_line: str) -> None:
    """Nobody listens."""
