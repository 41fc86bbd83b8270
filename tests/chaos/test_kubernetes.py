"""What may happen to pods: deleted, evicted, over their memory, without an image; and the API server away."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Set
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.kubernetes.cluster import Refused
from backends.kubernetes.template import PREFIX
from tests.chaos.kubernetes_place import Kubernetes
from tests.chaos.loads import SECONDS, Figures, greedy, hit, load, tried_again

pytestmark = [pytest.mark.chaos, pytest.mark.kubernetes]
Tell = Callable[[Figures], None]
AWAY_SECONDS = 30.0


@pytest.fixture
def place(tmp_path: Path) -> Kubernetes:
    return Kubernetes(tmp_path)


async def running(place: Kubernetes) -> list[dict[str, Any]]:
    """The pods whose job runs and that nobody has asked to end."""
    return [
        pod
        for pod in await place.pods()
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


async def disturb(place: Kubernetes, held: Set[str], others: int, evict: bool) -> set[str]:
    """Have the pods of the runs held taken away, by hand or by the API that drains nodes, and so many others.

    The others' runs: they may be over before their node has heard of it, which takes seconds where many begin.
    """
    chance = random.Random(others)
    done: set[str] = set()
    while not held <= done or len(done - held) < others:
        found = [pod for pod in await running(place) if of(pod) not in done]
        wanted = [pod for pod in found if of(pod) in held or len(done - held) < others]
        if not wanted and held <= done:
            break  # the others are over already
        for pod in chance.sample(wanted, min(1, len(wanted))):
            with contextlib.suppress(Refused):
                await take(place, pod["metadata"]["name"], evict)
                done.add(of(pod))
        await asyncio.sleep(0.3)
    return done - held


async def take(place: Kubernetes, name: str, evict: bool) -> None:
    """Have one pod deleted, or evicted."""
    path = place.cluster.path("pods", name)
    if evict:
        body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}}
        await place.cluster.json("POST", f"{path}/eviction", body=body)
    else:
        await place.cluster.json("DELETE", path)


def of(pod: Mapping[str, Any]) -> str:
    """The run that a pod is of."""
    run: str = pod["metadata"]["labels"][f"{PREFIX}run"]
    return run


@pytest.mark.parametrize("evict", [False, True], ids=["deleted", "evicted"])
async def test_pods_are_taken_away(
    place: Kubernetes, sqlite_url: str, kills: int, jobs: int, told: Tell, evict: bool
) -> None:
    figures = Figures("kubernetes", f"pods {'evicted' if evict else 'deleted'}", kills, jobs)
    told(figures)
    async with load(place, sqlite_url, retries=1) as made:
        held = set(await made.start(kills, fate="held"))
        await made.start(jobs - kills, pause=0.2)
        async with asyncio.timeout(SECONDS):
            others = await disturb(place, held, kills, evict)
        await made.judge(figures, hit(held, others, "PREEMPTED"))


@pytest.mark.node
async def test_the_engine_below_the_pods_is_started_anew(
    place: Kubernetes, restart: str, sqlite_url: str, jobs: int, told: Tell
) -> None:
    figures = Figures("kubernetes", "the nodes' engine started anew", 1, jobs)
    told(figures)
    async with load(place, sqlite_url, retries=1) as made:
        await made.start(jobs // 2, pause=0.5)
        await asyncio.sleep(random.Random(jobs).uniform(4, 8))
        process = await asyncio.create_subprocess_shell(restart)
        assert await process.wait() == 0
        await made.start(jobs - len(made.runs))
        await made.judge(figures, tried_again("LOST"))


async def test_pods_over_their_memory_end_so(
    place: Kubernetes, sqlite_url: str, jobs: int, told: Tell
) -> None:
    async with greedy(place, sqlite_url, jobs, told) as (made, figures, taken):
        await made.judge(
            figures, lambda run, reasons: reasons == ["OUT_OF_MEMORY" if run in taken else "COMPLETED"]
        )


async def test_an_image_that_cannot_be_had_ends_what_needs_it(
    place: Kubernetes, sqlite_url: str, told: Tell
) -> None:
    figures = Figures("kubernetes", "an image missing", 1, 1)
    told(figures)
    missing = {"image": "rungraph.invalid/nothing:here", "image_seconds": 3, "builder": None}
    place.options |= missing
    async with load(place, sqlite_url) as made:
        await made.start(1)
        await made.judge(figures, lambda _run, reasons: reasons == ["IMAGE_UNAVAILABLE"] * 3)


async def test_the_api_server_is_away(
    place: Kubernetes, sqlite_url: str, tmp_path: Path, jobs: int, told: Tell
) -> None:
    figures = Figures("kubernetes", f"the API server away {AWAY_SECONDS:.0f} s", 1, jobs)
    told(figures)
    async with gate(place, tmp_path) as door, load(place, sqlite_url) as made:
        await made.start(jobs // 2, pause=0.2)
        await asyncio.sleep(4)
        await door.shut()
        await made.start(jobs - len(made.runs))
        await asyncio.sleep(AWAY_SECONDS)
        await door.open()
        await made.judge(figures)


class Door:
    """The way to the API server, which can be shut: who is connected is cut off, and nobody gets in."""

    def __init__(self, host: str, port: int) -> None:
        self._there = host, port
        self._port = 0
        self._through: set[asyncio.StreamWriter] = set()

    async def open(self) -> int:
        """Let through; the port."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    async def shut(self) -> None:
        """Let nobody through."""
        self._server.close()
        for writer in list(self._through):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(*self._there)
        self._through |= {writer, ours}
        await asyncio.gather(self._copy(reader, ours), self._copy(theirs, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        self._through.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def gate(place: Kubernetes, folder: Path) -> AsyncIterator[Door]:
    """Have the server reach the API server by a door, and the test itself as ever."""
    config = yaml.safe_load(Path(place.direct).read_text())
    cluster = config["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    door = Door(host, int(port))
    cluster["server"] = f"https://127.0.0.1:{await door.open()}"
    (folder / "kubeconfig").write_text(json.dumps(config))
    place.options["kubeconfig"] = str(folder / "kubeconfig")
    try:
        yield door
    finally:
        await door.shut()
