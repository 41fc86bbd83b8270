"""Freeing the contents that no row names any more: of deleted runs, of uploads sent twice, of ends that were refused.

A content is stored before a row names it, so one without a row may be about to get one. Storing it, also again,
makes it young (blobs.py); a row is committed soon after, or the content stored once more. So what is older than a
day and not named now is named by nobody soon: no row copies a digest but from a row that is held meanwhile. Whoever
frees looks at the age last, where nobody can store. Each server goes through its own folder, a piece at a time, again
and again, and remembers nothing: whatever crash left it there, or whichever server deleted the row.
"""

import structlog

from backends.blobs import Blobs
from db import files, ids, projects
from db.database import Database

log = structlog.get_logger(__name__)

GRACE_SECONDS = 86_400.0
"""Far more than lies between storing the first file of a job and committing its end."""
REST_SECONDS = 600.0
"""Between the end of the folder and its beginning."""


class Freeing:
    """Goes through one folder of contents, for one database."""

    def __init__(self, database: Database, blobs: Blobs, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._database = database
        self._blobs = blobs
        self._grace = grace_seconds
        self._piece: int | None = 0
        self._ours: bool | None = None

    async def step(self) -> bool:
        """Free what nobody names of the next piece; False at the folder's end, after which it begins anew."""
        if not await self._is_ours():
            return False
        idle = await self._blobs.idle(self._piece or 0, older_than_seconds=self._grace)
        if idle.sha256s:
            async with self._database.read() as session:
                named = await files.named(session, idle.sha256s)
            unnamed = [sha256 for sha256 in idle.sha256s if sha256 not in named]
            freed = await self._blobs.free(unnamed, older_than_seconds=self._grace)
            if freed:
                log.info("contents freed", contents=len(unnamed), bytes=freed)
        self._piece = idle.next_piece
        return self._piece is not None

    async def _is_ours(self) -> bool:
        """Contents of another database's rows are named there: nothing here may decide about them."""
        if self._ours is None:
            async with self._database.read() as session:
                owner = ids.encode("project", await projects.default(session))
            self._ours = await self._blobs.belongs_to(owner)
            if not self._ours:
                log.warning("the folder of contents is another database's: nothing there is freed")
        return self._ours
