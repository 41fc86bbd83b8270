"""What the job's container runs in a pod, run here by this machine's shell: it begins once, and hears who ends it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.kubernetes import ends, pods
from tests.backends.grounds import eventually

SCRIPT = Path(pods.__file__).parent / "start.sh"


@dataclass
class Container:
    """A box as `fetch.py` leaves it, and the script in it."""

    folder: Path

    def __post_init__(self) -> None:
        for pipe in ("stdout", "stderr", "control"):
            os.mkfifo(self.folder / pipe)
        (self.folder / "peers.sh").touch()
        job = f'set -- sh -c "echo begun >>{self.effects}; exec sleep 60"\n'
        text = SCRIPT.read_text().replace("/rungraph/box", str(self.folder))
        self.script = self.folder / "start.sh"
        self.script.write_text(job + text.replace("/dev/termination-log", str(self.words)))
        self.started: list[asyncio.subprocess.Process] = []

    @property
    def effects(self) -> Path:
        return self.folder / "effects"

    @property
    def words(self) -> Path:
        return self.folder / "words"

    async def start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec("sh", self.script, start_new_session=True)
        self.started.append(process)

        async def is_up() -> bool:
            return (self.folder / "begun").exists() or process.returncode is not None

        await eventually(is_up)
        return process

    async def has_effect(self) -> bool:
        return self.effects.exists()

    def listen(self) -> list[int]:
        """Open its pipes, as the courier does when it may begin."""
        return [os.open(self.folder / pipe, os.O_RDWR) for pipe in ("stdout", "stderr", "control")]


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    made = Container(tmp_path)
    yield made
    for process in made.started:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def test_what_has_begun_does_not_begin_again(container: Container) -> None:
    pipes = container.listen()
    first = await container.start()
    await eventually(container.has_effect)
    second = await container.start()
    assert await second.wait() == 125
    assert container.words.read_text() == ends.STARTED_AGAIN
    assert first.returncode is None
    assert container.effects.read_text() == "begun\n"
    for pipe in pipes:
        os.close(pipe)


async def test_what_is_to_end_before_it_began_never_begins(container: Container) -> None:
    process = await container.start()
    process.send_signal(signal.SIGTERM)
    pipes = container.listen()
    assert await process.wait() == 128 + signal.SIGTERM
    assert not container.effects.exists()
    for pipe in pipes:
        os.close(pipe)


async def test_what_is_to_end_ends_by_its_signal(container: Container) -> None:
    pipes = container.listen()
    process = await container.start()
    await eventually(container.has_effect)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 128 + signal.SIGTERM
    assert (container.folder / "exit").read_text() == "143\n"
    for pipe in pipes:
        os.close(pipe)
