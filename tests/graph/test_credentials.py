"""A job's token: good as long as its attempt runs, in this process to the very moment it ends."""

import asyncio

import pytest
from sqlalchemy.exc import DisconnectionError

from db import attempts
from db.bus import Bus
from db.claims import Launch
from db.database import Database
from db.viewers import Kind
from graph.credentials import Credentials
from tests.db.world import World
from tests.graph.serving import Server


async def _launched(database: Database) -> tuple[World, Launch]:
    world = await World.make(database)
    await world.start({"a": ()})
    launch = (await world.claim())["a"]
    await world.begin(launch)
    return world, launch


async def test_a_token_says_whose_it_is_without_asking_the_database_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, launch = await _launched(database)
    credentials = Credentials(database, b"secret")
    token = credentials.job_token(launch)
    first = await credentials.viewer(token)
    assert first is not None
    assert (first.kind, first.run_id, first.job_id, first.attempt) == (
        *(Kind.JOB, launch.run_id, launch.job_id, launch.number),
    )
    monkeypatch.setattr(attempts, "find_reporter", None)  # nobody asks
    assert await credentials.viewer(token) == first
    assert await credentials.viewer(f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}") is None
    assert await Credentials(database, b"another").viewer(token) is None


async def test_a_token_dies_with_its_attempt(database: Database) -> None:
    world, launch = await _launched(database)
    credentials = Credentials(database, b"secret")
    token = credentials.job_token(launch)
    assert await credentials.viewer(token) is not None
    await world.end(launch)
    assert await credentials.viewer(token) is None


async def test_what_was_read_before_an_end_is_not_remembered_after_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, launch = await _launched(database)
    credentials = Credentials(database, b"secret")
    token = credentials.job_token(launch)
    read, go = asyncio.Event(), asyncio.Event()
    find = attempts.find_reporter

    async def late(*given: object) -> object:
        found = await find(*given)  # type: ignore[arg-type]
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(attempts, "find_reporter", late)
    asking = asyncio.create_task(credentials.viewer(token))
    await read.wait()
    await world.end(launch)
    go.set()
    await asking
    assert await credentials.viewer(token) is None


async def test_a_token_dies_soon_with_an_attempt_that_another_process_has_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, launch = await _launched(database)
    other = Database(database.url.render_as_string(hide_password=False), bus=Bus("memory://"))
    credentials = Credentials(other, b"secret")
    token = credentials.job_token(launch)
    assert await credentials.viewer(token) is not None
    await world.end(launch)
    monkeypatch.setattr("graph.credentials._ATTEMPT_SECONDS", 0.0)
    assert await credentials.viewer(token) is None
    await other.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("size", [10, 100_000])
async def test_who_asks_while_the_database_is_away_is_told_to_ask_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    async def away(*_: object) -> None:
        raise DisconnectionError("the line went dead")

    monkeypatch.setattr(server.around.credentials, "viewer", away)
    answer = await server.post("{ __typename }", {"padding": "x" * size})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["errors"][0]["extensions"] == {"code": "UNAVAILABLE"}
