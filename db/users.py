"""Users and their credentials.

A token is random, shown once and kept only as its SHA-256, so that a stolen database opens nothing. A LINK
is a token that is good once, for a browser to exchange for a SESSION. Jobs have none here: theirs is
derived from the attempt (graph/credentials.py) and good as long as that runs.
"""

import enum
import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ForeignKey, LargeBinary, Text, delete, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, ids
from db.columns import Base, Choice, Id, Timestamp
from db.database import Session, Transaction
from db.viewers import Kind, Viewer

ADMINISTRATOR = "administrator"


class TokenKind(enum.Enum):
    """What a token is for."""

    ADMINISTRATOR = "ADMINISTRATOR"
    USER = "USER"
    SESSION = "SESSION"
    LINK = "LINK"


class User(Base):
    """A person."""

    __tablename__ = "users"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Token(Base):
    """A credential of a user; `project_id` narrows it to one project, `expires_at` and `revoked_at` end it."""

    __tablename__ = "tokens"
    __table_args__ = (columns.one_of("kind", TokenKind),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    kind: Mapped[TokenKind] = mapped_column(Choice(TokenKind))
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    user_id: Mapped[bytes] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)


_STANDING = (TokenKind.ADMINISTRATOR, TokenKind.USER)
"""Kinds that say what a user may do; a SESSION or a LINK only lasts as long as a browser is at work."""


def digest(token: str) -> bytes:
    """What is kept of a token. It is random, so that a plain hash needs no salt and no stretching."""
    return hashlib.sha256(token.encode()).digest()


async def ensure_administrator(session: Transaction, token: str) -> bytes:
    """Make the administrator, with exactly this token as the standing one; returns the user's id."""
    once = columns.insert_once(session.postgresql, User, ("name",))
    await session.execute(once, {"id": ids.new(), "name": ADMINISTRATOR, "created_at": columns.now()})
    locked = select(User.id).where(User.name == ADMINISTRATOR).with_for_update(key_share=True)
    user_id: bytes = await session.scalar(locked)
    standing = (Token.user_id == user_id) & (Token.kind == TokenKind.ADMINISTRATOR)
    kept = await session.scalar(select(Token.sha256).where(standing))
    if kept != digest(token):
        await session.execute(delete(Token).where(standing))
        await _insert(session, TokenKind.ADMINISTRATOR, user_id, token, None)
    return user_id


async def has_administrator(session: Session, token: str) -> bool:
    """Whether this is the administrator's standing token, or there is none yet."""
    standing = Token.kind == TokenKind.ADMINISTRATOR
    kept = (await session.execute(select(Token.sha256).where(standing))).scalars().all()
    return not kept or digest(token) in kept


async def issue(session: Transaction, viewer: Viewer, kind: TokenKind, lasting: timedelta) -> str:
    """A new token of the viewer's user, shown here and never again."""
    assert viewer.user_id is not None
    token = f"rg_{kind.value[0].lower()}_{secrets.token_urlsafe(32)}"
    await _insert(session, kind, viewer.user_id, token, columns.now() + lasting)
    return token


async def authenticate(session: Session, token: str) -> Viewer | None:
    """Whose standing token this is, None for an unknown, expired or revoked one, or a LINK."""
    statement = select(Token).where(Token.sha256 == digest(token), Token.kind != TokenKind.LINK, _alive())
    row = await session.find(Token, statement)
    if row is None:
        return None
    if row.project_id is not None:
        return Viewer(Kind.USER, user_id=row.user_id, projects=frozenset({row.project_id}))
    return Viewer(Kind.ADMINISTRATOR, user_id=row.user_id)


async def redeem(session: Transaction, link: str, lasting: timedelta) -> str | None:
    """Exchange a LINK, once, for a SESSION's token; None when it is unknown, used or expired."""
    statement = (
        delete(Token)
        .where(Token.sha256 == digest(link), Token.kind == TokenKind.LINK, _alive())
        .returning(Token.user_id)
    )
    user_id: bytes | None = await session.scalar(statement)
    if user_id is None:
        return None
    return await issue(session, Viewer(Kind.ADMINISTRATOR, user_id=user_id), TokenKind.SESSION, lasting)


async def revoke(session: Transaction, token: str) -> None:
    """End a token at once; an unknown one is nothing to end."""
    ended = update(Token).where(Token.sha256 == digest(token)).values(revoked_at=columns.now())
    await session.execute(ended)


async def acting(session: Session, user_id: bytes | None) -> Viewer:
    """What a user may do now, for what is done in their name while they are not there.

    That is what their standing tokens allow: nothing, once these have expired or are revoked.
    """
    if user_id is None:
        return Viewer(Kind.USER)
    standing = select(Token).where(Token.user_id == user_id, _alive())
    tokens = await session.all(Token, standing.where(Token.kind.in_(_STANDING)))
    if any(token.kind is TokenKind.ADMINISTRATOR for token in tokens):
        return Viewer(Kind.ADMINISTRATOR, user_id=user_id)
    allowed = frozenset(token.project_id for token in tokens if token.project_id is not None)
    return Viewer(Kind.USER, user_id=user_id, projects=allowed)


async def get(session: Session, user_id: bytes) -> User | None:
    """The user of this id."""
    return await session.find(User, select(User).where(User.id == user_id))


def _alive() -> ColumnElement[bool]:
    lasting = Token.expires_at.is_(None) | (Token.expires_at > columns.now())
    return Token.revoked_at.is_(None) & lasting


async def _insert(
    session: Transaction, kind: TokenKind, user_id: bytes, token: str, expires_at: datetime | None
) -> None:
    await session.execute(
        insert(Token).values(
            id=ids.new(),
            kind=kind,
            sha256=digest(token),
            user_id=user_id,
            created_at=columns.now(),
            expires_at=expires_at,
        )
    )
