"""SQLite's checkpoints in a thread, beside what goes on.

A commit appends pages to a log, and by itself SQLite has every so many of them copied into the database by whoever
commits then: some ten milliseconds in which a server answers nobody. Here a thread copies them, over a connection of
its own, while others go on to write. What they have written meanwhile is copied before the next one begins: that is
little, and where nothing is left the log begins anew. Should it grow all the same, SQLite does it as ever.
"""

import asyncio
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
from sqlalchemy.engine import URL

log = structlog.get_logger(__name__)

PAGES = 4000
"""Four times what SQLite waits for by itself: what was written again meanwhile is copied once, and while it is copied,
commits wait for the disk."""
MOST_PAGES = 2 * PAGES
"""With so many in the log the next commit copies them."""
_COMMITS = 64
"""After so many the log is copied first; later after as many as PAGES took the last time, within these."""
_LEAST_COMMITS, _MOST_COMMITS = 4, 256


class Checkpoints:
    """Those of one database in this process."""

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._connection: sqlite3.Connection | None = None
        self._commits = 0
        self._after = _COMMITS
        self._left = 0
        """What was in the log when it was copied last, and is still: it begins anew where all was copied."""
        self._copied = 0
        self._copying: Future[None] | None = None

    def committed(self) -> None:
        """Count a commit; where there were many, have a thread copy what is in the log."""
        self._commits += 1
        if self._commits >= self._after and self._copying is None:
            self._copying = self._thread.submit(self._copy_much, self._commits)

    async def finish(self) -> None:
        """Copy what was written while the thread copied; nobody writes until that is done."""
        if self._copying is not None and self._copying.done():
            pages = await asyncio.get_running_loop().run_in_executor(self._thread, self._copy)
            self._left = 0 if self._copied == pages else pages
            self._copying, self._commits = None, 0

    def close(self) -> None:
        """Stop, once what goes on is done."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _copy_much(self, commits: int) -> None:
        written = self._copy() - self._left
        self._after = min(_MOST_COMMITS, max(_LEAST_COMMITS, PAGES * commits // max(1, written)))

    def _copy(self) -> int:
        """Copy what can be without waiting for anybody; how many pages are in the log."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False
                )
                self._connection.execute("PRAGMA synchronous = FULL")
            ((_busy, pages, copied),) = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the log is not copied", error=repr(error))
            return 0
        self._copied = int(copied)
        return int(pages)
