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

from db import attempts, claims, feeds, ids, users
from db.database import Database
from db.viewers import Kind, Viewer

COOKIE = "rungraph_session"
_JOB_PREFIX = "rg_j_"
_CACHE_SECONDS = 5.0
"""How long a revoked token may still be taken by a process that has just seen it."""
_ATTEMPT_SECONDS = 1.0
"""How long that of an attempt which another process has ended may. What it reports is judged where it is written."""
_MOST = 10_000


class Credentials:
    """Knows tokens."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret
        self._seen: dict[bytes, tuple[float, Viewer]] = {}
        self._running = _Running()
        database.followers.append(self._running.follow)

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
            if len(self._seen) > _MOST:
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
        known = self._running.find(name)
        if known is not None:
            return known
        changes = self._running.changes
        async with self._database.read() as session:
            found = await attempts.find_reporter(session, ids.decode("attempt", name))
        # That of an external run outlives its end: it may have been taken for lost, and report again.
        if found is None or (found.ended_at is not None and found.backend_id is not None):
            return None
        viewer = Viewer(Kind.JOB, run_id=found.run_id, job_id=found.job_id, attempt=found.number)
        if changes == self._running.changes:
            self._running.keep(name, found.feed_id, viewer)
        return viewer

    def _signature(self, name: str) -> str:
        digest = hmac.digest(self._secret, name.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class _Running:
    """Attempts that were seen running a moment ago, until something happens in their runs."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, Viewer]] = {}
        self._of_feed: dict[int, set[str]] = {}
        self.changes = 0
        """Grows with whatever happens in any run: what was read meanwhile may be no longer so."""

    def find(self, name: str) -> Viewer | None:
        """Whose token it is, if that is known."""
        known = self._seen.get(name)
        if known is None or time.monotonic() - known[0] >= _ATTEMPT_SECONDS:
            return None
        return known[1]

    def keep(self, name: str, feed_id: int, viewer: Viewer) -> None:
        """Take it from memory for a while."""
        if len(self._seen) > _MOST:
            self._seen.clear()
            self._of_feed.clear()
        self._seen[name] = (time.monotonic(), viewer)
        self._of_feed.setdefault(feed_id, set()).add(name)

    def follow(self, emitted: feeds.Emitted) -> None:
        """Forget the attempts of runs in which something has happened: points alone end none."""
        for head in emitted.heads.values():
            if head.events:
                self.changes += 1
                for name in self._of_feed.pop(head.id, ()):
                    self._seen.pop(name, None)


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
