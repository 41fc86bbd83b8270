"""What a killed server's fetches leave is ended and removed, and nothing else is."""

import asyncio
from pathlib import Path

from backends import fetching, sources


async def test_what_a_killed_server_left_running_is_ended_and_removed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    scratch, kept = store / f"{sources.SCRATCH}x" / "repository", store / "digest"
    for folder in (scratch, kept):
        folder.mkdir(parents=True)
    fetch, job = [
        await asyncio.create_subprocess_exec("sleep", "1000", cwd=folder) for folder in (scratch, kept)
    ]
    try:
        fetching.recover(store)
        assert await fetch.wait() == -9
        assert job.returncode is None
        assert list(store.iterdir()) == [kept]
        fetching.recover(store)
        fetching.recover(tmp_path / "nothing")
    finally:
        job.kill()
        await job.wait()
