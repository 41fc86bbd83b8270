"""Discarding what removed modules leave: contents of the store, and environments of this machine."""

from pathlib import Path

import pytest

from backends import sources
from backends.local import Local
from tests.backends import localground


async def test_a_content_is_gone_at_once_and_the_others_stay(tmp_path: Path) -> None:
    store, digests = tmp_path / "store", []
    for content in ("1", "2"):
        folder = tmp_path / content / "inner"
        folder.mkdir(parents=True)
        (folder / "a").write_text(content)
        digests.append((await sources.fetch(str(tmp_path / content), store)).digest)
    for _ in range(2):
        sources.discard(store, digests[0])
        assert [path.name for path in store.iterdir()] == digests[1:]
    assert (await sources.fetch(str(tmp_path / "1"), store)).digest == digests[0]


@pytest.mark.parametrize("name", ["environments/abc", "jobs/abc", "../abc"])
async def test_only_an_environment_of_ours_is_discarded(tmp_path: Path, name: str) -> None:
    async with localground.stand(tmp_path) as ground:
        adapter = await ground.open()
        assert isinstance(adapter, Local)
        home = tmp_path / "home"
        folder = home / name
        (folder / "bin").mkdir(parents=True)
        for _ in range(2):
            await adapter.discard(str(folder))
        await adapter.discard("")
        assert folder.exists() is (name != "environments/abc")
        assert list((home / "trash").iterdir()) == []
        if folder.exists():
            (folder / "bin").rmdir()
            folder.rmdir()
