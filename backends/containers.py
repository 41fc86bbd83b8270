"""What an attempt's containers are: their names, labels, files and limits. Pure; docker.py has them made.

An attempt is, on the engine:

    <prefix>-<name>         the holder: a container that never runs and gives the volumes below their content
    <prefix>-<name>-<rank>  a worker each
    volumes …-input, …-module (read-only to the workers) and …-output; of several workers a network

Volumes and not folders of the host, so that an engine elsewhere works; a holder, because a volume that is mounted
read-only takes no archive either. A worker is created only when the volumes are filled, so that the first worker
there is says that they are, and nothing is ever written beside a job that runs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends import base
from backends.docker_options import DockerOptions

INPUT, OUTPUT, MODULE = "/mnt/input", "/mnt/output", "/mnt/module"
SOURCE, CLIENT = f"{MODULE}/source", f"{MODULE}/client"
SPOOL = "/tmp/rungraph-spool"
"""In a worker's own layer: what is left there is fetched from each."""
MASTER_PORT = 29_500
"""What torchrun has; every worker has ports of its own."""
MAX_WORKERS = 64
NAME = re.compile(r"[a-z0-9-]{1,63}")

LABEL = "io.rungraph"
OWNER, ATTEMPT, RANK, WORKERS = f"{LABEL}.owner", f"{LABEL}.name", f"{LABEL}.rank", f"{LABEL}.workers"
REFUSAL, STARTED, LIFE = f"{LABEL}.refusal", f"{LABEL}.engine-start", f"{LABEL}.life"

Config = dict[str, Any]

_LOG: Config = {
    # This driver keeps bytes as they are, where json-file keeps text alone; and it keeps all of them: a log that
    # is turned over has no offsets.
    "Type": "local",
    "Config": {"max-size": "100t", "max-file": "1", "compress": "false"},
}


@dataclass(frozen=True, slots=True)
class Names:
    """What belongs to an attempt is called."""

    prefix: str
    attempt: str

    @property
    def holder(self) -> str:
        return f"{self.prefix}-{self.attempt}"

    def worker(self, rank: int) -> str:
        return f"{self.holder}-{rank}"

    @property
    def volumes(self) -> Mapping[str, str]:
        """By where they are mounted."""
        return {path: f"{self.holder}-{path.rpartition('/')[2]}" for path in (INPUT, MODULE, OUTPUT)}

    @property
    def network(self) -> str:
        return f"{self.holder}-net"


def labels(owner: str, spec: base.JobSpec) -> dict[str, str]:
    """What everything of an attempt says of itself; `owner` is whose it is."""
    return {
        **{f"{LABEL}.{name}": value for name, value in spec.labels.items()},
        OWNER: owner,
        ATTEMPT: spec.name,
        WORKERS: str(spec.workers),
    }


def holder(names: Names, image: str, marks: Mapping[str, str], made_by: str) -> Config:
    """What gives the volumes their content, and takes the output out at the end."""
    return {
        "Image": image,
        "Entrypoint": ["rungraph-holder"],
        "Labels": {**marks, f"{LABEL}.made-by": made_by},
        "HostConfig": {
            "NetworkMode": "none",
            "LogConfig": {"Type": "none"},
            "Mounts": [_volume(name, path, marks, False) for path, name in names.volumes.items()],
        },
    }


def mark(owner: str, image: str) -> Config:
    """What is never started, and that the engine removes when it starts: it lasts as long as the engine lives."""
    return {
        "Image": image,
        "Entrypoint": ["rungraph-life"],
        "Labels": {LIFE: owner},
        "HostConfig": {"AutoRemove": True, "NetworkMode": "none", "LogConfig": {"Type": "none"}},
    }


def worker(
    names: Names, image: str, spec: base.JobSpec, rank: int, marks: Mapping[str, str], options: DockerOptions
) -> Config:
    """One worker, as create takes it."""
    runs: Config = {}
    if spec.command:
        runs = {"Entrypoint": [spec.command[0]], "Cmd": list(spec.command[1:]), "WorkingDir": SOURCE}
    if options.user is not None:
        runs["User"] = options.user
    variables = environment(spec, rank, connected=is_connected(spec, options))
    alone = spec.workers == 1
    endpoint = {} if alone else {names.network: {"Aliases": [host(rank)]}}
    return {
        **runs,
        "Image": image,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": {**marks, RANK: str(rank)},
        "HostConfig": _limits(names, spec, rank, options),
        "NetworkingConfig": {"EndpointsConfig": endpoint},
    }


