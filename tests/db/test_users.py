"""Credentials: what opens, for how long, and that nothing kept would."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, update

from db import projects, users
from db.database import Database
from db.users import Token, TokenKind
from db.viewers import Kind, Viewer

HOUR = timedelta(hours=1)
SECRET = "the administrator's token"


async def _administrator(database: Database, token: str = SECRET) -> Viewer:
    async with database.begin() as session:
        user_id = await users.ensure_administrator(session, token)
    return Viewer(Kind.ADMINISTRATOR, user_id=user_id)


async def _issue(database: Database, viewer: Viewer, kind: TokenKind, lasting: timedelta = HOUR) -> str:
    async with database.begin() as session:
        return await users.issue(session, viewer, kind, lasting)


async def _redeem(database: Database, link: str) -> str | None:
    async with database.begin() as session:
        return await users.redeem(session, link, HOUR)


async def _whose(database: Database, token: str) -> Viewer | None:
    async with database.read() as session:
        return await users.authenticate(session, token)


async def test_a_token_opens_until_it_is_revoked_or_expires(database: Database) -> None:
    viewer = await _administrator(database)
    standing = await _issue(database, viewer, TokenKind.USER)
    expired = await _issue(database, viewer, TokenKind.USER, -HOUR)
    assert await _whose(database, standing) == viewer
    assert await _whose(database, expired) is None
    assert await _whose(database, standing + "x") is None
    async with database.begin() as session:
        await users.revoke(session, standing)
        await users.revoke(session, "unknown")
    assert await _whose(database, standing) is None


async def test_a_token_that_is_narrowed_to_a_project_opens_that_project_alone(database: Database) -> None:
    viewer = await _administrator(database)
    narrowed = await _issue(database, viewer, TokenKind.USER)
    async with database.begin() as session:
        project_id = await projects.ensure_default(session)
        ours = update(Token).where(Token.sha256 == users.digest(narrowed))
        await session.execute(ours.values(project_id=project_id))
    seen = Viewer(Kind.USER, user_id=viewer.user_id, projects=frozenset({project_id}))
    assert await _whose(database, narrowed) == seen


async def test_a_link_is_redeemed_once_and_opens_nothing_itself(database: Database) -> None:
    viewer = await _administrator(database)
    link = await _issue(database, viewer, TokenKind.LINK)
    assert await _whose(database, link) is None
    opened = await _redeem(database, link)
    assert opened is not None and await _whose(database, opened) == viewer
    assert await _redeem(database, link) is None


async def test_a_link_redeemed_by_many_at_once_serves_one(database: Database) -> None:
    link = await _issue(database, await _administrator(database), TokenKind.LINK)
    opened = await asyncio.gather(*(_redeem(database, link) for _ in range(5)))
    assert len([token for token in opened if token is not None]) == 1


async def test_only_a_living_link_is_redeemed(database: Database) -> None:
    viewer = await _administrator(database)
    expired = await _issue(database, viewer, TokenKind.LINK, -HOUR)
    revoked = await _issue(database, viewer, TokenKind.LINK)
    async with database.begin() as session:
        await users.revoke(session, revoked)
    session_token = await _issue(database, viewer, TokenKind.SESSION)
    for token in (expired, revoked, session_token, SECRET, "unknown"):
        assert await _redeem(database, token) is None


async def test_the_administrator_has_one_standing_token(database: Database) -> None:
    viewer = await _administrator(database, "old")
    other = await _issue(database, viewer, TokenKind.USER)
    assert await _administrator(database, "new") == viewer
    assert await _whose(database, "old") is None
    assert await _whose(database, "new") == await _whose(database, other) == viewer


async def test_two_servers_that_start_at_once_make_one_administrator(database: Database) -> None:
    viewers = await asyncio.gather(*(_administrator(database) for _ in range(4)))
    assert len(set(viewers)) == 1
    assert await _whose(database, SECRET) == viewers[0]
    async with database.read() as session:
        assert len(await session.all(Token, select(Token))) == 1


async def test_no_token_is_kept_as_it_is(database: Database) -> None:
    viewer = await _administrator(database)
    tokens = [SECRET] + [await _issue(database, viewer, kind) for kind in TokenKind]
    async with database.read() as session:
        rows = await session.all(Token, select(Token))
    assert len(rows) == len(tokens) and all(len(row.sha256) == 32 for row in rows)
    kept = repr(rows)
    assert not any(token in kept for token in tokens)
    if not session.postgresql:
        folder = Path(make_url(str(database.url)).database or "").parent
        content = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
        assert not any(token.encode() in content for token in tokens)


@pytest.mark.parametrize("kind", list(TokenKind))
async def test_tokens_are_long_and_never_the_same(database: Database, kind: TokenKind) -> None:
    viewer = await _administrator(database)
    made = {await _issue(database, viewer, kind) for _ in range(3)}
    assert len(made) == 3 and all(len(token) > 40 for token in made)
