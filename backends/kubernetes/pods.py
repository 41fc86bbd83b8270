"""What an attempt is in the cluster: the documents of its Secret, its Service and its pods. Pure.

Everything in them follows from the JobSpec and the options, so that who makes them again makes the same.
"""

import base64
import json
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import attempts, backlog, base
from backends.kubernetes import template
from backends.kubernetes.options import KubernetesOptions

LABEL_OWNER = f"{template.PREFIX}owner"
LABEL_NAME = f"{template.PREFIX}name"
LABEL_RANK = f"{template.PREFIX}rank"
LAUNCHED = f"{template.PREFIX}launched"
WORKERS = f"{template.PREFIX}workers"
FINALIZER = f"{template.PREFIX}observed"
MASTER_PORT = 29500
SECRET_BYTES = 1 << 20
"""What a Secret may hold."""

_HERE = Path(__file__).parent
_BOX = "/rungraph/box"
_SHARED = ("source", "input", "output", "spool", "client")
_CODE = {
    "courier.py": _HERE / "courier.py",
    "fetch.py": _HERE / "fetch.py",
    "attempts.py": Path(attempts.__file__),
    "backlog.py": Path(backlog.__file__),
}


@dataclass(frozen=True, slots=True)
class Image:
    """What a job runs in: an image, and where the job names no command that of the image, and its folder."""

    name: str
    command: tuple[str, ...] = ()
    folder: str = "/"

    @classmethod
    def of(cls, prepared: str | None, default: str) -> "Image":
        """From what `prepare` returned, which may be an image's bare name."""
        if not prepared:
            return cls(default)
        if not prepared.startswith("{"):
            return cls(prepared)
        told = json.loads(prepared)
        return cls(told["image"], tuple(told["command"]), told["folder"] or "/")

    @property
    def prepared(self) -> str:
        """For `of`."""
        return json.dumps({"image": self.name, "command": self.command, "folder": self.folder})


def pod_name(name: str, rank: int) -> str:
    """Of a worker's pod; names of attempts leave room for it."""
    return f"{name}-{rank}"


def secret(spec: base.JobSpec, options: KubernetesOptions, image: Image, key: str) -> dict[str, Any]:
    """The attempt's Secret, without which nothing of it exists; raises LaunchRejected where it cannot be one."""
    told = {
        "url": spec.environment.get("RUNGRAPH_URL", ""),
        "token": spec.environment.get("RUNGRAPH_TOKEN", ""),
        "inputs": [file.name for file in spec.inputs],
        "key": key,
        "port": options.courier_port,
        "gang": spec.workers > 1,
        "grace": options.grace_seconds,
    }
    data = {
        "start.sh": _start(spec, image).encode(),
        "courier.json": json.dumps(told).encode(),
        "input.json.z": zlib.compress(spec.input_document),
        **{name: path.read_bytes() for name, path in _CODE.items()},
    }
    size = sum(map(len, data.values()))
    if size > SECRET_BYTES:
        raise base.LaunchRejected(
            f"its options and inputs take {size} bytes to describe, more than the {SECRET_BYTES} of a Secret"
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": spec.name,
            "labels": labels(spec, options),
            "annotations": {WORKERS: str(spec.workers)},
        },
        "data": {name: base64.b64encode(content).decode() for name, content in data.items()},
    }


def _start(spec: base.JobSpec, image: Image) -> str:
    """The script that becomes the job: its variables, its folder, its command, and what is common to all."""
    command = spec.command or image.command
    if not command:
        raise base.LaunchRejected(f"the image {image.name} says no command, and the function names none")
    for name in spec.environment:
        if not name.isidentifier() or not name.isascii():
            raise base.LaunchRejected(f"{name!r} cannot be the name of a variable in a container")
    variables = [f"export {name}={shlex.quote(value)}" for name, value in spec.environment.items()]
    folder = "/mnt/source" if spec.command else image.folder
    return "\n".join(
        [
            *variables,
            f"set -- {' '.join(map(shlex.quote, command))}",
            f"cd {shlex.quote(folder)} || exit 125",
            (_HERE / "start.sh").read_text(),
        ]
    )


def labels(spec: base.JobSpec, options: KubernetesOptions) -> dict[str, str]:
    """What finds everything of an attempt, and tells people whose it is."""
    told = {f"{template.PREFIX}{name}": value for name, value in spec.labels.items()}
    return {**told, LABEL_OWNER: options.owner, LABEL_NAME: spec.name}


def owner(name: str, uid: str) -> dict[str, Any]:
    """A reference that has the attempt's Secret take with it whatever bears it."""
    return {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid, "blockOwnerDeletion": False}


