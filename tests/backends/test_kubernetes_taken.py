"""What attempts left, taken out of pods, against an API server that passes requests on to real couriers' answers."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backends import attempts, base
from backends.base import Ended, EndReason
from backends.kubernetes import courier, ends, listing
from backends.kubernetes.adapter import Kubernetes
from backends.kubernetes.cluster import Cluster
from backends.kubernetes.companions import Companion
from backends.kubernetes.followed import Hands
from backends.kubernetes.following import Following
from backends.kubernetes.options import KubernetesOptions
from backends.kubernetes.taken import Taken
from tests.backends import disks
from tests.backends.standins import small_cluster

DEADLINE_SECONDS = 30


class _Kept(io.BytesIO):
    def finish(self) -> None:
        """It has come whole."""


class Pods:
    """Folders of pods, <root>/<pod>/<output or spool>, and what is made of pods and taken away."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: set[str] = set()
        self.refused = asyncio.Event()
        self.strangers: set[str] = set()
        """Whose address has become another's, who answers there."""
        self.unknown: set[str] = set()
        """Of whom what stands before the API server knows nothing just now."""
        self.running: dict[str, Any] = {}

    async def folder(self, request: Request) -> Response:
        pod, name = request.path_params["pod"].partition(":")[0], request.path_params["name"]
        if pod in self.strangers:
            return Response(status_code=421)
        if pod in self.unknown:
            return Response("default backend - 404", 404)
        kept = _Kept()
        courier._pack(str(self.root / pod / name), kept)  # type: ignore[arg-type]
        return Response(kept.getvalue())

    async def make(self, request: Request) -> Response:
        """The pod of rank 1 is refused, before that of rank 0 is made."""
        name = (await request.json())["metadata"]["name"]
        if name.endswith("-1"):
            self.refused.set()
            return JSONResponse({"message": "denied"}, 422)
        await self.refused.wait()
        await asyncio.sleep(0.2)
        self.made.add(name)
        return JSONResponse({"metadata": {"name": name}}, 201)

    async def take_away(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.made.discard(request.path_params["pod"])
        return JSONResponse({"metadata": {}})

    async def pod(self, request: Request) -> Response:
        found = self.running.get(request.path_params["pod"])
        return JSONResponse(found) if found else JSONResponse({"message": "no such pod"}, 404)

    async def frames(self, request: Request) -> Response:
        pod = request.path_params["pod"].partition(":")[0]
        if pod in self.unknown or pod not in self.running:
            return Response("default backend - 404", 404)
        line = b"printed"
        return Response(attempts.FRAME.pack(1, 0, len(line), 1) + line)

    async def secret(self, request: Request) -> Response:
        key = base64.b64encode(b'{"key": "k"}').decode()
        return JSONResponse({"metadata": {"uid": "u", "name": "x"}, "data": {"courier.json": key}})

    def app(self) -> Starlette:
        above = "/api/v1/namespaces/ns"
        return Starlette(
            routes=[
                Route("/version", self.secret),
                Route(above + "/secrets", self.secret, methods=["POST"]),
                Route(above + "/secrets/{name}", self.secret, methods=["GET", "PATCH", "DELETE"]),
                Route(above + "/pods", self.make, methods=["POST"]),
                Route(above + "/pods/{pod}", self.pod, methods=["GET"]),
                Route(above + "/pods/{pod}/proxy/frames", self.frames),
                Route(above + "/pods/{pod}", self.take_away, methods=["PATCH", "DELETE"]),
                Route(above + "/pods/{pod}/proxy/folder/{name}", self.folder),
            ]
        )


@pytest.fixture
async def pods(tmp_path: Path) -> Pods:
    return Pods(tmp_path / "pods")


@pytest.fixture
async def config(pods: Pods, tmp_path: Path) -> AsyncIterator[str]:
    async with small_cluster(pods.app(), tmp_path) as path:
        yield path


@pytest.fixture
async def taken(pods: Pods, config: str, tmp_path: Path) -> AsyncIterator[Taken]:
    cluster = Cluster(config, None, "ns")
    await cluster.open()

    async def companion(handle: base.Handle, rank: int) -> Companion:
        return Companion(cluster, f"{handle['name']}-{rank}", 41571, "key")

    async def pod(handle: base.Handle, rank: int) -> Mapping[str, Any] | None:
        return pods.running.get(f"{handle['name']}-{rank}")

    found = Taken(tmp_path / "home", companion, pod)
    found.open()
    yield found
    await cluster.close()


def left(pods: Pods, pod: str, **files: bytes) -> Path:
    for folder in ("output", "spool"):
        (pods.root / pod / folder).mkdir(parents=True)
    for name, content in files.items():
        (pods.root / pod / "output" / name).write_bytes(content)
    return pods.root / pod


def handle_of(name: str, workers: int = 1) -> base.Handle:
    return {"name": name, "uid": "u", "workers": workers}


async def test_many_transfers_at_once_finish_with_few_threads(pods: Pods, taken: Taken) -> None:
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        left(pods, f"{name}-0", large=b"x" * (9 << 20))
    few = ThreadPoolExecutor(2)
    asyncio.get_running_loop().set_default_executor(few)
    async with asyncio.timeout(DEADLINE_SECONDS):
        folders = await asyncio.gather(*(taken.folder(handle_of(name), "output") for name in names))
    assert {(folder / "large").stat().st_size for folder in folders} == {9 << 20}


async def test_no_workers_link_leads_another_workers_file_out(
    pods: Pods, taken: Taken, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    first, second = left(pods, "gang-0"), left(pods, "gang-1", b=b"1")
    for folder in ("output", "spool"):
        (first / folder / "a").symlink_to(outside)
        (second / folder / "a").mkdir()
        (second / folder / "a" / "evil").write_text("x")
    handle = handle_of("gang", 2)
    output, spool = await taken.folder(handle, "output"), await taken.folder(handle, "spool")
    assert list(outside.iterdir()) == []
    assert [path.name for path in output.rglob("*")] == ["b"]
    assert sorted(path.relative_to(spool).as_posix() for path in spool.rglob("*")) == ["a", "a/evil"]


async def test_a_disk_of_ours_that_is_full_is_tried_again_when_there_is_room(
    pods: Pods, taken: Taken
) -> None:
    left(pods, "job-0", large=b"x" * (2 << 20))
    with disks.full(), pytest.raises(base.BackendUnavailable, match="cannot be written"):
        await taken.folder(handle_of("job"), "output")
    folder = await taken.folder(handle_of("job"), "output")
    assert (folder / "large").stat().st_size == 2 << 20


async def test_where_another_pod_answers_ours_is_gone_or_not_to_be_reached_just_now(
    pods: Pods, taken: Taken
) -> None:
    left(pods, "job-0", a=b"1")
    pods.strangers.add("job-0")
    answering = {"name": "courier", "state": {"running": {}}}
    pods.running["job-0"] = {"metadata": {}, "status": {"containerStatuses": [answering]}}
    with pytest.raises(base.BackendUnavailable, match="another pod answers"):
        await taken.take(handle_of("job"))
    del pods.running["job-0"]
    assert not await taken.take(handle_of("job"))
    pods.strangers.clear()
    assert await taken.take(handle_of("job"))


async def test_a_pod_that_nobody_knows_just_now_is_gone_only_where_it_is(pods: Pods, taken: Taken) -> None:
    left(pods, "job-0", a=b"1")
    pods.unknown.add("job-0")
    answering = {"name": "courier", "state": {"running": {}}}
    pods.running["job-0"] = {"metadata": {}, "status": {"containerStatuses": [answering]}}
    with pytest.raises(base.BackendUnavailable, match="default backend"):
        await taken.take(handle_of("job"))
    pods.unknown.clear()
    assert (await taken.folder(handle_of("job"), "output") / "a").read_bytes() == b"1"
    pods.unknown.add("other-0")
    assert not await taken.take(handle_of("other"))


async def test_output_of_a_pod_that_nobody_knows_just_now_is_read_later(
    pods: Pods, config: str, tmp_path: Path
) -> None:
    adapter = Kubernetes(tmp_path / "home", KubernetesOptions(owner="me", kubeconfig=config, namespace="ns"))
    await adapter.open()
    running: Mapping[str, Any] = {"started": True, "state": {"running": {}}}
    statuses = [{"name": name, **running} for name in ("courier", "main")]
    pods.running["job-0"] = {"metadata": {}, "status": {"containerStatuses": statuses}}
    pods.unknown.add("job-0")
    with pytest.raises(base.BackendUnavailable, match="default backend"):
        await adapter.read(handle_of("job"), 0, 0)
    pods.unknown.clear()
    assert [piece.data for piece in (await adapter.read(handle_of("job"), 0, 0)).pieces] == [b"printed"]
    pods.running.clear()
    assert (await adapter.read(handle_of("job"), 0, 0)).pieces == ()
    await adapter.close()


async def test_an_end_whose_outputs_cannot_be_kept_is_no_others() -> None:
    tries: list[str] = []

    async def stage(handle: base.Handle) -> bool:
        tries.append(handle["name"])
        if handle["name"] == "full" and tries.count("full") < 3:
            raise base.BackendUnavailable("it cannot be written: No space left on device")
        return True

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing else is done")

    over = {"terminated": {"exitCode": 0, "finishedAt": datetime.now(UTC).isoformat()}}
    listed = tuple(
        {
            "metadata": {"name": f"{name}-0", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {},
            "status": {"containerStatuses": [{"name": each, "state": over} for each in ("courier", "main")]},
        }
        for name in ("full", "other")
    )

    async def changes() -> AsyncIterator[listing.Listed | listing.Changed]:
        yield listing.Listed(listed)
        await asyncio.Event().wait()

    following = Following(Hands(nothing, stage, nothing, ends.Patience(60), 60, lambda *_: ""))
    for name in ("full", "other"):
        following.add(handle_of(name))
    ended: list[tuple[str, EndReason]] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for observation in following.observations(changes()):
            if isinstance(observation, Ended):
                ended.append((observation.name, observation.reason))
            if len(ended) == 2:
                break
    following.close()
    assert ended == [("other", EndReason.COMPLETED), ("full", EndReason.COMPLETED)]
    assert tries.count("full") == 3


async def test_no_pod_of_a_gang_that_is_refused_is_made_after_its_removal(
    pods: Pods, config: str, tmp_path: Path
) -> None:
    adapter = Kubernetes(tmp_path / "home", KubernetesOptions(owner="me", kubeconfig=config, namespace="ns"))
    await adapter.open()
    spec = base.JobSpec("job-0", ("x",), tmp_path, prepared="", input_document=b"{}", workers=2)
    with pytest.raises(base.LaunchRejected, match="denied"):
        await adapter.launch(spec)
    await asyncio.sleep(0.5)
    assert pods.made == set()
    await adapter.close()
