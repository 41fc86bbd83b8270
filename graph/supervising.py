"""The supervisors of one process: a backend each, as RUNGRAPH_CONFIG has them, or this machine alone."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from backends.base import Backend
from backends.blobs import Blobs
from backends.brought import bring
from backends.configured import Caps, ConfigInvalid, Declared, read
from backends.errands import Ongoing
from backends.registry import construct
from backends.supervisor import Configuration, Supervisor
from backends.vault import Vault
from db import claims, ids, logs
from db.database import Database
from graph.credentials import Credentials
from graph.settings import Settings

LOCAL = "local"
"""What the one backend is called where nothing is configured."""

FETCHING = frozenset({"kubernetes"})
"""The kinds whose jobs fetch what they are given."""
_UNREACHED = """\
rungraph: jobs of the backend {name} ({kind}) fetch their files from this server: say where it listens for them
rungraph: by RUNGRAPH_JOBS_LISTEN (0.0.0.0:8001), and by `url` of the backend how they reach it there"""


@dataclass(frozen=True, slots=True)
class Made:
    """A configured backend and its adapter."""

    declared: Declared
    adapter: Backend


def backends_of(settings: Settings) -> list[Made]:
    """Every configured backend, the default first; an end that says what is wrong with the configuration."""

    def make(declared: Declared) -> Backend:
        options = dict(declared.options)
        if declared.kind == "local":
            options = {"nice": settings.job_nice, "usage_seconds": settings.usage_seconds, **options}
        return construct(declared.kind, _home(settings, declared), options)

    if settings.config is None:
        alone = Declared(LOCAL, "local", Caps(), {})
        return [Made(alone, make(alone))]
    try:
        found = [Made(declared, adapter) for declared, adapter in read(settings.config, make)]
    except ConfigInvalid as error:
        told = "\n".join(f"rungraph: {problem}" for problem in error.problems)
        raise SystemExit(f"rungraph: RUNGRAPH_CONFIG cannot be used:\n{told}") from error
    for made in found:
        if made.declared.kind in FETCHING and not (settings.jobs_listen and made.declared.url):
            raise SystemExit(_UNREACHED.format(name=made.declared.name, kind=made.declared.kind))
    return found


def _home(settings: Settings, declared: Declared) -> Path:
    """Where an adapter keeps its files; that of this machine stays where it was before there was a choice."""
    alone = declared.name == LOCAL and declared.kind == "local"
    return settings.home / LOCAL if alone else settings.home / "backends" / declared.name


def supervise(
    made: Made,
    settings: Settings,
    database: Database,
    *,
    blobs: Blobs,
    credentials: Credentials,
    vault: Vault,
    url: str,
    own_url: str,
    host: str,
    fetching: Ongoing,
) -> Supervisor:
    """The supervisor of one of them; `url` is where jobs reach a server, `own_url` where this process does."""
    declared = made.declared
    configuration = Configuration(
        name=declared.name,
        kind=declared.kind,
        adapter=made.adapter,
        caps=declared.caps,
        otherwise=Caps(settings.slots, settings.cpus, settings.memory_bytes, settings.gpus or 0),
        log_limit=logs.Limit(settings.log_head_bytes, settings.log_tail_bytes),
    )
    if declared.kind == "local" and settings.gpus is not None and declared.caps.gpus is None:
        configuration = replace(configuration, caps=replace(declared.caps, gpus=settings.gpus))
    return Supervisor(
        database,
        configuration,
        host=host,
        blobs=blobs,
        store=settings.home / "modules",
        environment=_environment(declared.url or url, credentials),
        vault=vault,
        client=brought(settings),
        own_url=own_url,
        fetching=fetching,
    )


def _environment(url: str, credentials: Credentials) -> Callable[[claims.Launch], dict[str, str]]:
    """What every job is told of the server: where it is, and the job's own token."""

    def environment(launch: claims.Launch) -> dict[str, str]:
        return {
            "RUNGRAPH_URL": url,
            "RUNGRAPH_TOKEN": credentials.job_token(launch),
            "RUNGRAPH_RUN_ID": ids.encode("run", launch.run_id),
            "RUNGRAPH_JOB_ID": ids.encode("job", launch.job_id),
            "RUNGRAPH_ATTEMPT": str(launch.number),
        }

    return environment


def brought(settings: Settings) -> Path | None:
    """A folder that lets jobs import `rungraph`; nothing where the server runs without the client."""
    found = importlib.util.find_spec("rungraph")
    if found is None or found.origin is None:
        return None
    return bring(Path(found.origin).parent, settings.home / LOCAL / "client")
