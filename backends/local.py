"""Jobs as processes of this machine. Linux only.

An attempt is a folder, and a watcher process that outlives the server:

    <home>/jobs/<name>/   spec.json, input/, output/; the watcher's records and one framed file a worker
    <home>/new/           folders being filled; one rename makes an attempt of them
    <home>/trash/         removed ones
    <home>/bin/           `python` for jobs without an environment of their own
    <home>/hints          the datagram socket on which watchers say that there is news

A name is launched once: its folder appears by a rename and is claimed under a lock, however often it is asked
for. `attempts.py` has the formats, `watcher.py` is the process, `zygote.py` starts it, `following.py` watches.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backends import attempts, backlog, base, cgroups, folders, frames, gpus, nvml, pacing
from backends.environments import build
from backends.following import Following
from backends.hand import Hand
from backends.zygote import INTERPRETER, Zygote

Log = Callable[[str], Awaitable[None]]
Build = Callable[[Path, tuple[str, ...], str | None, Log], Awaitable[Path]]

INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
)
"""What of the server's environment a job sees."""

NAME = re.compile(r"[a-z0-9-]{1,63}")
STALE_SECONDS = 3600.0
MAX_WORKERS = 64


class Local:
    """The backend of this machine, keeping everything below `home`, which belongs to one server.

    Not `grouped`, it makes no control groups also where it may. `library` knows the GPUs. Jobs are as `nice` to
    others as nice(1) has it. What workers use is looked at every `usage_seconds`; 0 never does.
    """

    def __init__(
        self,
        home: Path,
        *,
        inherit: tuple[str, ...] = INHERITED,
        prepare: Build = build,
        grouped: bool = True,
        library: str = gpus.LIBRARY,
        nice: int = 0,
        usage_seconds: float = 0.0,
    ) -> None:
        self._home = home.absolute()
        self._jobs = self._home / "jobs"
        self._build = prepare
        self._grouped = grouped
        self._library = library
        self._nice = nice
        self._usage_seconds = usage_seconds
        self._devices: tuple[base.Device, ...] = ()
        self._environment = {name: os.environ[name] for name in inherit if name in os.environ}
        self._path = _without_ours(self._environment.get("PATH", os.defpath))
        self._machine = ""
        self._boot = attempts.boot_id()
        self._zygote = Zygote(self._jobs, nice)
        self._hand = Hand()
        self._discarding: set[asyncio.Task[None]] = set()
        self._pace = pacing.starts()
        self._hints: socket.socket | None = None
        self._following: Following | None = None
        self._launched: dict[str, base.Handle] = {}
        self._frees = False
        self._tag = f"rungraph-{hashlib.sha256(os.fsencode(self._home)).hexdigest()[:8]}"
        self._places: dict[str, cgroups.Place] = {}

    @property
    def capabilities(self) -> base.Capabilities:
        return base.Capabilities(
            scope=base.Scope.HOST,
            needs_container=False,
            max_workers=MAX_WORKERS,
            suspends=True,
            memory=self._kept_by(cgroups.MEMORY) or "looked at five times a second",
            cpus=self._kept_by(cgroups.CPU) or "a set of whole cores",
            devices=self._devices,
        )

    async def open(self) -> None:
        try:
            for folder in ("jobs", "new", "trash", "bin"):
                (self._home / folder).mkdir(parents=True, exist_ok=True)
            self._machine = _machine_id(self._home)
            for name in ("python", "python3"):
                folders.link(INTERPRETER, self._home / "bin" / name)
            self._listen()
            self._frees = backlog.can_free(str(self._home))
        except OSError as error:
            raise base.BackendUnavailable(f"{self._home} cannot be used: {error}") from error
        self._places = cgroups.places(self._tag) if self._grouped else {}
        visible = self._environment.get("CUDA_VISIBLE_DEVICES")
        self._zygote.start()
        # In a thread, for a driver that sleeps takes its time to wake.
        self._devices = await asyncio.to_thread(nvml.devices, visible, library=self._library)
        await asyncio.to_thread(self._sweep)

    async def capacity(self) -> base.Capacity | None:
        return None

    async def prepare(self, spec: base.PrepareSpec, log: Log) -> str:
        if not spec.requirements:
            return ""
        return str(await self._build(self._home, spec.requirements, spec.python, log))

    async def discard(self, prepared: str) -> None:
        folder = Path(prepared)
        if not prepared or folder.parent != self._home / "environments":
            return
        trash = self._home / "trash" / f"{folder.name}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(trash)
            await asyncio.to_thread(folders.discard, trash)

    async def launch(self, spec: base.JobSpec) -> base.Handle:
        _check(spec)
        folder = self._jobs / spec.name
        claim = attempts.read_claim(str(folder))
        if claim is None:
            try:
                if not folder.is_dir():
                    await self._create(spec, folder)
            except OSError as error:
                raise base.BackendUnavailable(f"{folder} cannot be written: {error}") from error
            await self._pace.keep()
            claim = await self._zygote.ask(spec.name)
        handle = {"name": spec.name, "machine": self._machine, **claim}
        self._launched[spec.name] = handle
        if self._following is not None:
            self._following.add(handle)
        return handle

    async def watch(self, known: Sequence[base.Handle]) -> AsyncGenerator[base.Observation]:
        if self._following is not None:
            raise RuntimeError("this adapter is watched already")
        self._following = following = Following(self._jobs, self._machine)
        try:
            for handle in (*known, *self._launched.values()):
                following.add(handle)
            async for observation in following.observations():
                if isinstance(observation, base.Ended):
                    self._launched.pop(observation.name, None)
                yield observation
        finally:
            following.close()
            self._following = None

    async def read(
        self, handle: base.Handle, rank: int, offset: int, limit_bytes: int = 1 << 20
    ) -> base.Output:
        path = self._jobs / handle["name"] / f"{rank}.frames"
        try:
            if path.stat().st_size - offset > attempts.FRAME_BYTES_MAX:
                return await asyncio.to_thread(_read, path, offset, limit_bytes)
            return _read(path, offset, limit_bytes)
        except FileNotFoundError:
            return base.Output((), offset)

    async def stored(self, handle: base.Handle, rank: int, offset: int) -> None:
        path = self._jobs / handle["name"] / f"{rank}.frames"
        await asyncio.to_thread(backlog.free, str(path), offset)

    async def outputs(self, handle: base.Handle) -> Path:
        return self._jobs / str(handle["name"]) / "output"

    async def spool(self, handle: base.Handle) -> Path:
        return self._jobs / str(handle["name"]) / "spool"

    async def stop(self, handle: base.Handle, grace_seconds: float) -> None:
        folder = self._jobs / handle["name"]
        if handle["machine"] != self._machine or (folder / attempts.EXIT).exists():
            return
        try:
            attempts.write_record(str(folder / attempts.STOP), {"grace_seconds": grace_seconds})
            self._wake(handle)
        except FileNotFoundError:
            return  # removed, or about to be
        except OSError as error:
            raise base.BackendUnavailable(f"{folder} cannot be written: {error}") from error

    async def suspend(self, handle: base.Handle) -> None:
        folder = self._jobs / handle["name"]
        try:
            if handle["machine"] == self._machine and not (folder / attempts.EXIT).exists():
                attempts.write_record(str(folder / attempts.SUSPEND), {})
                self._wake(handle)
        except FileNotFoundError:
            return  # removed, or about to be
        except OSError as error:
            raise base.BackendUnavailable(f"{folder} cannot be written: {error}") from error

    async def resume(self, handle: base.Handle) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._jobs / handle["name"] / attempts.SUSPEND).unlink()
            self._wake(handle)

    async def remove(self, handle: base.Handle) -> None:
        self._launched.pop(handle["name"], None)
        trash = self._home / "trash" / f"{handle['name']}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            (self._jobs / handle["name"]).rename(trash)
            # The name is free, and nobody waits for more.
            task = asyncio.create_task(self._discard(trash))
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)

    async def held(self) -> Sequence[base.Handle]:
        return await asyncio.to_thread(self._held)

    async def close(self) -> None:
        if self._following is not None:
            self._following.close()
        if self._hints is not None:
            asyncio.get_running_loop().remove_reader(self._hints)
            self._hints.close()
            self._hints = None
        await self._zygote.close()
        if self._discarding:
            await asyncio.wait(self._discarding)
        await self._hand.close()

    async def _discard(self, trash: Path) -> None:
        try:
            await self._hand.do(folders.discard, trash)
        except ConnectionError:  # nothing but the next start would look there again
            await asyncio.to_thread(folders.discard, trash)

    def _held(self) -> list[base.Handle]:
        """Those too that nobody has claimed: what starts watchers may not have got round to it."""
        found = ((each.name, attempts.read_claim(str(each))) for each in self._jobs.iterdir())
        return [{"name": name, "machine": self._machine, **(claim or {})} for name, claim in found]

    def _wake(self, handle: base.Handle) -> None:
        """Have an attempt's watcher look at its folder now."""
        if handle["boot"] == self._boot:
            attempts.wake(handle["pid"], handle["start"])

    async def _create(self, spec: base.JobSpec, folder: Path) -> None:
        """Make the attempt's folder appear under its name, complete."""
        new = self._home / "new" / f"{spec.name}.{secrets.token_hex(4)}"
        record = {
            "command": spec.command,
            "source": str(spec.source.absolute()),
            "workers": spec.workers,
            "environment": self._variables(spec, folder),
            "limits": self._limits(spec.resources),
            "usage": {
                "seconds": self._usage_seconds,
                "devices": spec.devices,
                "library": self._library,
            },
            "backlog_bytes": backlog.MOST_BYTES if self._frees else None,
        }
        try:
            if spec.inputs:
                await asyncio.to_thread(folders.fill, new, record, spec)
            else:
                folders.fill(new, record, spec)
            new.rename(folder)
        except (OSError, base.LaunchRejected):
            folders.discard(new)  # on a full disk above all
            if not folder.is_dir():  # else another launch of this name was faster
                raise

    def _variables(self, spec: base.JobSpec, folder: Path) -> Mapping[str, str]:
        prepared = Path(spec.prepared) if spec.prepared else None
        return {
            **self._environment,
            "PATH": f"{(prepared or self._home) / 'bin'}:{self._path}",
            **({"VIRTUAL_ENV": str(prepared)} if prepared else {}),
            **({"PYTHONPATH": str(spec.client)} if spec.client else {}),
            "PYTHONUNBUFFERED": "1",
            "RUNGRAPH_INPUT": str(folder / "input"),
            "RUNGRAPH_OUTPUT": str(folder / "output"),
            "RUNGRAPH_SPOOL": str(folder / "spool"),
            **self._visible(spec.devices),
            **spec.environment,
        }

    def _limits(self, resources: base.Resources) -> Mapping[str, Any]:
        """What the watcher holds the workers to; nothing where nothing was asked for."""
        if resources.memory_bytes is None and resources.cpus is None:
            return {}
        return {
            "memory_bytes": resources.memory_bytes,
            "cpus": resources.cpus,
            "nice": self._nice,
            "places": self._places,
            "tag": self._tag,
        }

    def _kept_by(self, what: str) -> str | None:
        place = self._places.get(what)
        return place and f"control groups, version {place[1]}"

    def _visible(self, devices: Sequence[Sequence[int]]) -> Mapping[str, str]:
        """As torchrun has it: every worker sees the GPUs of all, by rank; who asked for none sees none."""
        if not devices and not self._devices:
            return {}
        indices = ",".join(str(index) for own in devices for index in own)
        return {"CUDA_VISIBLE_DEVICES": indices, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def _listen(self) -> None:
        """Take the hints over from whoever had them; an address through /proc is never too long."""
        hints = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        home = os.open(self._home, os.O_RDONLY)
        own = f"{attempts.HINTS}.{secrets.token_hex(4)}"
        try:
            hints.bind(f"/proc/self/fd/{home}/{own}")
        finally:
            os.close(home)
        (self._home / own).rename(self._home / attempts.HINTS)
        asyncio.get_running_loop().add_reader(hints, self._hear, hints)
        self._hints = hints

    def _hear(self, hints: socket.socket) -> None:
        names: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while len(names) < 100:
                names.add(hints.recv(128).decode(errors="replace"))
        for name in names:
            if self._following is not None:
                self._following.hint(name)

    def _sweep(self) -> None:
        """Free what a crash left half made or half removed."""
        for each in (self._home / "trash").iterdir():
            folders.discard(each)
        for each in (self._home / "new").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - each.stat().st_mtime > STALE_SECONDS:  # else it may be being made
                    folders.discard(each)
        cgroups.sweep(self._tag, self._places, self._lives)

    def _lives(self, name: str) -> bool:
        folder = self._jobs / name
        return folder.is_dir() and not (folder / attempts.EXIT).exists()


def _check(spec: base.JobSpec) -> None:
    base.check(spec, NAME, "a folder", MAX_WORKERS)
    if not spec.command:
        raise base.LaunchRejected("the command is empty")


def _read(path: Path, offset: int, limit: int) -> base.Output:
    """At most a little more than the limit, so that one piece always fits; from memory, mostly."""
    file = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(file, max(limit, attempts.FRAME_BYTES_MAX), offset)
    finally:
        os.close(file)
    return frames.parse(data, offset, limit)


def _without_ours(path: str) -> str:
    """PATH without the bin folder of the virtual environment that the server runs in."""
    ours = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else ""
    return ":".join(folder for folder in path.split(":") if folder and folder != ours)


def _machine_id(home: Path) -> str:
    """This machine's id; where it has none, as in many images, one that lies beside what it names."""
    with contextlib.suppress(FileNotFoundError):
        if found := Path("/etc/machine-id").read_text().strip():
            return found
    return folders.keep(home / "machine-id", secrets.token_hex(16))
