"""Projects: the boundary of ownership and permission. Every object has one; the default one always exists."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Integer, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, viewers
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.viewers import Viewer

DEFAULT = "default"


class Project(Base):
    """A project. What its ended runs measured and printed is kept whole for so many days; None: for ever."""

    __tablename__ = "projects"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    metrics_days: Mapped[int | None] = mapped_column(Integer)
    logs_days: Mapped[int | None] = mapped_column(Integer)


async def ensure_default(session: Transaction) -> bytes:
    """Make the default project if it is not there; returns its id."""
    once = columns.insert_once(session.postgresql, Project, ("name",))
    await session.execute(once, {"id": ids.new(), "name": DEFAULT, "created_at": columns.now()})
    return await default(session)


async def default(session: Session) -> bytes:
    """The default project's id, which no other database has."""
    found: bytes = await session.scalar(select(Project.id).where(Project.name == DEFAULT))
    return found


async def choose(session: Session, viewer: Viewer, project_id: bytes | None) -> bytes:
    """The id of the project to write to: the given one, else the default; raises NotFound or Forbidden."""
    wanted = Project.name == DEFAULT if project_id is None else Project.id == project_id
    found: bytes | None = await session.scalar(select(Project.id).where(wanted))
    if found is None:
        raise errors.NotFound("there is no such project", path=("project",))
    viewers.require_writer(viewer, found)
    return found


async def find_all(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Project]:
    """The projects of these ids that may be seen."""
    statement = select(Project).where(Project.id.in_(keys), viewers.visible(viewer, Project.id))
    return await session.all(Project, statement)


async def list_all(session: Session, viewer: Viewer) -> list[Project]:
    """Every project that may be seen, by name."""
    statement = select(Project).where(viewers.visible(viewer, Project.id)).order_by(Project.name)
    return await session.all(Project, statement)


async def exists(session: Session) -> bool:
    """Whether the default project is there: the database answers, and is ours."""
    return await session.scalar(select(Project.id).where(Project.name == DEFAULT)) is not None