def _limits(names: Names, spec: base.JobSpec, rank: int, options: DockerOptions) -> Config:
    memory = spec.resources.memory_bytes or options.worker_memory_bytes
    cpus = spec.resources.cpus or options.worker_cpus
    return {
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": _LOG,
        "Mounts": [_volume(name, path, {}, path != OUTPUT) for path, name in names.volumes.items()],
        "NetworkMode": names.network if spec.workers > 1 else _network(spec, options),
        "ExtraHosts": list(options.extra_hosts),
        "CapDrop": ["ALL"],
        "CapAdd": list(options.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": options.pids,
        "ShmSize": options.shm_bytes,
        **({"Memory": memory, "MemorySwap": memory} if memory else {}),
        **({"NanoCpus": int(cpus * 1e9)} if cpus else {}),
        **({"Runtime": options.runtime} if options.runtime else {}),
        "DeviceRequests": _devices(spec, rank, options),
    }


def is_connected(spec: base.JobSpec, options: DockerOptions) -> bool:
    """Whether the attempt reaches anything but itself."""
    return options.network == "always" or (spec.network and options.network == "asked")


def _network(spec: base.JobSpec, options: DockerOptions) -> str:
    return options.network_name if is_connected(spec, options) else "none"


def _devices(spec: base.JobSpec, rank: int, options: DockerOptions) -> list[Config]:
    if not spec.resources.gpus and not spec.devices:
        return []
    chosen = [str(index) for index in spec.devices[rank]] if spec.devices else []
    which = {"DeviceIDs": chosen} if chosen else {"Count": spec.resources.gpus}
    return [{"Driver": options.gpu_driver, "Capabilities": [["gpu"]], **which}]


def _volume(name: str, path: str, marks: Mapping[str, str], read_only: bool) -> Config:
    made = {"VolumeOptions": {"Labels": dict(marks), "NoCopy": True}} if marks else {}
    return {"Type": "volume", "Source": name, "Target": path, "ReadOnly": read_only, **made}


def environment(spec: base.JobSpec, rank: int, *, connected: bool) -> dict[str, str]:
    """Its variables, beside the image's own."""
    return {
        "PYTHONUNBUFFERED": "1",
        **({"PYTHONPATH": CLIENT} if spec.client else {}),
        "RUNGRAPH_INPUT": INPUT,
        "RUNGRAPH_OUTPUT": OUTPUT,
        "RUNGRAPH_SPOOL": SPOOL,
        **({} if connected else {"RUNGRAPH_OFFLINE": "1"}),
        **(_gang(spec.workers, rank) if spec.workers > 1 else {}),
        **spec.environment,
    }


def host(rank: int) -> str:
    """What a worker is called by the others of its attempt."""
    return f"rank-{rank}"


def _gang(workers: int, rank: int) -> dict[str, str]:
    """In the names that torchrun gives it; each is the only one of its host."""
    return {
        "WORLD_SIZE": str(workers),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": host(0),
        "MASTER_PORT": str(MASTER_PORT),
        "RUNGRAPH_HOSTS": ",".join(map(host, range(workers))),
    }


def check(spec: base.JobSpec, options: DockerOptions) -> None:
    """Refuse what can never run here. Raises LaunchRejected."""
    base.check(spec, NAME, "a container", MAX_WORKERS)
    if not spec.command and not spec.prepared:
        raise base.LaunchRejected("the command is empty, and the module brings no image with one of its own")
    if spec.network and options.network == "never":
        raise base.LaunchRejected("the function asks for a network, and this backend gives none")


def find_paths(command: str, image: Mapping[str, Any]) -> Sequence[str]:
    """Where in a container the program of a command may lie."""
    if command.startswith("/"):
        return [command]
    if "/" in command:
        return [f"{SOURCE}/{command}"]
    variables = dict(line.partition("=")[::2] for line in (image.get("Config") or {}).get("Env") or ())
    path = variables.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return [f"{folder}/{command}" for folder in path.split(":") if folder.startswith("/")]
