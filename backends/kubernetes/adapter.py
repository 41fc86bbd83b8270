"""The backend: attempts as Secrets and pods, made once, watched together, and taken away.

`pods.py` has what is made, `following.py` what `watch` tells, `ends.py` how ends are read, `courier.py` what runs
in the pods beside the jobs.
"""

import asyncio
import base64
import contextlib
import json
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from backends import attempts, base, frames, options, pythons
from backends.kubernetes import complaints, ends, listing, nodes, pods
from backends.kubernetes.building import Builder
from backends.kubernetes.cluster import Cluster, Refused
from backends.kubernetes.companions import NOT_THERE, Companion
from backends.kubernetes.followed import Hands
from backends.kubernetes.following import Following
from backends.kubernetes.options import KubernetesOptions
from backends.kubernetes.pods import Image
from backends.kubernetes.refusals import Refusals, crowded
from backends.kubernetes.statuses import container, is_running
from backends.kubernetes.taken import Taken
from backends.kubernetes.usage import Usage

log = structlog.get_logger(__name__)

NAME = re.compile(r"[a-z]([a-z0-9-]{0,58}[a-z0-9])?")
MAX_WORKERS = 64
_METADATA = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
_METADATA_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
_TAKEN = 409


def adapter(home: Path, given: Mapping[str, Any]) -> base.Backend:
    """A cluster, as configured."""
    return Kubernetes(home, options.parse(KubernetesOptions, given))


