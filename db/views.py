"""Saved views: a filter, a sort and columns of the list of runs, under a name.

A view belongs to who saved it; a shared one is seen by everybody of its project and changed by its owner
or an administrator. What it holds is kept in the API's own words, and checked by the parsers of filters.py
and sorting.py before it is kept and again whenever it is used.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    ForeignKey,
    UniqueConstraint,
    delete,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, filters, ids, paging, projects, sorting, texts, viewers
from db.columns import Base, Id, Json, Timestamp, Word
from db.database import Session, Transaction
from db.errors import Problem
from db.paging import Page, Slice
from db.viewers import Viewer


class RunView(Base):
    """A saved view."""

    __tablename__ = "run_views"
    __table_args__ = (UniqueConstraint("project_id", "owner_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    owner_id: Mapped[bytes] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Word)
    shared: Mapped[bool] = mapped_column(Boolean)
    filter: Mapped[Any] = mapped_column(Json, nullable=True)
    sort: Mapped[Any] = mapped_column(Json, nullable=True)
    columns: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


MOST_COLUMNS = 50
MOST_VIEWS = 500
"""Of one owner in one project."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """What a view holds; what is None is left as it is."""

    name: str | None = None
    shared: bool | None = None
    filter: Mapping[str, Any] | None = None
    sort: Mapping[str, Any] | None = None
    columns: Sequence[str] | None = None


async def create(
    session: Transaction, viewer: Viewer, spec: ViewSpec, project_id: bytes | None = None
) -> bytes:
    """Save a view and return its id; raises Invalid, or Conflict where the owner has one of that name."""
    project = await projects.choose(session, viewer, project_id)
    owner = _owner(viewer)
    _check(spec)
    mine = select(func.count()).where(RunView.project_id == project, RunView.owner_id == owner)
    if await session.scalar(mine) >= MOST_VIEWS:
        raise errors.LimitExceeded(f"you have {MOST_VIEWS} views in this project: delete some")
    at = columns.now()
    view_id = ids.new()
    values = {
        "id": view_id,
        "project_id": project,
        "owner_id": owner,
        "name": spec.name,
        "shared": bool(spec.shared),
        "filter": spec.filter,
        "sort": spec.sort,
        "columns": list(spec.columns or ()),
        "created_at": at,
        "updated_at": at,
    }
    once = columns.insert_once(session.postgresql, RunView, ("project_id", "owner_id", "name"))
    if not await session.change(once, values):
        raise _taken(spec.name)
    return view_id


async def change(session: Transaction, viewer: Viewer, view_id: bytes, spec: ViewSpec) -> None:
    """Change what is given of a view; raises NotFound, Forbidden, Invalid or Conflict."""
    view = await _changeable(session, viewer, view_id)
    _check(ViewSpec(spec.name or view.name, spec.shared, spec.filter, spec.sort, spec.columns))
    names = ("name", "shared", "filter", "sort", "columns")
    given = {name: getattr(spec, name) for name in names if getattr(spec, name) is not None}
    if spec.name not in (None, view.name):
        other = select(RunView.id).where(
            RunView.project_id == view.project_id,
            RunView.owner_id == view.owner_id,
            RunView.name == spec.name,
        )
        if await session.scalar(other) is not None:
            raise _taken(spec.name)
    statement = update(RunView).where(RunView.id == view_id)
    await session.execute(statement.values(**given, updated_at=columns.now()))


async def remove(session: Transaction, viewer: Viewer, view_id: bytes) -> None:
    """Delete a view; raises NotFound or Forbidden."""
    await _changeable(session, viewer, view_id)
    await session.execute(delete(RunView).where(RunView.id == view_id))


async def find_views(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[RunView]:
    """The views of these ids that may be seen."""
    return await session.all(RunView, select(RunView).where(RunView.id.in_(keys), _seen(viewer)))


async def list_views(session: Session, viewer: Viewer, page: Page) -> Slice[RunView]:
    """One's own views and the shared ones, newest first."""
    return await paging.fetch(session, RunView, select(RunView).where(_seen(viewer)), RunView.id, page)


async def get(session: Session, viewer: Viewer, view_id: bytes) -> RunView:
    """The view of this id; raises NotFound."""
    found = await find_views(session, viewer, [view_id])
    if not found:
        raise errors.NotFound("there is no such view", path=("view",))
    return found[0]


def _seen(viewer: Viewer) -> ColumnElement[bool]:
    mine = or_(RunView.shared, RunView.owner_id == viewer.user_id)
    return viewers.visible(viewer, RunView.project_id) & (true() if viewer.sees_all else mine)


async def _changeable(session: Transaction, viewer: Viewer, view_id: bytes) -> RunView:
    found = await find_views(session, viewer, [view_id])
    if not found:
        raise errors.NotFound("there is no such view", path=("id",))
    viewers.require_writer(viewer, found[0].project_id)
    if not viewer.sees_all and found[0].owner_id != viewer.user_id:
        raise errors.Forbidden("only its owner changes a view")
    return found[0]


def _owner(viewer: Viewer) -> bytes:
    if viewer.user_id is None:
        raise errors.Forbidden("views belong to people")
    return viewer.user_id


def _check(spec: ViewSpec) -> None:
    problems: list[Problem] = []
    if not 1 <= len((spec.name or "").strip()) <= 100 or texts.refusal(spec.name or ""):
        problems.append(Problem(("name",), "a view has a name of 1 to 100 characters"))
    names = spec.columns or ()
    if len(names) > MOST_COLUMNS:
        problems.append(Problem(("columns",), f"a view has at most {MOST_COLUMNS} columns"))
    for index, name in enumerate(names):
        if not 1 <= len(name) <= 300 or texts.refusal(name):
            problems.append(Problem(("columns", str(index)), "a column has a name of 1 to 300 characters"))
    for read, document in ((filters.parse, spec.filter), (sorting.parse, spec.sort)):
        try:
            read(document)
        except errors.DomainError as error:
            problems += error.problems
    if problems:
        raise errors.Invalid(problems=problems)


def _taken(name: str | None) -> errors.Conflict:
    return errors.Conflict(f"you have a view named {name!r} already", path=("name",))
