"""A whole server in the test's own loop: the application with its lifespan, a port, and who talks to it.

HTTP goes straight into the application; WebSockets, and jobs that report back, use a real port on which
uvicorn serves the same application. `Server` speaks as the administrator and has the verbs of a user.
At the end nothing may be left: no connection out of a pool, no process of a job.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import Pool, event
from starlette.applications import Starlette
from starlette.types import ASGIApp

from graph.app import create_app
from graph.connections import Connection
from graph.frames import Protocol
from graph.settings import Settings
from graph.surroundings import Surroundings
from rungraph.api import Client
from tests.backends import localground
from tests.backends.grounds import eventually

PATIENCE_SECONDS = 60.0
"""How long anything may take on a busy machine."""
ROOMY = {"slots": 64, "cpus": 64.0, "memory_bytes": 1 << 40, "usage_seconds": 0}
"""Room for any job, and nothing in a run's feed that depends on how long it took."""
_numbers = itertools.count(1)

Functions = Mapping[str, str | Mapping[str, Any]]

RUN = """query ($id: ID!) { run(id: $id) { id name state seq idempotencyKey createdAt startedAt endedAt jobs {
  id step state reason message exitCode arguments output needs
  attempts { id number reason exitCode workers { id rank phase exitCode } }
  inputs { id name } outputs { id name sizeBytes sha256 tags url }
  logs(first: 100) { nodes { text stream seq rank attempt } } } } }"""
VERSION = """query ($id: ID!) { node(id: $id) { ... on ModuleVersion {
  id number state message digest problems { file line column path rule message }
  module { id name activeVersion { id } } preparations { id state message } functions { id name } } } }"""
FOLLOW_VERSION = """subscription ($id: ID!, $after: Int64) { moduleVersion(id: $id, after: $after) {
  __typename ... on FeedEvent { seq } } }"""
FOLLOW_RUN = """subscription ($id: ID!, $after: Int64) { run(id: $id, after: $after) {
  __typename ... on FeedEvent { seq }
  ... on RunChanged { runState } ... on JobChanged { step jobState reason } ... on WorkerChanged { phase rank }
  ... on PointsAdded { series { name steps values } } ... on LinesAdded { step lines { text } } } }"""


