"""Who a request comes from.

The administrator's token lies in the home, readable by its owner alone; people's tokens are in the
database by their hash. A job's token is derived from its attempt with the server's secret: launching an
attempt again after a crash gives it the same one, there is nothing to store, and it is good until the
attempt ends.
"""

import base64
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from db import attempts, claims, ids, users
from db.database import Database
from db.viewers import Kind, Viewer

COOKIE = "rungraph_session"
_JOB_PREFIX = "rg_j_"
_CACHE_SECONDS = 5.0
"""How long a revoked token may still be taken by a process that has just seen it."""


class Credentials:
    """Knows tokens."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret
        self._seen: dict[bytes, tuple[float, Viewer]] = {}

    def job_token(self, launch: claims.Launch) -> str:
        """The token of an attempt."""
        return self.attempt_token(launch.attempt_id)

    def attempt_token(self, attempt_id: bytes) -> str:
        """The token of an attempt by its id: of one that nothing of ours launches, too."""
        name = ids.encode("attempt", attempt_id)
        return f"{_JOB_PREFIX}{name}.{self._signature(name)}"

    async def viewer(self, token: str) -> Viewer | None:
        """Whose token this is; None when it is nobody's, or no longer."""
        if token.startswith(_JOB_PREFIX):
            return await self._job(token.removeprefix(_JOB_PREFIX))
        key, now = users.digest(token), time.monotonic()
        known = self._seen.get(key)
        if known is not None and now - known[0] < _CACHE_SECONDS:
            return known[1]
        async with self._database.read() as session:
            viewer = await users.authenticate(session, token)
        if viewer is not None:
            if len(self._seen) > 10_000:
                self._seen.clear()
            self._seen[key] = (now, viewer)
        return viewer

    def forget(self, token: str) -> None:
        """Do not take a token from memory any more."""
        self._seen.pop(users.digest(token), None)

    async def _job(self, text: str) -> Viewer | None:
        name, _, signature = text.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(name).encode()):
            return None
        async with self._database.read() as session:
            attempt = await attempts.find(session, ids.decode("attempt", name))
        # That of an external run outlives its end: it may have been taken for lost, and report again.
        if attempt is None or (attempt.ended_at is not None and attempt.backend_id is not None):
            return None
        return Viewer(Kind.JOB, run_id=attempt.run_id, job_id=attempt.job_id, attempt=attempt.number)

    def _signature(self, name: str) -> str:
        digest = hmac.digest(self._secret, name.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def keep(path: Path, make: str | None = None) -> str:
    """The secret that lies in a file of the home, made at the first call; 0600, and whole or not there."""
    try:
        path.chmod(0o600)
        return path.read_text().strip()
    except FileNotFoundError:
        value = make or f"rg_a_{secrets.token_urlsafe(32)}"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{value}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)  # unlike a rename, never over what another server has just made
    except FileExistsError:
        return path.read_text().strip()
    finally:
        temporary.unlink()
    return value
