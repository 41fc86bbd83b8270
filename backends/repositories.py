"""Git repositories as a source of modules: one commit, fetched shallow, into a folder that is thrown away.

A repository is somebody else's work, and so is everything git could be told by it: no hooks, no templates,
no filters, no prompt, no configuration of this machine's, no transport but those named, and caps on time and
bytes. What is to be checked out is weighed before it is written. Logs show no credentials.
"""

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends import commands
from backends.sources import MAX_BYTES, MAX_FILES, SourceInvalid
from db.module_sources import SCHEMES, Source

Log = Callable[[str], Awaitable[None]]

SECONDS = 600.0
"""How long fetching may take, all in all."""
DOWNLOAD_BYTES = 2 << 30
"""What of a repository may be fetched, submodules included; the module in it may be less (sources.py)."""

_PASSED_ON = re.compile(rf"SSH_AUTH_SOCK|USER|LOGNAME|{commands.PASSED_ON}", re.IGNORECASE)
_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
)
_SECRET = re.compile(r"(?<=://)[^/\s]*@")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_WEIGH_SECONDS = 0.2
_PLACE_BYTES = 4 << 10
_MOST_LINES = 2_000
"""What is logged of one command: a server may talk for as long as it is listened to."""
_LONGEST_ANSWER = 16 << 20
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit at rest in a folder: which one, and what of it is not as its author has it."""

    commit: str
    folder: Path
    notes: tuple[str, ...] = ()


async def check_out(
    source: Source,
    into: Path,
    log: Log,
    *,
    seconds: float = SECONDS,
    most_bytes: int = DOWNLOAD_BYTES,
    environment: Mapping[str, str] | None = None,
) -> Checkout:
    """Fetch the commit that `source` means into the empty folder `into`. Raises SourceInvalid in words."""
    git = _Git(into, log, most_bytes, os.environ if environment is None else environment, source)
    shown = redacted(source.location)
    try:
        async with asyncio.timeout(seconds):
            commit = await _fetch(git, source)
            await log(f"{shown} at {source.ref or 'its head'} is commit {commit}")
            await _write_out(git, source, commit)
    except TimeoutError as error:
        raise SourceInvalid(f"{shown} was not fetched within {seconds:g} s, and was given up") from error
    folder = into / source.folder if source.folder else into
    pointers = await asyncio.to_thread(_pointers, folder)
    return Checkout(commit, folder, tuple(_told(pointers)))


def redacted(text: str) -> str:
    """Text without what stands between :// and @."""
    return _SECRET.sub("", text)


