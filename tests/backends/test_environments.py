"""Environments, made by the real uv without a network: what is installed lies in a folder."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backends import environments
from backends.base import PreparationFailed

SLOW_BACKEND = """
import pathlib, shutil, time
here = pathlib.Path(__file__).parent
def build_wheel(directory, settings=None, metadata=None):
    (here / "started").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
    wheel = next(here.glob("*.whl"))
    shutil.copy(wheel, directory)
    return wheel.name
"""
SLOW_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "slow"
version = "1.0"
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    cache = str(tmp_path / "cache")
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_CACHE_DIR": cache, "UV_OFFLINE": "1"}


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return f"tiny @ {_wheel(tmp_path, 'tiny').as_uri()}"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A project whose build says that it started, and goes on once it finds the file `go`."""
    folder = tmp_path / "slow"
    folder.mkdir()
    _wheel(folder, "slow")
    (folder / "backend.py").write_text(SLOW_BACKEND)
    (folder / "pyproject.toml").write_text(SLOW_PROJECT)
    return folder


def _wheel(folder: Path, name: str) -> Path:
    info, wheel = f"{name}-1.0.dist-info", folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{file.filename},,\n" for file in archive.filelist))
    return wheel


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.01)


def _runs(folder: Path, code: str) -> str:
    return subprocess.run(
        [folder / "bin" / "python", "-c", code], check=True, capture_output=True, text=True
    ).stdout


def _is_building(home: Path) -> bool:
    """Whether uv, or anything it started, holds the lock of the one environment."""
    (lock,) = home.glob("environments/*.lock")
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class _Log(list[str]):
    async def line(self, line: str) -> None:
        self.append(line)


async def test_an_environment_holds_its_requirements_and_is_made_once(
    tmp_path: Path, settings: dict[str, str], tiny: str
) -> None:
    log = _Log()
    folder = await environments.build(tmp_path, (tiny,), None, log.line, environment=settings)
    assert folder.parent == tmp_path / "environments"
    assert _runs(folder, "import tiny; print(tiny.answer)") == "42\n"
    assert any("tiny==1.0" in line for line in log)
    log.clear()
    assert await environments.build(tmp_path, (tiny,), None, log.line, environment=settings) == folder
    assert log == []


async def test_builds_of_one_environment_at_the_same_time_make_it_once(
    tmp_path: Path, settings: dict[str, str], slow: Path
) -> None:
    log = _Log()
    requirements = (f"slow @ {slow.as_uri()}",)
    builds = [
        asyncio.create_task(environments.build(tmp_path, requirements, None, log.line, environment=settings))
        for _ in range(3)
    ]
    await _until(lambda: sum("Waiting for another build" in line for line in log) == 2)
    (slow / "go").touch()
    assert len(set(await asyncio.gather(*builds))) == 1
    assert sum("slow==1.0" in line and "+" in line for line in log) == 1


async def test_a_failure_says_why_in_uvs_words_and_leaves_nothing_to_be_mistaken_for_an_environment(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    log = _Log()
    with pytest.raises(PreparationFailed) as failed:
        await environments.build(tmp_path, ("no-such-package==9",), None, log.line, environment=settings)
    assert "no-such-package" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 20
    assert set(str(failed.value).splitlines()) <= set(log)
    assert not list(tmp_path.glob("environments/*/rungraph-environment.json"))


async def test_an_unknown_interpreter_is_a_failure_that_says_so(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    settings |= {"UV_PYTHON_DOWNLOADS": "never"}
    with pytest.raises(PreparationFailed, match=r"3\.999"):
        await environments.build(tmp_path, (), "3.999", _Log().line, environment=settings)


async def test_a_version_of_python_may_be_asked_for(tmp_path: Path, settings: dict[str, str]) -> None:
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    settings |= {"PATH": str(Path(sys.base_prefix) / "bin")}
    folder = await environments.build(tmp_path, (), wanted, _Log().line, environment=settings)
    assert _runs(folder, "import sys; print(*sys.version_info[:2], sep='.')") == f"{wanted}\n"


async def test_a_cancelled_build_kills_uv_and_is_made_anew(
    tmp_path: Path, settings: dict[str, str], slow: Path
) -> None:
    requirements = (f"slow @ {slow.as_uri()}",)
    build = asyncio.create_task(
        environments.build(tmp_path, requirements, None, _Log().line, environment=settings)
    )
    await _until((slow / "started").exists)
    assert _is_building(tmp_path)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await _until(lambda: not _is_building(tmp_path))
    (left,) = (path for path in tmp_path.glob("environments/*") if path.is_dir())
    (left / "stale").touch()
    (slow / "go").touch()
    folder = await environments.build(tmp_path, requirements, None, _Log().line, environment=settings)
    assert folder == left
    assert not (folder / "stale").exists()
    assert _runs(folder, "import slow; print(slow.answer)") == "42\n"


@pytest.fixture
async def killed_builder(
    tmp_path: Path, settings: dict[str, str], slow: Path
) -> AsyncIterator[tuple[str, ...]]:
    """A process that was killed in the middle of a build, and left uv at work; gives the requirements."""
    requirements = (f"slow @ {slow.as_uri()}",)
    code = f"""
import asyncio, json, pathlib
from backends import environments
async def log(line): pass
asyncio.run(environments.build(pathlib.Path({str(tmp_path)!r}), {requirements!r}, None, log,
                               environment=json.loads({json.dumps(settings)!r})))
"""
    builder = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[2])
    await _until((slow / "started").exists)
    builder.send_signal(signal.SIGKILL)
    await builder.wait()
    yield requirements
    (slow / "go").touch()


async def test_a_build_whose_process_was_killed_is_waited_for_and_made_anew(
    tmp_path: Path, settings: dict[str, str], slow: Path, killed_builder: tuple[str, ...]
) -> None:
    assert _is_building(tmp_path)
    log = _Log()
    build = asyncio.create_task(
        environments.build(tmp_path, killed_builder, None, log.line, environment=settings)
    )
    await _until(lambda: any("Waiting for another build" in line for line in log))
    (slow / "go").touch()
    assert _runs(await build, "import slow; print(slow.answer)") == "42\n"


def test_only_uvs_own_settings_reach_it(settings: dict[str, str]) -> None:
    assert environments._settings(settings | {"AWS_SECRET": "x", "PYTHONPATH": "/x", "https_proxy": "p"}) == (
        settings | {"https_proxy": "p", "NO_COLOR": "1"}
    )