class Kubernetes:
    """The backend of one namespace of one cluster; what it fetches is kept below `home`."""

    def __init__(self, home: Path, options: KubernetesOptions) -> None:
        self._home = home.absolute()
        self._options = options
        self._cluster = Cluster(options.kubeconfig, options.context, options.namespace)
        self._builder = Builder(options) if options.builder is not None else None
        self._keys: dict[str, str] = {}
        self._launched: dict[str, base.Handle] = {}
        self._refusals = Refusals()
        self._following: Following | None = None
        self._taken = Taken(self._home, self._companion, self._pod)

    @property
    def capabilities(self) -> base.Capabilities:
        return base.Capabilities(
            scope=base.Scope.CLUSTER,
            needs_container=True,
            max_workers=MAX_WORKERS,
            memory="limits of its pod",
            cpus="limits of its pod",
        )

    async def open(self) -> None:
        try:
            self._taken.open()
        except OSError as error:
            raise base.BackendUnavailable(f"{self._home} cannot be used: {error}") from error
        await self._cluster.open()

    async def capacity(self) -> base.Capacity | None:
        try:
            found = await self._cluster.json("GET", "/api/v1/nodes")
        except Refused as error:
            if error.status != 403:
                raise base.BackendUnavailable(f"the cluster refuses: {error}") from error
            await self._cluster.json("GET", "/version")  # it is there, and its nodes are none of our business
            return None
        template = (self._options.pod or {}).get("spec") or {}
        return nodes.capacity(found["items"], template.get("nodeSelector") or {}, self._options.gpu_resource)

    async def prepare(self, spec: base.PrepareSpec, log: Callable[[str], Awaitable[None]]) -> str:
        if self._builder is not None:
            return (await self._builder.prepare(spec, log)).prepared
        if spec.requirements or spec.dockerfile:
            what = "Python requirements" if spec.requirements else "a Dockerfile"
            raise base.PreparationFailed(
                f"the module has {what}, and this backend has no `builder` to make an image of them"
            )
        return spec.image or pythons.image(self._options.image, spec.python)

    async def discard(self, prepared: str) -> None:
        if self._builder is not None and prepared:
            await self._builder.discard(Image.of(prepared, ""))

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        base.check(spec, NAME, "a Secret and pods", MAX_WORKERS)
        image = Image.of(spec.prepared, self._options.image)
        uid, launched = await self._intend(spec, image)
        handle = _handle(spec.name, uid, spec.workers)
        if not launched:
            if spec.workers > 1 and self._options.service:
                await self._make("services", pods.service(spec, self._options, uid), spec)
            made = [pods.pod(spec, self._options, image, uid, rank) for rank in range(spec.workers)]
            # All are waited for: what is made after the removal would stay.
            results = await asyncio.gather(
                *(self._make("pods", pod, spec) for pod in made), return_exceptions=True
            )
            failures = [each for each in results if each is not None]
            for failure in failures:
                if isinstance(failure, base.LaunchRejected):
                    await self.remove(handle)
                    raise failure
            if any(isinstance(failure, base.Crowded) for failure in failures):
                # Half a gang would hold what another half needs.
                await asyncio.gather(*(self._let_go(handle, rank) for rank in range(spec.workers)))
            if failures:
                raise failures[0]
            # From here on a pod that is not there is one that is gone.
            note = {"metadata": {"annotations": {pods.LAUNCHED: "true"}}}
            await self._refusable(self._cluster.patch(self._cluster.path("secrets", spec.name), note))
        self._launched[spec.name] = handle
        self._refusals.forget(spec.name)
        if self._following is not None:
            self._following.add(handle, launched_here=True)
        return handle

    async def watch(self, known: Sequence[base.Handle]) -> AsyncGenerator[base.Observation]:
        if self._following is not None:
            raise RuntimeError("this adapter is watched already")
        hands = Hands(
            companion=self._companion,
            stage=self._taken.take,
            withdraw=self._withdraw,
            patience=ends.Patience(image_seconds=self._options.image_seconds),
            gang_seconds=self._options.gang_seconds,
            host=self._host,
        )
        self._following = following = Following(hands)
        try:
            for handle in known:
                following.add(handle)
            for handle in self._launched.values():
                following.add(handle, launched_here=True)
            selector = f"{pods.LABEL_OWNER}={self._options.owner}"
            if self._options.usage_seconds:
                usage = Usage(self._cluster, selector, self._companion)
                following.work(usage.watch(following.running, self._options.usage_seconds))
            following.work(complaints.watch(self._cluster, following.has_quiet, following.complain))
            changes = listing.follow(self._cluster, selector)
            async with contextlib.aclosing(following.observations(changes)) as observations:
                async for observation in observations:
                    if isinstance(observation, base.Ended):
                        self._launched.pop(observation.name, None)
                    yield observation
        finally:
            following.close()
            self._following = None

    async def read(
        self, handle: base.Handle, rank: int, offset: int, limit_bytes: int = 1 << 20
    ) -> base.Output:
        name, limit = str(handle["name"]), max(limit_bytes, attempts.FRAME_BYTES_MAX)
        self._taken.reach(name, rank, offset)
        try:
            data = await (await self._companion(handle, rank)).frames(offset, limit)
        except Refused as error:
            if error.status not in NOT_THERE or await self._has_more(handle, rank, offset):
                raise base.BackendUnavailable(f"output cannot be read: {error}") from error
            data = self._taken.frames(name, rank, offset, limit)
        except base.BackendUnavailable:
            if await self._has_more(handle, rank, offset):
                raise
            data = self._taken.frames(name, rank, offset, limit)
        return frames.parse(data, offset, limit_bytes)

    async def stored(self, handle: base.Handle, rank: int, offset: int) -> None:
        # What is not freed now is freed with what comes later.
        with contextlib.suppress(base.BackendUnavailable, Refused):
            await (await self._companion(handle, rank)).stored(offset)

    async def outputs(self, handle: base.Handle) -> Path:
        return await self._taken.folder(handle, "output")

    async def spool(self, handle: base.Handle) -> Path:
        return await self._taken.folder(handle, "spool")

    async def stop(self, handle: base.Handle, grace_seconds: float) -> None:
        await asyncio.gather(*(self._stop(handle, rank, grace_seconds) for rank in range(handle["workers"])))

    async def suspend(self, handle: base.Handle) -> None:
        raise NotImplementedError("pods cannot be suspended")

    async def resume(self, handle: base.Handle) -> None:
        raise NotImplementedError("pods cannot be suspended")

    async def remove(self, handle: base.Handle) -> None:
        name = str(handle["name"])
        self._launched.pop(name, None)
        if self._following is not None:
            self._following.forget(name)
        await asyncio.gather(*(self._let_go(handle, rank) for rank in range(handle["workers"])))
        with _missing():
            await self._cluster.json(
                "DELETE",
                self._cluster.path("secrets", name),
                body={"propagationPolicy": "Background", **_only(handle)},
            )
        self._keys.pop(name, None)
        self._refusals.forget(name)
        await self._taken.discard(name)

    async def held(self) -> Sequence[base.Handle]:
        query = [("labelSelector", f"{pods.LABEL_OWNER}={self._options.owner}")]
        found = await self._refusable(
            self._cluster.json("GET", self._cluster.path("secrets"), query=query, headers=_METADATA_LIST)
        )
        return [_of_metadata(each["metadata"]) for each in found["items"] or ()]

    async def close(self) -> None:
        if self._following is not None:
            self._following.close()
        await self._cluster.close()
        if self._builder is not None:
            await self._builder.close()

    async def _intend(self, spec: base.JobSpec, image: Image) -> tuple[str, bool]:
        """The uid of the attempt's Secret, made now or found; and whether its pods have all been made."""
        key = secrets.token_urlsafe(24)
        document = pods.secret(spec, self._options, image, key)
        path = self._cluster.path("secrets")
        try:
            made = await self._cluster.json("POST", path, body=document, headers=_METADATA)
            self._keys[spec.name] = key
        except Refused as error:
            if error.status != _TAKEN:
                raise self._refusals.judge(spec.name, error) from error
            made = await self._refusable(self._cluster.json("GET", f"{path}/{spec.name}", headers=_METADATA))
        metadata = made["metadata"]
        return metadata["uid"], pods.LAUNCHED in (metadata.get("annotations") or {})

    async def _make(self, kind: str, document: Mapping[str, Any], spec: base.JobSpec) -> None:
        """Make an object that may be there already, by us."""
        try:
            await self._cluster.json("POST", self._cluster.path(kind), body=document, headers=_METADATA)
        except Refused as error:
            if error.status != _TAKEN:
                workers = spec.workers if kind == "pods" else 1
                raise self._refusals.judge(spec.name, error, workers=workers) from error
            if kind == "pods":
                await self._require_there(document["metadata"]["name"])

    async def _require_there(self, name: str) -> None:
        """Raise Crowded where what is there of a pod is on its way out: a gang let go of it for want of room."""
        labels: Mapping[str, str] = {}
        with _missing():
            found = await self._cluster.json("GET", self._cluster.path("pods", name), headers=_METADATA)
            labels = found["metadata"].get("labels") or {}
        if pods.LABEL_OWNER not in labels:
            raise crowded(f"the pod {name} of the last try has not gone yet")

    async def _refusable(self, asked: Awaitable[Any]) -> Any:
        """Where a refusal is nobody's mistake but the cluster's, or its roles'."""
        try:
            return await asked
        except Refused as error:
            raise base.BackendUnavailable(f"the cluster refuses: {error}") from error

    async def _companion(self, handle: base.Handle, rank: int) -> Companion:
        name = str(handle["name"])
        if name not in self._keys:
            found = await self._cluster.json("GET", self._cluster.path("secrets", name))
            self._keys[name] = json.loads(base64.b64decode(found["data"]["courier.json"]))["key"]
        return Companion(
            self._cluster, pods.pod_name(name, rank), self._options.courier_port, self._keys[name]
        )

    async def _pod(self, handle: base.Handle, rank: int) -> Mapping[str, Any] | None:
        with _missing():
            found: Mapping[str, Any] = await self._cluster.json(
                "GET", self._cluster.path("pods", pods.pod_name(str(handle["name"]), rank))
            )
            return found
        return None

    async def _has_more(self, handle: base.Handle, rank: int, offset: int) -> bool:
        """Whether a courier that does not answer has output that it could hand out later."""
        following = self._following
        state = None if following is None else following.state(str(handle["name"]), rank)
        if state is not None and state.size <= offset and state.ended_us is not None:
            return False
        pod = await self._pod(handle, rank)
        return pod is not None and ends.is_answering(pod) and bool(container(pod, "main").get("started"))

    async def _stop(self, handle: base.Handle, rank: int, grace_seconds: float) -> None:
        pod = await self._pod(handle, rank)
        if pod is None or "terminated" in (container(pod, "main").get("state") or {}):
            return
        if is_running(pod, "courier"):
            try:
                companion = await self._companion(handle, rank)
                state = await companion.state(-1, 0)
                if state.started_us is not None:
                    await companion.stop(grace_seconds)
                    return
            except Refused as error:
                if error.status not in NOT_THERE:
                    raise base.BackendUnavailable(f"it cannot be stopped: {error}") from error
        await self._withdraw(handle, rank, "it was stopped before it began")

    async def _withdraw(self, handle: base.Handle, rank: int, why: str) -> None:
        """Take a pod away whose job has not begun, saying why where its end is read."""
        path = self._cluster.path("pods", pods.pod_name(str(handle["name"]), rank))
        with _missing():
            await self._cluster.patch(path, {"metadata": {"annotations": {ends.WITHDRAWN: why}}})
            await self._cluster.json("DELETE", path, body={"gracePeriodSeconds": 1})

    async def _let_go(self, handle: base.Handle, rank: int) -> None:
        """A pod's end: out of sight, its finalizer off, and gone in a moment."""
        name = pods.pod_name(str(handle["name"]), rank)
        path = self._cluster.path("pods", name)
        with contextlib.suppress(base.BackendUnavailable, Refused):
            await (await self._companion(handle, rank)).release()
        with _missing():
            unseen = {"finalizers": None, "labels": {pods.LABEL_OWNER: None}}
            await self._cluster.patch(path, {"metadata": unseen})
            await self._cluster.json("DELETE", path, body={"gracePeriodSeconds": 1})

    def _host(self, handle: base.Handle, rank: int, address: str) -> str:
        if not self._options.service:
            return address
        return pods.host_name(str(handle["name"]), self._cluster.namespace, rank)


def _handle(name: str, uid: str, workers: int) -> base.Handle:
    return {"name": name, "uid": uid, "workers": workers}


def _of_metadata(metadata: Mapping[str, Any]) -> base.Handle:
    workers = int((metadata.get("annotations") or {}).get(pods.WORKERS, "1"))
    return _handle(metadata["name"], metadata["uid"], workers)


def _only(handle: base.Handle) -> dict[str, Any]:
    """Nothing but this very object: another may have its name by now."""
    return {"preconditions": {"uid": handle["uid"]}} if handle.get("uid") else {}


@contextlib.contextmanager
def _missing() -> Any:
    """What is not there, or is another's by now, is as it should be."""
    try:
        yield
    except Refused as error:
        if error.status not in (404, _TAKEN):
            raise base.BackendUnavailable(f"the cluster refuses: {error}") from error
