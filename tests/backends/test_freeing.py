"""Freeing contents: what is named is never missing, whatever happens in between; what is not goes in the end."""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select

from backends.blobs import Blobs
from backends.contents import Idle
from backends.freeing import GRACE_SECONDS, Freeing
from backends.janitor import Janitor
from db import files, projects
from db.database import Database
from db.files import File
from tests.db.world import World, few

ACTS = ("store", "name", "erase", "day")
CONTENTS = ("one", "two", "three")
Act = tuple[str, str]


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


async def store(blobs: Blobs, content: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield content.encode()

    await blobs.write(chunks(), limit_bytes=100)


def age(blobs: Blobs, seconds: float = 2 * GRACE_SECONDS) -> None:
    """Time passes over everything that is stored."""
    for path in blobs.path("0" * 64).parents[2].glob("??/??/*"):
        os.utime(path, (time.time(), path.stat().st_mtime - seconds))


async def freed(database: Database, blobs: Blobs) -> None:
    """One way through the whole folder."""
    freeing = Freeing(database, blobs)
    while await freeing.step():
        pass


@dataclass
class Life:
    """What servers do with contents: store one, commit a row that names it, erase the rows; and days pass.

    A row is committed within a day of storing, by whoever stored; else the content is stored again first.
    """

    world: World
    blobs: Blobs
    stored: set[str] = field(default_factory=set)

    async def act(self, act: Act) -> None:
        what, content = act
        if what == "store":
            await store(self.blobs, content)
            self.stored.add(content)
        elif what == "name" and content in self.stored:
            await self.world.upload("a", content)
        elif what == "erase":
            async with self.world.database.begin() as session:
                await session.execute(delete(File).where(File.sha256 == digest(content)))
        elif what == "day":
            age(self.blobs)
            self.stored.clear()
        await self.look()

    async def look(self) -> None:
        async with self.world.database.read() as session:
            named = set((await session.execute(select(File.sha256))).scalars())
        missing = {name for name in named if name and not self.blobs.exists(name)}
        assert not missing
        assert {digest(content) for content in self.stored} <= self.present()

    def present(self) -> set[str]:
        return {path.name for path in self.blobs.path("0" * 64).parents[2].glob("??/??/*")}


class Between(Blobs):
    """Where others go on while somebody frees: after looking at the folder, and before removing."""

    def __init__(self, root: Path, life: list[Life], acts: Iterable[Act]) -> None:
        super().__init__(root)
        self.life, self.acts = life, iter(acts)

    async def idle(self, piece: int, *, older_than_seconds: float, most: int = 500) -> Idle:
        found = await super().idle(piece, older_than_seconds=older_than_seconds, most=most)
        if found.sha256s:
            await self._others()
        return found

    async def free(self, sha256s: Sequence[str], *, older_than_seconds: float) -> int:
        await self._others()
        count = await super().free(sha256s, older_than_seconds=older_than_seconds)
        await self.life[0].look()
        return count

    async def _others(self) -> None:
        if (act := next(self.acts, None)) is not None:
            await self.life[0].act(act)


acts = st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(CONTENTS)), max_size=12)
within_a_day = st.lists(st.tuples(st.sampled_from(ACTS[:-1]), st.sampled_from(CONTENTS)), max_size=8)


@few
@given(before=acts, during=within_a_day)
async def test_what_is_named_is_never_missing_and_the_rest_goes(
    database: Database, before: list[Act], during: list[Act]
) -> None:
    with tempfile.TemporaryDirectory() as top:
        there: list[Life] = []
        blobs = Between(Path(top), there, during)
        life = Life(await World.make(database), blobs)
        there.append(life)
        async with database.begin() as session:
            await session.execute(delete(File))
        for act in before:
            await life.act(act)
            await freed(database, blobs)
        age(blobs)
        life.stored.clear()
        await freed(database, Blobs(Path(top)))
        await life.look()
        async with database.read() as session:
            assert await files.named(session, life.present()) == life.present()


def test_storing_and_freeing_at_once_takes_turns(tmp_path: Path) -> None:
    async def at_once() -> None:
        blobs, other = Blobs(tmp_path / "blobs"), Blobs(tmp_path / "blobs")
        for _ in range(150):
            await store(blobs, "one")
            age(blobs)
            removing = other.free([digest("one")], older_than_seconds=GRACE_SECONDS)
            await asyncio.gather(store(blobs, "one"), removing)
            assert blobs.path(digest("one")).read_bytes() == b"one"

    asyncio.run(at_once())


async def test_each_server_frees_what_lies_in_its_own_folder(database: Database, tmp_path: Path) -> None:
    world = await World.make(database)
    folders = [Blobs(tmp_path / "here"), Blobs(tmp_path / "there")]
    await world.upload("a", "kept")
    for blobs in folders:
        await store(blobs, "kept")
        await store(blobs, "left")
        age(blobs)
        await freed(database, blobs)
        assert [blobs.exists(digest(name)) for name in ("kept", "left")] == [True, False]


async def test_the_contents_of_another_database_are_not_touched(database: Database, tmp_path: Path) -> None:
    await World.make(database)
    blobs = Blobs(tmp_path)
    assert await blobs.belongs_to("proj_of_another")
    await store(blobs, "theirs")
    age(blobs)
    await freed(database, blobs)
    assert blobs.exists(digest("theirs"))


async def test_a_step_looks_at_a_bounded_piece(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    names = [f"{at:04x}" + "0" * 60 for at in range(10)]
    for name in names:
        blobs.path(name).parent.mkdir(parents=True)
        blobs.path(name).touch()
    age(blobs)
    first = await blobs.idle(0, older_than_seconds=GRACE_SECONDS, most=8)
    assert first == Idle(tuple(names[:4]), 4)
    second = await blobs.idle(4, older_than_seconds=GRACE_SECONDS, most=400)
    assert second == Idle(tuple(names[4:]), None)


async def test_the_janitor_frees_what_a_folder_holds(database: Database, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    async with database.begin() as session:
        await projects.ensure_default(session)
    await store(blobs, "left")
    await Janitor(database, blobs).step()
    assert blobs.exists(digest("left")), "it is young, and somebody may be about to name it"
    age(blobs)
    await Janitor(database, blobs).step()
    assert not blobs.exists(digest("left"))


@pytest.mark.parametrize("name", ["lock", "owner"])
async def test_what_is_no_content_stays(database: Database, tmp_path: Path, name: str) -> None:
    await World.make(database)
    blobs = Blobs(tmp_path)
    await store(blobs, "left")
    place = blobs.path(digest("left")).with_name(name)
    place.touch()
    age(blobs)
    await freed(database, blobs)
    assert [place.exists(), blobs.exists(digest("left"))] == [True, False]
