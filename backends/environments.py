"""Virtual environments for modules that run on this host, one for each set of requirements.

uv makes them, in place, since scripts in an environment hold its path. The folder's name is a digest of what
it is made of, so equal requirements share one. A marker written last says that it is whole: a folder without
one is what a crash left, and is wiped. A lock that uv inherits lets one build at a time through, whichever
process wants it, even if that process dies and leaves uv behind. Where packages come from is uv's own
setting: its variables are passed on, and no others.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import uv

from backends import commands
from backends.base import PreparationFailed

Log = Callable[[str], Awaitable[None]]

_MARKER = "rungraph-environment.json"
_PASSED_ON = re.compile(rf"UV_\w+|PIP_INDEX\w*|{commands.PASSED_ON}", re.IGNORECASE)
_REASON = re.compile(r"\s*(error:|×|╰─▶)")
_POLL_SECONDS = 0.1


async def build(
    home: Path,
    requirements: tuple[str, ...],
    python: str | None,
    log: Log,
    *,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """The folder of an environment that holds the requirements; made now, or found whole.

    `python` is a version or a range, None for the interpreter that runs this. Every line that uv prints goes
    to `log` as it appears. `environment` is where uv's settings are taken from, this process's if None.
    Raises PreparationFailed with uv's own reason. Cancelling kills uv and all it started.
    """
    settings = _settings(os.environ if environment is None else environment)
    interpreter, version = await _interpreter(python, settings, log)
    folder = home / "environments" / _key(requirements, version)
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        async with _lock(folder.with_suffix(".lock"), log) as lock:
            if not _is_whole(folder):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                await _make(folder, requirements, interpreter, _Uv(settings, log, lock))
                _mark(folder, requirements, version)
    except OSError as error:
        raise PreparationFailed(f"the environment cannot be written: {error}") from error
    return folder


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    passed = {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}
    return passed | {"NO_COLOR": "1"}


async def _interpreter(python: str | None, settings: Mapping[str, str], log: Log) -> tuple[str, str]:
    """What to hand to uv as --python, and the exact version that it means. Installed when it is not there."""
    if python is None:
        return sys.executable, platform.python_version()
    quiet = _Uv(settings, _ignore)
    find = ("python", "find", "--system", "--no-project", "--show-version", python)
    with contextlib.suppress(PreparationFailed):
        return python, (await quiet.run(*find))[-1]
    await _Uv(settings, log).run("python", "install", python)
    return python, (await quiet.run(*find))[-1]


def _key(requirements: tuple[str, ...], version: str) -> str:
    made_of = [list(requirements), sys.implementation.name, version, sysconfig.get_platform()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _is_whole(folder: Path) -> bool:
    """Finished, and its interpreter is still there: the environment only links to it."""
    return (folder / _MARKER).is_file() and (folder / "bin" / "python").exists()


def _mark(folder: Path, requirements: tuple[str, ...], version: str) -> None:
    temporary = folder / f"{_MARKER}.new"
    with temporary.open("w") as file:
        json.dump({"python": version, "requirements": list(requirements)}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / _MARKER)


@contextlib.asynccontextmanager
async def _lock(path: Path, log: Log) -> AsyncIterator[int]:
    """One builder at a time, among tasks and processes. Asked for again and again rather than waited for in
    a thread, which no cancellation could call back."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    told = False
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    await log("Waiting for another build of the same environment")
                told = True
                await asyncio.sleep(_POLL_SECONDS)
        yield lock
    finally:
        os.close(lock)


async def _make(folder: Path, requirements: tuple[str, ...], interpreter: str, maker: "_Uv") -> None:
    await maker.run("venv", "--no-project", "--python", interpreter, str(folder))
    if requirements:
        arguments = ("pip", "install", "--python", str(folder / "bin" / "python"), "--requirements", "-")
        await maker.run(*arguments, given="\n".join(requirements))


class _Uv:
    """uv with its settings, where its lines go, and the lock it is to hold while it lives."""

    def __init__(self, settings: Mapping[str, str], log: Log, lock: int | None = None) -> None:
        self.settings = settings
        self.log = log
        self.locks = () if lock is None else (lock,)

    async def run(self, *arguments: str, given: str = "") -> list[str]:
        """Every line that it printed. It runs in /, lest it read the settings of a project around `home`."""
        lines: list[str] = []
        process = await asyncio.create_subprocess_exec(
            _binary(),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env=self.settings,
            start_new_session=True,
            pass_fds=self.locks,
        )
        try:
            await _give(process, given)
            async for line in commands.lines(process):
                lines.append(line)
                await self.log(line)
            code = await process.wait()
        finally:
            await commands.end(process)
        if code != 0:
            raise PreparationFailed(_reason(lines, code))
        return lines


def _binary() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise PreparationFailed("uv, which makes environments, is not installed") from error


async def _give(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(text.encode())
        await process.stdin.drain()
    process.stdin.close()


def _reason(lines: list[str], code: int) -> str:
    """What uv said from its first complaint on, else its last words."""
    said = [line for line in lines if line.strip()]
    first = next((index for index, line in enumerate(said) if _REASON.match(line)), max(len(said) - 5, 0))
    return "\n".join(said[first : first + 20]) or f"uv ended with exit code {code}"


async def _ignore(line: str) -> None:
    pass
