"""What of a Docker backend is configured: the engine, what images are made of, and what containers are held to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import options
from backends.base import Backend, BadOptions, Scope

OWNER = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NETWORK_POLICIES = ("asked", "always", "never")


def _owner(value: Any) -> str:
    if not isinstance(value, str) or not OWNER.fullmatch(value):
        raise ValueError("must be lower-case letters, digits and inner dashes, at most 20")
    return value


def _scope(value: Any) -> Scope:
    try:
        return Scope(str(value).upper())
    except ValueError:
        raise ValueError(f"must be host or cluster, not {value!r}") from None


def _policy(value: Any) -> str:
    if value not in NETWORK_POLICIES:
        raise ValueError(f"must be one of {', '.join(NETWORK_POLICIES)}, not {value!r}")
    return str(value)


def _words(rule: re.Pattern[str], what: str) -> Any:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(
            isinstance(one, str) and rule.fullmatch(one) for one in value
        ):
            raise ValueError(f"must be a list of {what}")
        return tuple(value)

    return read


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in value
    ):
        raise ValueError("must be a mapping of variables to values")
    return tuple((name, str(one)) for name, one in value.items())


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """Options of `kind: docker`."""

    host: str | None = options.option(None)
    """The engine's address, as DOCKER_HOST has it; where nobody says, it is found as the docker command does."""
    scope: Scope | None = options.option(None, read=_scope)  # noqa: RUF009
    """Who may adopt what runs there: this host's servers where the engine is this machine's, else any replica."""
    owner: str | None = options.option(None, read=_owner)
    """What tells our containers from those of others; a home's own, and to be said where replicas share them."""
    image: str = options.option("python:3.11-slim")
    build_network: str | None = options.option(None)
    build_arguments: tuple[tuple[str, str], ...] = options.option((), read=_pairs)
    network: str = options.option("asked", read=_policy)
    network_name: str = options.option("bridge")
    extra_hosts: tuple[str, ...] = options.option((), read=_words(re.compile(r"[\w.-]+:\S+"), "name:address"))
    runtime: str | None = options.option(None)
    gpu_driver: str = options.option("")
    user: str | None = options.option(None)
    capabilities: tuple[str, ...] = options.option((), read=_words(_CAPABILITY, "names such as CHOWN"))
    """Of those of the kernel, all of which are dropped otherwise."""
    worker_memory_bytes: int | None = options.option(None, least=6 << 20)
    worker_cpus: float | None = options.option(None, least=0.01)
    """Of a worker that asks for nothing itself; None leaves it free."""
    pids: int = options.option(4096, least=1)
    shm_bytes: int = options.option(1 << 30, least=1 << 16)
    usage_seconds: float = options.option(10.0, least=0, most=3600)

    @property
    def adopted_by(self) -> Scope:
        if self.scope is not None:
            return self.scope
        remote = self.host is not None and not self.host.startswith("unix:")
        return Scope.CLUSTER if remote else Scope.HOST


def adapter(home: Path, given: Mapping[str, Any]) -> Backend:
    """A Docker engine, as configured."""
    read = options.parse(DockerOptions, given)
    if read.adopted_by is Scope.CLUSTER and read.owner is None:
        rule = "must be given where replicas share an engine: by it they know their containers"
        raise BadOptions(rule, option="owner")
    try:
        from backends.docker import Docker
    except ModuleNotFoundError as error:
        words = f"needs the Python package {error.name}: install rungraph-server[docker]"
        raise BadOptions(words, option="kind") from error
    return Docker(home, read)
