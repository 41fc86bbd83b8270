"""Secrets: named values of a project, kept sealed and never given back.

A value comes in through `put`, which has it sealed before it touches the database, and goes out only to jobs
whose functions name it (grants.py). What is stored says nothing without the key, which lies elsewhere
(backends/vault.py). Setting a name again rotates it: the next launch gets the new value.
"""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, Text, UniqueConstraint, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, errors, ids, paging, projects, texts, viewers
from db.columns import Base, Id, Timestamp
from db.database import Session, Transaction
from db.modules import Function, Module
from db.paging import Page, Slice
from db.viewers import Viewer

MOST_BYTES = 64 << 10
RESERVED = frozenset({"PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"})
"""What would change which programs and libraries a job runs."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)

Seal = Callable[[bytes, str], bytes]
"""Makes of a context and a value what may be stored; opening takes the same context."""


class Secret(Base):
    """A secret. `sealed` opens with the key and `context` alone."""

    __tablename__ = "secrets"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))


def context(project_id: bytes, name: str) -> bytes:
    """What a value is sealed for: moved to another name or project, it opens no more."""
    return project_id + name.encode()


def name_problem(name: str) -> str | None:
    """Why this is no name for a secret, in words."""
    if not _NAME.fullmatch(name):
        return f"{ids.shorten(name)!r} is no name of an environment variable of up to 100 characters"
    if name.upper().startswith("RUNGRAPH_") or name in RESERVED:
        return f"{name} is set by the server, or decides what a job runs"
    return None


async def put(
    session: Transaction,
    viewer: Viewer,
    name: str,
    value: str,
    seal: Seal,
    *,
    project_id: bytes | None = None,
) -> bytes:
    """Set a secret, new or again; returns its id. Raises Invalid with every mistake."""
    project = await projects.choose(session, viewer, project_id)
    problems = [errors.Problem(("name",), message)] if (message := name_problem(name)) else []
    if refusal := texts.refusal(value):
        problems.append(errors.Problem(("value",), f"the value {refusal}"))
    elif not 1 <= len(value.encode()) <= MOST_BYTES:
        problems.append(errors.Problem(("value",), f"a value has 1 to {MOST_BYTES} bytes"))
    if problems:
        raise errors.Invalid(problems=problems)
    now = columns.now()
    values: dict[str, Any] = {
        "sealed": seal(context(project, name), value),
        "updated_at": now,
        "updated_by": viewer.user_id,
    }
    once = columns.insert_once(session.postgresql, Secret, ("project_id", "name"))
    named = {"id": ids.new(), "project_id": project, "name": name, "created_at": now}
    await session.execute(once, {**named, **values})
    ours = (Secret.project_id == project) & (Secret.name == name)
    await session.execute(update(Secret).where(ours).values(values))
    found: bytes = await session.scalar(select(Secret.id).where(ours))
    return found


async def remove(
    session: Transaction, viewer: Viewer, name: str, *, project_id: bytes | None = None
) -> Secret:
    """Delete a secret for ever and return what it was; raises NotFound."""
    project = await projects.choose(session, viewer, project_id)
    ours = (Secret.project_id == project) & (Secret.name == name)
    found = await session.find(Secret, select(Secret).where(ours).with_for_update())
    if found is None:
        raise errors.NotFound(f"there is no secret named {ids.shorten(name)!r}", path=("name",))
    await session.execute(delete(Secret).where(ours))
    return found


async def list_secrets(session: Session, viewer: Viewer, page: Page) -> Slice[Secret]:
    """Secrets that may be seen to exist, newest first."""
    statement = select(Secret).where(viewers.visible(viewer, Secret.project_id))
    return await paging.fetch(session, Secret, statement, Secret.id, page)


async def find_secrets(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Secret]:
    """The secrets of these ids that may be seen to exist."""
    seen = viewers.visible(viewer, Secret.project_id)
    return await session.all(Secret, select(Secret).where(Secret.id.in_(keys), seen))


async def missing(session: Session, project_id: bytes, names: Collection[str]) -> set[str]:
    """Those of these names that are not set in the project."""
    if not names:
        return set()
    statement = select(Secret.name).where(Secret.project_id == project_id, Secret.name.in_(names))
    return set(names) - set((await session.execute(statement)).scalars())


async def naming(session: Session, projects: Collection[bytes]) -> list[tuple[bytes, str, str]]:
    """Which functions in use name which secrets: project, secret, address `module/function`."""
    statement = (
        select(Module.project_id, Module.name.label("module"), Function.name, Function.spec)
        .join(Function, Function.version_id == Module.active_version_id)
        .where(Module.project_id.in_(projects))
        .order_by(Module.name, Function.id)
    )
    return [
        (row.project_id, secret, f"{row.module}/{row.name}")
        for row in (await session.execute(statement)).all()
        for secret in row.spec.get("secrets", ())
    ]