def service(spec: base.JobSpec, options: KubernetesOptions, uid: str) -> dict[str, Any]:
    """The headless Service that gives a gang's pods names of their own."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "labels": labels(spec, options),
            "ownerReferences": [owner(spec.name, uid)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_OWNER: options.owner, LABEL_NAME: spec.name},
        },
    }


def pod(spec: base.JobSpec, options: KubernetesOptions, image: Image, uid: str, rank: int) -> dict[str, Any]:
    """One worker's pod."""
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(spec.name, rank),
            "labels": {**labels(spec, options), LABEL_RANK: str(rank), **_gang_labels(spec, options)},
            "annotations": _gang_annotations(spec, options),
            "finalizers": [FINALIZER],
            "ownerReferences": [owner(spec.name, uid)],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": options.grace_seconds,
            "securityContext": {
                "runAsUser": options.user,
                "runAsGroup": options.user,
                "runAsNonRoot": options.user != 0,
                "fsGroup": options.user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [_courier(options, "fetch", "fetch.py")],
            "containers": [_courier(options, "courier", "courier.py"), _main(spec, options, image, rank)],
            "volumes": _volumes(spec.name),
            **_names(spec, options, rank),
        },
    }
    return template.merge(made, options.pod)


def _main(spec: base.JobSpec, options: KubernetesOptions, image: Image, rank: int) -> dict[str, Any]:
    bin = f"{_BOX}/bin"
    return {
        "name": template.MAIN,
        "image": image.name,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{bin}/loader", "--library-path", bin, f"{bin}/sh", "/rungraph/job/start.sh"],
        "env": _rank_variables(spec, rank),
        "resources": _resources(spec.resources, options),
        "securityContext": _restricted(),
        "volumeMounts": [
            {"name": "job", "mountPath": "/rungraph/job", "readOnly": True},
            {"name": "box", "mountPath": _BOX},
            *({"name": name, "mountPath": f"/mnt/{name}"} for name in _SHARED),
        ],
    }


def _courier(options: KubernetesOptions, name: str, program: str) -> dict[str, Any]:
    """One of the courier's two containers."""
    memory = str(options.courier_memory_bytes)
    return {
        "name": name,
        "image": options.courier_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", f"/rungraph/attempt/{program}"],
        "env": [
            {"name": "PYTHONPATH", "value": "/rungraph/attempt"},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "20m", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {**_restricted(), "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "courier", "mountPath": "/rungraph/attempt", "readOnly": True},
            {"name": "box", "mountPath": _BOX},
            {"name": "journal", "mountPath": "/rungraph/journal"},
            *({"name": name, "mountPath": f"/mnt/{name}"} for name in _SHARED),
        ],
    }


def _restricted() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _volumes(name: str) -> list[dict[str, Any]]:
    """Two views of the Secret, for a job has no business with the courier's key; and folders of the pod's own."""
    paths = {
        "courier.py": "courier.py",
        "fetch.py": "fetch.py",
        "attempts.py": "backends/attempts.py",
        "backlog.py": "backends/backlog.py",
    }
    paths |= {"courier.json": "courier.json", "input.json.z": "input.json.z"}
    courier = [{"key": key, "path": path} for key, path in paths.items()]
    views = {"job": [{"key": "start.sh", "path": "start.sh"}], "courier": courier}
    return [
        *({"name": view, "secret": {"secretName": name, "items": items}} for view, items in views.items()),
        *({"name": folder, "emptyDir": {}} for folder in ("box", "journal", *_SHARED)),
    ]


def _resources(wanted: base.Resources, options: KubernetesOptions) -> dict[str, Any]:
    """Requests equal limits, so that what a job asked for is what it has, and neither more."""
    amounts: dict[str, str] = {}
    if wanted.cpus is not None:
        amounts["cpu"] = f"{max(1, round(wanted.cpus * 1000))}m"
    if wanted.memory_bytes is not None:
        amounts["memory"] = str(wanted.memory_bytes)
    if wanted.gpus:
        amounts[options.gpu_resource] = str(wanted.gpus)
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _rank_variables(spec: base.JobSpec, rank: int) -> list[dict[str, str]]:
    """What tells the workers apart, in the names that torchrun gives it; where they are comes later."""
    if spec.workers == 1:
        return []
    told = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": spec.workers}
    return [{"name": name, "value": str(value)} for name, value in told.items()]


def peers(addresses: list[str]) -> Mapping[str, str]:
    """What every worker is told of the others, by rank, before any of them begins."""
    return {
        "MASTER_ADDR": addresses[0],
        "MASTER_PORT": str(MASTER_PORT),
        "RUNGRAPH_HOSTS": ",".join(addresses),
    }


def _names(spec: base.JobSpec, options: KubernetesOptions, rank: int) -> dict[str, str]:
    if spec.workers == 1 or not options.service:
        return {}
    return {"hostname": f"worker-{rank}", "subdomain": spec.name}


def host_name(name: str, namespace: str, rank: int) -> str:
    """Of a worker, where a Service gives it one."""
    return f"worker-{rank}.{name}.{namespace}.svc"


def _gang_labels(spec: base.JobSpec, options: KubernetesOptions) -> dict[str, str]:
    """For Kueue, which admits pods of one group together; it adds its scheduling gate by itself."""
    if options.queue is None:
        return {}
    group = {"kueue.x-k8s.io/pod-group-name": spec.name} if spec.workers > 1 else {}
    return {"kueue.x-k8s.io/queue-name": options.queue, **group}


def _gang_annotations(spec: base.JobSpec, options: KubernetesOptions) -> dict[str, str]:
    if options.queue is None or spec.workers == 1:
        return {}
    return {"kueue.x-k8s.io/pod-group-total-count": str(spec.workers)}
