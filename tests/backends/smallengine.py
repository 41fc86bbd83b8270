"""A Docker engine of a test's own, over HTTP: images with names, containers that are made and never run, archives.

For what a real one cannot be asked for: to be started anew, to have no network, to lack nothing but a moment.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.backends.standins import answering


@dataclass
class SmallEngine:
    """What it has, and how it is configured. `used` are the images of containers that others have there."""

    url: str = ""
    names: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    bridge: str | None = field(default_factory=lambda: secrets.token_hex(32))
    live_restore: bool = False
    is_down: bool = False
    """Nobody new is let in."""
    answers: dict[str, Callable[[Request], Awaitable[Response]]] = field(default_factory=dict)
    """What is answered otherwise than it would."""

    def restart(self) -> None:
        """Begin another life: the default network is another one, unless it is kept for what runs or there is none."""
        if self.bridge is not None and not self.live_restore:
            self.bridge = secrets.token_hex(32)
        self.containers = {
            name: each for name, each in self.containers.items() if not each["HostConfig"].get("AutoRemove")
        }

    def _image(self, name: str) -> str | None:
        return name if name in self.names.values() else self.names.get(name)

    async def imported(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["fromSrc"] == "-" and not any(await request.body()), "an archive of nothing"
        self.names[f"{asked['repo']}:{asked['tag']}"] = f"sha256:{secrets.token_hex(32)}"
        return Response(b'{"status": "done"}\n', media_type="application/json")

    async def version(self, _: Request) -> Response:
        if self.is_down:
            return _refused(503, "going down")
        return JSONResponse({"ApiVersion": "1.41"})

    async def info(self, request: Request) -> Response:
        if (answer := self.answers.get("info")) is not None:
            return await answer(request)
        told = {"Name": "node", "NCPU": 2, "MemTotal": 1 << 30, "LiveRestoreEnabled": self.live_restore}
        return JSONResponse(told)

    async def network(self, _: Request) -> Response:
        return JSONResponse({"Id": self.bridge}) if self.bridge else _refused(404, "network bridge not found")

    async def image(self, request: Request) -> Response:
        id = self._image(request.path_params["name"])
        if id is None:
            return _refused(404, "no such image")
        return JSONResponse({"Id": id, "RepoTags": [name for name, each in self.names.items() if each == id]})

    async def build(self, request: Request) -> Response:
        if (answer := self.answers.get("build")) is not None:
            return await answer(request)
        id = f"sha256:{hashlib.sha256(await request.body()).hexdigest()}"
        self.names[request.query_params["t"]] = id
        return Response(json.dumps({"aux": {"ID": id}}) + "\n", media_type="application/json")

    async def discard(self, request: Request) -> Response:
        """As engines do: the last name of an image that a container has is not taken away."""
        name = request.path_params["name"]
        if name not in self.names:
            return _refused(404, "no such image")
        id = self.names[name]
        if id in self.used and list(self.names.values()).count(id) == 1:
            return _refused(409, f"conflict: unable to remove repository reference {name!r}")
        del self.names[name]
        return JSONResponse([{"Untagged": name}])

    async def create(self, request: Request) -> Response:
        name, given = request.query_params["name"], await request.json()
        if name in self.containers:
            return _refused(409, f"the container name {name!r} is already in use")
        if self._image(given["Image"]) is None:
            return _refused(404, f"no such image: {given['Image']}")
        self.containers[name] = {**given, "Id": secrets.token_hex(32)}
        return JSONResponse({"Id": self.containers[name]["Id"]}, 201)

    async def listed(self, request: Request) -> Response:
        wanted = json.loads(request.query_params.get("filters", "{}")).get("label", ())
        found = [
            {"Id": each["Id"], "Labels": each["Labels"], "State": "created"}
            for each in self.containers.values()
            if all(_has(each["Labels"], label) for label in wanted)
        ]
        return JSONResponse(found)

    async def container(self, request: Request) -> Response:
        found = self.containers.get(request.path_params["name"])
        return JSONResponse(found) if found else _refused(404, "no such container")

    async def archive(self, request: Request) -> Response:
        found = self.archives.get(request.path_params["name"])
        return Response(found) if found is not None else _refused(404, "no such container")

    def app(self) -> Starlette:
        above = "/v1.41"
        return Starlette(
            routes=[
                Route("/version", self.version),
                Route(above + "/_ping", self.version),
                Route(above + "/info", self.info),
                Route(above + "/networks/bridge", self.network),
                Route(above + "/images/create", self.imported, methods=["POST"]),
                Route(above + "/images/{name:path}/json", self.image),
                Route(above + "/images/{name:path}", self.discard, methods=["DELETE"]),
                Route(above + "/build", self.build, methods=["POST"]),
                Route(above + "/containers/json", self.listed),
                Route(above + "/containers/create", self.create, methods=["POST"]),
                Route(above + "/containers/{name}/json", self.container),
                Route(above + "/containers/{name}/archive", self.archive),
            ]
        )


def _has(labels: dict[str, str], wanted: str) -> bool:
    name, _, value = wanted.partition("=")
    return name in labels and value in ("", labels[name])


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


@contextlib.asynccontextmanager
async def running(**configured: Any) -> AsyncIterator[SmallEngine]:
    """An engine that answers on 127.0.0.1 until the end."""
    engine = SmallEngine(**configured)
    async with answering(engine.app()) as port:
        engine.url = f"tcp://127.0.0.1:{port}"
        yield engine
