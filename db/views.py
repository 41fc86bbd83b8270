"""Saved views: a filter, a sort and columns of the list of runs, under a name.

A view belongs to who saved it; a shared one is seen by everybody of its project and changed by its owner
or an administrator. What it holds is kept in the API's own words, and checked by the parsers of filters.py
and sorting.py before it is kept and again whenever it is used.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.columns import Base, Id, Json, Timestamp, Word


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
