"""What supervising one backend works with: the same for every attempt that is minded (minding.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends.base import Backend, BackendUnavailable
from backends.blobs import Blobs
from backends.recorder import Recorder
from backends.restoring import Restorer
from backends.tenure import Tenure
from backends.turning import Turns
from backends.vault import Vault
from db import logs
from db.claims import Launch
from db.database import Database
from db.leases import Supervisor


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What minding an attempt needs, the same for all of one backend."""

    database: Database
    recorder: Recorder
    backend: str
    """What the backend is called."""
    adapter: Backend
    blobs: Blobs
    store: Path
    restorer: Restorer
    tenure: Tenure
    environment: Callable[[Launch], dict[str, str]]
    """What every job is told of the server: where it is, and the job's own token."""
    turns: Turns
    log_limit: logs.Limit
    vault: Vault
    client: Path | None = None
    """The folder from which jobs import `rungraph`; None where the server runs without the client."""
    own_url: str = ""
    """Where this process reaches a server, if that is not where jobs do."""
    away: Callable[[BackendUnavailable], None] = lambda _: None
    """Told whenever the backend cannot be reached."""

    @property
    def supervisor(self) -> Supervisor:
        """The lease in whose name is written."""
        return self.tenure.lease
