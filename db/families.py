"""Parents and children of runs: a run may be a part of another run of its project.

Only people's and programs' own credentials make children; a job's token starts nothing.
"""

from sqlalchemy import select

from db import errors, runs
from db.database import Session
from db.runs import Run
from db.states import TERMINAL_RUN
from db.viewers import Viewer

_DEEPEST = 100


async def require_parent(
    session: Session, viewer: Viewer, project_id: bytes, parent_id: bytes | None
) -> None:
    """Raise NotFound or Invalid unless a run of this project may be a part of `parent_id`, if any."""
    if parent_id is None:
        return
    parent = await runs.find(session, viewer, parent_id)
    if parent is None:
        raise errors.NotFound("there is no such run", path=("parent",))
    if parent.project_id != project_id:
        raise errors.Invalid("a run and its parent are of one project", path=("parent",))


async def descendants(session: Session, run_id: bytes) -> list[bytes]:
    """What hangs below a run and has not ended, parents before children."""
    found: list[bytes] = []
    level = [run_id]
    for _ in range(_DEEPEST):
        below = select(Run.id, Run.state).where(Run.parent_id.in_(level), Run.deleted_at.is_(None))
        rows = (await session.execute(below.order_by(Run.id))).all()
        if not rows:
            break
        level = [row.id for row in rows]
        found += [row.id for row in rows if row.state not in TERMINAL_RUN]
    return found
