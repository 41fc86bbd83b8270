"""Settings: the only reader of the environment. Lower layers take frozen arguments.

Every setting is a variable RUNGRAPH_<NAME>; the README documents each, and a test sees to it.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_CARRIERS = ("memory", "redis", "rediss", "postgres", "postgresql")


def _cores() -> float:
    return float(len(os.sched_getaffinity(0)))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _slots() -> int:
    return max(16, 8 * int(_cores()))


class Settings(BaseSettings):
    """What a server is told from outside."""

    model_config = SettingsConfigDict(env_prefix="RUNGRAPH_", frozen=True, extra="forbid")

    home: Path = Field(default=Path("~/.rungraph"), description="where the server keeps everything")
    database_url: str = Field(default="", description="sqlite or postgresql; a SQLite file in the home")
    broadcast_url: str = Field(default="memory://", description="memory, redis or postgres: hints")
    files_url: Path | None = Field(default=None, description="the folder of file contents")
    config: Path | None = Field(
        default=None, description="a file that names the backends; this machine alone"
    )
    public_url: str = Field(default="", description="how browsers reach the server, behind a proxy")
    allowed_hosts: list[str] = Field(default=[], description="more names the server answers to")
    allowed_origins: list[str] = Field(default=[], description="more origins whose pages may connect")
    jobs_listen: str = Field(default="", description="host:port at which jobs elsewhere fetch and report")
    slots: int = Field(default_factory=_slots, ge=1, description="jobs' workers at once on this machine")
    cpus: float = Field(default_factory=_cores, gt=0, description="cores that jobs may ask for together")
    memory_bytes: int = Field(default_factory=_memory_bytes, gt=0, description="memory for jobs together")
    gpus: int | None = Field(default=None, ge=0, description="GPUs for jobs together; those found here")
    usage_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="how often it is looked at what workers use; 0 never"
    )
    job_nice: int = Field(default=10, ge=0, le=19, description="how far jobs give way when cores are short")
    max_upload_bytes: int = Field(default=64 << 30, gt=0, description="the largest file taken")
    log_head_bytes: int = Field(default=16 << 20, ge=0, description="what is kept of a log's beginning")
    log_tail_bytes: int = Field(default=48 << 20, ge=0, description="and of its end, of each worker")
    source_roots: list[Path] = Field(default=[], description="folders that data sources may be read from")
    source_hosts: list[str] = Field(
        default=[], description="hosts or networks that are not public, to fetch from"
    )
    log_level: str = Field(default="info", description="debug, info, warning or error")

    @field_validator("home")
    @classmethod
    def _expanded(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:", "postgresql:")):
            raise ValueError("must begin with sqlite: or postgresql:")
        return value

    @field_validator("jobs_listen")
    @classmethod
    def _listened(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("must be host:port, as in 0.0.0.0:8001")
        return value

    @field_validator("broadcast_url")
    @classmethod
    def _carried(cls, value: str) -> str:
        scheme = value.partition(":")[0]
        if scheme not in _CARRIERS or ":" not in value:
            raise ValueError(f"must begin with one of {', '.join(f'{one}:' for one in _CARRIERS)}")
        if scheme.startswith("redis") and find_spec("redis") is None:
            raise ValueError("needs the Python package redis: install rungraph-server[redis]")
        return value

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.home / 'rungraph.db'}"

    @property
    def files(self) -> Path:
        """The folder of file contents."""
        return self.files_url or self.home / "files"


def misspelt(variables: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Variables that are no setting and nearly one, each with the one that is meant.

    Others may begin with the same word: jobs, the command and whoever runs a server have their own.
    """
    names = [name.upper() for name in Settings.model_fields]
    for variable in sorted(variables):
        prefix, _, name = variable.partition("_")
        if prefix == "RUNGRAPH" and name not in names:
            for meant in difflib.get_close_matches(name, names, 1, 0.75):
                yield variable, f"RUNGRAPH_{meant}"
