"""Who asks. Every read and command takes a viewer, so that permission is a rule here and no parameter there.

An administrator and the supervisor see everything; a user sees their projects; a job's token sees its own
run and input files, and may report for its own attempt, nothing else.
"""

import enum
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, column, false, select, table, true

from db import errors


class Kind(enum.Enum):
    """What kind of credential a request carries."""

    ADMINISTRATOR = "ADMINISTRATOR"
    USER = "USER"
    JOB = "JOB"
    SUPERVISOR = "SUPERVISOR"


@dataclass(frozen=True, slots=True)
class Viewer:
    """The bearer of a request. `run_id`, `job_id` and `attempt` are those of a JOB."""

    kind: Kind
    user_id: bytes | None = None
    projects: frozenset[bytes] = frozenset()
    run_id: bytes | None = None
    job_id: bytes | None = None
    attempt: int | None = None

    @property
    def sees_all(self) -> bool:
        """Whether no rule limits this viewer."""
        return self.kind in (Kind.ADMINISTRATOR, Kind.SUPERVISOR)


SUPERVISOR = Viewer(Kind.SUPERVISOR)


def visible(viewer: Viewer, project: Any, run: Any = None) -> ColumnElement[bool]:
    """The condition that a row may be seen, from its project column and, where it has one, its run column."""
    if viewer.sees_all:
        return true()
    if viewer.kind is Kind.JOB:
        return false() if run is None else and_(run == viewer.run_id)
    return and_(project.in_(viewer.projects))


_DELETED: Any = select(column("id")).select_from(table("runs")).where(column("deleted_at").is_not(None))


def kept(run: Any) -> ColumnElement[bool]:
    """The condition that a row's run is not being deleted, from its run column."""
    condition: ColumnElement[bool] = run.not_in(_DELETED)
    return condition


def require_writer(viewer: Viewer, project_id: bytes) -> None:
    """Raise Forbidden unless the viewer may change things of this project."""
    if viewer.sees_all or (viewer.kind is Kind.USER and project_id in viewer.projects):
        return
    raise errors.Forbidden


def require_administrator(viewer: Viewer) -> None:
    """Raise Forbidden for everybody who does not run the server."""
    if not viewer.sees_all:
        raise errors.Forbidden("only an administrator may do this")