@dataclass
class Server:
    """A running server."""

    app: Starlette
    url: str
    home: Path
    http: httpx.AsyncClient
    client: Client
    out: set[Any] = field(default_factory=set)

    @property
    def around(self) -> Surroundings:
        """What its requests work with."""
        found: Surroundings = self.app.state.around
        return found

    async def post(self, query: Any, variables: Any = None, **headers: str | None) -> httpx.Response:
        """An operation as the administrator, or as the headers have it; None leaves a header out."""
        given = {"Accept": "application/graphql-response+json", "Authorization": self.bearer}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[misc]
        body: dict[str, Any] = (
            {"query": query} if variables is None else {"query": query, "variables": variables}
        )
        return await self.http.post(
            "/graphql", json=body, headers={name: value for name, value in given.items() if value is not None}
        )

    @property
    def bearer(self) -> str:
        """The administrator's credential."""
        return f"Bearer {self.client.token}"

    async def ask(self, query: str, **variables: Any) -> Any:
        """The data of an operation that must succeed; that of its only field, if it has but one."""
        answer = (await self.post(query, variables)).json()
        assert "errors" not in answer, answer
        data = answer["data"]
        return next(iter(data.values())) if len(data) == 1 else data

    async def change(self, mutation: str, returning: str, **input: Any) -> Any:
        """A mutation by its name: its payload, whose `errors` say what was refused."""
        kind = mutation[0].upper() + mutation[1:]
        query = (
            f"mutation ($input: {kind}Input!) {{ {mutation}(input: $input) "
            f"{{ {returning} errors {{ code message path retryable }} }} }}"
        )
        return await self.ask(query, input=input)

    async def install(self, functions: Functions, name: str | None = None, **manifest: Any) -> Any:
        """A module written for the test: functions by name, Python or a whole declaration; its version."""
        name = name or f"m{next(_numbers)}"
        folder = self.home.parent / "modules" / f"{name}-{next(_numbers)}"
        written = {"name": name, **manifest, "functions": {key: _function(v) for key, v in functions.items()}}
        write_module(folder, written)
        version = await self.install_folder(folder)
        assert version["state"] == "READY", version
        return version

    async def install_folder(self, folder: Path | str) -> Any:
        """The version that a folder becomes, when nothing more happens to it."""
        return await self.install_source(source=str(folder))

    async def install_source(self, **input: Any) -> Any:
        """The version that a source becomes, when nothing more happens to it."""
        payload = await self.change("installModule", "version { id }", **input)
        assert payload["errors"] == [], payload
        version_id = payload["version"]["id"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _ in self.client.follow(FOLLOW_VERSION, {"id": version_id}):
                pass
        return await self.ask(VERSION, id=version_id)

    async def draw(self, *steps: Any, name: str | None = None) -> str:
        """A pipeline of these steps: addresses, or whole ones; its id."""
        given = [s if isinstance(s, dict) else {"name": s.rpartition("/")[2], "function": s} for s in steps]
        payload = await self.change(
            "createPipeline", "pipeline { id }", name=name or f"p{next(_numbers)}", steps=given
        )
        assert payload["errors"] == [], payload
        return str(payload["pipeline"]["id"])

    async def pipeline(self, functions: Functions, **manifest: Any) -> str:
        """A pipeline of a new module's functions, one after the other; its id."""
        version = await self.install(functions, **manifest)
        return await self.draw(*(f"{version['module']['name']}/{name}" for name in functions))

    async def start(self, pipeline: str, **input: Any) -> Any:
        """A run that was started: its id and seq."""
        payload = await self.change("startRun", "run { id seq state }", pipeline=pipeline, **input)
        assert payload["errors"] == [], payload
        return payload["run"]

    async def finish(self, run_id: str) -> Any:
        """A run at its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _ in self.client.follow(FOLLOW_RUN, {"id": run_id}):
                pass
        return await self.ask(RUN, id=run_id)

    async def play(self, code: str | Mapping[str, Any], **input: Any) -> Any:
        """A run of one step to its end."""
        run = await self.start(await self.pipeline({"step": code}), **input)
        return await self.finish(run["id"])

    async def until(self, run_id: str, kind: str, **values: Any) -> dict[str, Any]:
        """The first event of a run's feed of this kind with these values, now or soon."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._events(run_id) as events:
            async for found in events:
                if found["__typename"] == kind and values.items() <= found.items():
                    return found
        raise AssertionError(f"the run ended without {kind} {values}")

    @contextlib.asynccontextmanager
    async def _events(self, run_id: str) -> AsyncIterator[AsyncGenerator[dict[str, Any]]]:
        async with contextlib.aclosing(self.client.follow(FOLLOW_RUN, {"id": run_id})) as events:
            yield events

    async def upload(self, name: str, content: bytes = b"content", **input: Any) -> str:
        """A file that is ready to be given to runs; its id."""
        file = await self.announce(name, len(content), **input)
        assert (await self.put(file, content)).status_code == 204
        digest = hashlib.sha256(content).hexdigest()
        payload = await self.change(
            "completeUpload", "file { state }", id=file, sha256=digest, sizeBytes=len(content)
        )
        assert payload["errors"] == [], payload
        return file

    async def announce(self, name: str, size_bytes: int, **input: Any) -> str:
        """A file whose content is to come; its id."""
        payload = await self.change("createUpload", "file { id }", name=name, sizeBytes=size_bytes, **input)
        assert payload["errors"] == [], payload
        return str(payload["file"]["id"])

    async def put(self, file: str, content: bytes, **headers: str) -> httpx.Response:
        """Send a file's content."""
        given = {"Authorization": self.bearer, **headers}
        return await self.http.put(f"/files/{file}", content=content, headers=given)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """A file's content, or whatever lies there, as the administrator."""
        return await self.http.get(path, headers={"Authorization": self.bearer, **headers})

    async def is_well(self) -> bool:
        """Whether it answers."""
        return bool(await self.ask("{ viewer { kind } }") == {"kind": "ADMINISTRATOR"})


@contextlib.asynccontextmanager
async def serving(home: Path, database_url: str, **settings: Any) -> AsyncIterator[Server]:
    """A server, from its start to its end; what it launched and left running stays for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(Settings(home=home, database_url=database_url, **{**ROOMY, **settings}), url=url)
        async with app.router.lifespan_context(app):
            token = (home / "token").read_text().strip()
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with (
                listening(app, listener),
                httpx.AsyncClient(transport=transport, base_url=url) as http,
                Client(url, token) as client,
            ):
                server = Server(app, url, home, http, client)
                with _counting(server.around.database.pools, server.out):
                    yield server
        assert not server.out, f"connections are still out: {server.out}"


async def clear(home: Path) -> None:
    """End whatever jobs of a home still run, and see that no process is left."""
    for attempt in (home / "local" / "jobs").glob("*"):
        localground.end(attempt)

    async def nothing_left() -> bool:
        return not localground.left(home)

    await eventually(nothing_left)


def write_module(folder: Path, manifest: Any, **files: str) -> Path:
    """A module's folder: JSON is YAML."""
    folder.mkdir(parents=True)
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (folder / "rungraph.yaml").write_text(text)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def _function(given: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, str):
        return {"command": ["python", "-S", "-c", given]}
    rest = dict(given)
    code = rest.pop("code", None)
    return rest if code is None else {"command": ["python", "-S", "-c", code], **rest}


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the test."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp, listener: socket.socket, http: type[asyncio.Protocol] = Connection
) -> AsyncIterator[None]:
    """uvicorn, serving an application at a socket."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=http,
        ws=Protocol,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.contextmanager
def _counting(pools: tuple[Pool, ...], out: set[Any]) -> Iterator[None]:
    """Keep in `out` what is out of the pools."""

    def leaves(_connection: Any, record: Any, _proxy: Any) -> None:
        out.add(record)

    def returns(_connection: Any, record: Any) -> None:
        out.discard(record)

    for pool in pools:
        event.listen(pool, "checkout", leaves)
        event.listen(pool, "checkin", returns)
        event.listen(pool, "detach", returns)  # what is kept for good is no pool's any more
    yield