async def _fetch(git: "_Git", source: Source) -> str:
    """The commit meant, fetched without its history; a short hash costs the history, as nobody serves it."""
    await git.run("init", "--quiet", "--template=", ".")
    await git.run("config", "remote.origin.url", source.location)
    ref = source.ref or "HEAD"
    fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
    try:
        await git.run(*fetch, "--depth=1", "--", "origin", ref)
        return await git.answer("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}")
    except _Failed as error:
        if not _COMMIT.fullmatch(ref):
            raise SourceInvalid(_reason(source, error)) from error
    try:
        await git.run(
            *fetch, "--", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
        )
        return await git.answer("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    except _Failed as error:
        raise SourceInvalid(_reason(source, error)) from error


async def _write_out(git: "_Git", source: Source, commit: str) -> None:
    part = source.folder
    try:
        # A tree may name one below it many times over, so that a few kilobytes are a billion files.
        listed = await git.answer("ls-tree", "-r", "-l", "-z", f"{commit}:{part}" if part else commit)
    except _Failed as error:
        raise SourceInvalid(f"commit {commit[:12]} has no folder {part!r}") from error
    except _Long as error:
        raise _too_many() from error
    _weigh(listed)
    try:
        if not source.submodules:
            await git.run("checkout", "--quiet", commit, "--", part or ".")
            return
        await git.run("checkout", "--quiet", "--detach", commit)
        await git.run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    except _Failed as error:
        raise SourceInvalid(_reason(source, error)) from error


def _weigh(listed: str) -> None:
    """Refuse, before it is written, what no module may be."""
    sizes = [entry.split(None, 4)[3] for entry in listed.split("\0") if entry]
    if not sizes:
        raise SourceInvalid("there are no files at this place of the repository")
    if len(sizes) > MAX_FILES:
        raise _too_many()
    if sum(int(size) for size in sizes if size.isdigit()) > MAX_BYTES:
        raise SourceInvalid(f"it is larger than {MAX_BYTES >> 20} MiB, the most a module may be")


def _too_many() -> SourceInvalid:
    return SourceInvalid(f"it holds more than {MAX_FILES} files, the most a module may have")


class _Long(Exception):
    """git says more than anything that is asked here can be."""


class _Failed(Exception):
    """git ended with another code than 0; the message is what it said."""


class _Git:
    """git in one folder, with nothing of this machine's settings and a watch on what it writes."""

    def __init__(
        self, folder: Path, log: Log, most_bytes: int, environment: Mapping[str, str], source: Source
    ) -> None:
        self._folder = folder
        self._log = log
        self._most_bytes = most_bytes
        # A submodule may not lead from the network into this machine's files.
        schemes = SCHEMES if source.location.startswith("file:") else SCHEMES[:2]
        self._environment = {
            **{name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)},
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
            "GIT_ALLOW_PROTOCOL": ":".join(schemes),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
            "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
            **{f"GIT_CONFIG_KEY_{i}": key for i, (key, _) in enumerate(_SETTINGS)},
            **{f"GIT_CONFIG_VALUE_{i}": value for i, (_, value) in enumerate(_SETTINGS)},
        }

    async def run(self, *arguments: str) -> None:
        """Run it, and log what it says."""
        said: deque[str] = deque(maxlen=10)
        left = _MOST_LINES
        async with self._started(arguments, asyncio.subprocess.STDOUT) as process:
            async for line in commands.lines(process):
                if line:
                    said.append(redacted(line))
                    left -= 1
                    if left >= 0:
                        await self._log(said[-1] if left else "git says more, which is not kept")
            code = await process.wait()
        if code != 0:
            raise _Failed("\n".join(said) or f"git {arguments[0]} ended with exit code {code}")

    async def answer(self, *arguments: str) -> str:
        """Run it for what it prints."""
        async with self._started(arguments, asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            printed, complaint = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
            await process.wait()
        if process.returncode != 0:
            raise _Failed(redacted(complaint.decode(errors="replace")).strip())
        return printed.decode(errors="replace").strip()

    @contextlib.asynccontextmanager
    async def _started(
        self, arguments: tuple[str, ...], errors: int
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        try:
            process = await asyncio.create_subprocess_exec(
                *("git", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceInvalid("git, which fetches repositories, is not installed on the server") from error
        heavy = asyncio.Event()
        watch = asyncio.create_task(self._watch(process, heavy))
        try:
            yield process
        finally:
            watch.cancel()
            await commands.end(process)
        if heavy.is_set() or await self._is_heavy():
            raise SourceInvalid(f"fetching was stopped: it is larger than {self._most_bytes >> 20} MiB")

    async def _watch(self, process: asyncio.subprocess.Process, heavy: asyncio.Event) -> None:
        """Kill it once it has written too much."""
        while not await self._is_heavy():  # noqa: ASYNC110
            # What is waited for happens on disk.
            await asyncio.sleep(_WEIGH_SECONDS)
        heavy.set()
        commands.kill(process)

    async def _is_heavy(self) -> bool:
        return await asyncio.to_thread(_weight, self._folder) > self._most_bytes


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """All of it, if it ends in time."""
    found = bytearray()
    while chunk := await stream.read(1 << 16):
        found += chunk
        if len(found) > _LONGEST_ANSWER:
            raise _Long
    return bytes(found)


def _weight(folder: Path) -> int:
    """Bytes on disk, an empty file's place included; what comes and goes meanwhile does not matter."""
    total = 0
    for path, folders, names in os.walk(folder):
        total += _PLACE_BYTES * (len(folders) + len(names))
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(path, name).lstat().st_size
    return total


def _pointers(folder: Path) -> list[str]:
    """Files whose content git-lfs has, and we have not."""
    found = []
    for path in folder.rglob("*"):
        if ".git" in path.relative_to(folder).parts or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size < 1_024 and path.read_bytes().startswith(_POINTER):
            found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def _told(pointers: list[str]) -> list[str]:
    if not pointers:
        return []
    some = ", ".join(pointers[:5]) + (", …" if len(pointers) > 5 else "")
    return [f"git-lfs keeps the content of {len(pointers)} files elsewhere; they are pointers here: {some}"]


def _reason(source: Source, error: _Failed) -> str:
    said = [line for line in str(error).splitlines() if line.startswith(("fatal:", "error:", "ERROR:"))]
    words = "; ".join(line.partition(": ")[2] for line in said) or str(error)
    at = f" at {source.ref}" if source.ref else ""
    return f"{redacted(source.location)}{at} cannot be fetched: {words}"
