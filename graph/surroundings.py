"""What every request of this process works with, opened once (app.py); and who a request comes from.

A page of another origin makes a browser send its cookie along, so a cookie counts only where no such page asks.
A token has to be known to be sent, and counts from anywhere.
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from backends.blobs import Blobs
from backends.vault import Vault
from db import errors
from db.database import Database, is_lost
from db.ingest import Ingest
from db.viewers import Viewer
from graph.credentials import COOKIE, Credentials
from graph.live import Hub


class Surroundings:
    """What every request of this process works with."""

    def __init__(
        self,
        *,
        database: Database,
        ingest: Ingest,
        hub: Hub,
        blobs: Blobs,
        credentials: Credentials,
        vault: Vault,
        backend: str,
        allowed_origins: frozenset[str],
        max_upload_bytes: int,
    ) -> None:
        self.database = database
        self.ingest = ingest
        self.hub = hub
        self.blobs = blobs
        self.credentials = credentials
        self.vault = vault
        self.backend = backend
        self.allowed_origins = allowed_origins
        self.max_upload_bytes = max_upload_bytes

    async def viewer(self, connection: HTTPConnection) -> Viewer | None:
        """Who a request or a handshake comes from, by its token or its cookie.

        Raises Unavailable where the database is away: nothing of the request is carried out then.
        """
        try:
            return await self._viewer(connection)
        except Exception as error:
            if is_lost(error):
                raise errors.Unavailable("the database was away for a moment; ask again") from error
            raise

    async def _viewer(self, connection: HTTPConnection) -> Viewer | None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return await self.credentials.viewer(token.strip())
        cookie = connection.cookies.get(COOKIE)
        if cookie and self.is_own_origin(connection):
            return await self.credentials.viewer(cookie)
        return None

    def is_own_origin(self, connection: HTTPConnection) -> bool:
        """Whether no page of another origin sends this: a cookie alone proves nothing of a page."""
        origin = connection.headers.get("origin")
        if origin is None or origin in self.allowed_origins:
            return True
        return urlsplit(origin).netloc == connection.headers.get("host")
