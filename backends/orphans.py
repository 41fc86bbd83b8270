"""What a backend still holds of attempts that are over, or that nobody knows: found by its labels and removed.

A launch that was under way while its supervisor lost the lease, or the handle of one that was never recorded,
leaves containers that no end would remove. An attempt is recorded before it is launched, so that what a backend
tells first and the database does not know after is nobody's. Whichever backend it was launched on: several may
share an engine, or a namespace, and an owner, and each is told what the others hold. Of this machine's folders,
which outlive a change of database, nothing is removed so.
"""

import structlog

from backends.base import Backend, BackendUnavailable, Scope
from db import attempts
from db.database import Database

log = structlog.get_logger(__name__)

EVERY_SECONDS = 300.0


async def remove(database: Database, adapter: Backend) -> None:
    """Remove what is nobody's from a backend."""
    can = adapter.capabilities
    if can.scope is Scope.HOST and not can.needs_container:
        return
    try:
        held = await adapter.held()
        async with database.read() as session:
            remaining = await attempts.remaining(session)
        for handle in held:
            if handle["name"] not in remaining:
                log.warning("removing what is left of an attempt that is over", attempt=handle["name"])
                await adapter.remove(handle)
    except BackendUnavailable as error:
        log.warning("leftovers not removed yet", error=str(error))
