"""What of a Kubernetes backend is configured: which cluster, whose hands, and what every pod is made with."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends import options
from backends.kubernetes import template
from db import texts

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def _matching(pattern: re.Pattern[str], words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"must be {words}, not {texts.shown(value)}")
        return value

    return read


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must be a mapping of names to values, not {texts.shown(value)}")
    return tuple((name, str(one)) for name, one in value.items())


_name = _matching(_NAME, "a name of lower-case letters, digits and inner hyphens, at most 63")


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """Options of `kind: kubernetes`. Without a kubeconfig it is the cluster that the server itself runs in.

    `owner` tells servers apart that share a namespace; replicas of one server say the same. `image` is what modules
    run in that name none; `user` is whom pods run as. A gang that is not whole after `gang_seconds` is withdrawn; an
    image that cannot be had ends the job after `image_seconds`. `builder` is a Docker engine that makes images,
    `registry` where it pushes them. `service` gives gangs a headless Service, for clusters with a DNS.
    """

    owner: str = options.option(read=_matching(_LABEL, "the value of a label"))
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = options.option(None, read=_name)
    image: str = "python:3.11-slim"
    courier_image: str = "python:3.11-slim"
    courier_port: int = options.option(41571, least=1024, most=65535)
    courier_memory_bytes: int = options.option(128 << 20, least=32 << 20)
    user: int = options.option(1000, least=0, most=2**31 - 1)
    grace_seconds: int = options.option(30, least=6, most=86400)
    gang_seconds: float = options.option(300.0, least=1)
    image_seconds: float = options.option(120.0, least=1)
    service: bool = False
    queue: str | None = options.option(None, read=_name)
    gpu_resource: str = "nvidia.com/gpu"
    usage_seconds: float = options.option(10.0, least=0, most=3600)
    builder: str | None = None
    build_network: str | None = None
    build_arguments: tuple[tuple[str, str], ...] = options.option((), read=_pairs)
    registry: str | None = None
    registry_login: tuple[tuple[str, str], ...] = options.option((), read=_pairs)
    pod: Mapping[str, Any] | None = options.option(None, read=template.read)
