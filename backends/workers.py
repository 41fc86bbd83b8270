"""The user's processes of one attempt: what a command means, what tells ranks apart, where output goes.

Runs inside the watcher: standard library alone. `watcher.py` decides when these are started and ended.
"""
# ruff: noqa: PTH112, PTH113, PTH110, PTH118, PTH123

import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from backends import attempts

STDOUT, STDERR, USAGE = 1, 2, 3
PIPE_BYTES = 1 << 20  # so that who prints much need not wait for us between two lines
CATCHABLE = [each for each in signal.valid_signals() if each not in (signal.SIGKILL, signal.SIGSTOP)]


class Unlaunchable(Exception):
    """The command cannot be run here; says what was looked for and where."""


class Worker:
    """One process of the user's, by rank, with the file that holds what it and its children print."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.pid = 0
        self.code: int | None = None
        self.frames = os.open(f"{rank}.frames", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def write(self, stream: int, data: bytes, at_us: int, flags: int = 0) -> None:
        """Add a frame to what the server reads."""
        frame = attempts.FRAME.pack(stream, flags, len(data), at_us) + data
        if os.write(self.frames, frame) != len(frame):
            raise OSError("no space left for what the job prints")

    def spawn(
        self,
        command: list[str],
        source: str,
        variables: Mapping[str, str],
        enter: Callable[[], None] | None = None,
    ) -> "list[Pipe]":
        """Start the process in `source`, in a group of its own; the pipes it prints to.

        With something to `enter` first, a control group say, it is forked, which takes a little longer.
        """
        path = find_command(command[0], source, variables.get("PATH", ""))
        pipes = [Pipe(self, stream) for stream in (STDOUT, STDERR)]
        if enter is not None:
            try:
                self.pid = _fork(path, command, source, variables, [pipe.theirs for pipe in pipes], enter)
            finally:
                for pipe in pipes:
                    os.close(pipe.theirs)
            return pipes
        here = os.open(".", os.O_RDONLY)
        os.chdir(source)  # posix_spawn knows no working folder; we have one thread
        try:
            self.pid = os.posix_spawn(
                path,
                command,
                variables,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *((os.POSIX_SPAWN_DUP2, pipe.theirs, pipe.stream) for pipe in pipes),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=CATCHABLE,  # else SIGPIPE and SIGXFSZ stay ignored, as in Python
            )
        except (OSError, ValueError) as error:
            raise Unlaunchable(f"{path} could not be started: {error}") from error
        finally:
            os.fchdir(here)
            for descriptor in (here, *(pipe.theirs for pipe in pipes)):
                os.close(descriptor)
        return pipes


class Pipe:
    """The reading end of one stream of a worker."""

    def __init__(self, worker: Worker, stream: int) -> None:
        self.worker = worker
        self.stream = stream
        self.end, self.theirs = os.pipe()
        with contextlib.suppress(OSError):  # there is a bound for all pipes of a user together
            fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lines = attempts.Lines()

    @property
    def file(self) -> int:
        """Where what it brings is written."""
        return self.worker.frames

    def read(self) -> int:
        """Move what is there into the worker's file; how many bytes, 0 at the end of the stream."""
        data = os.read(self.end, attempts.HELD_BYTES)
        if not data:
            self.finish()
            return 0
        self._write(self._lines.feed(data))
        return len(data)

    def finish(self) -> None:
        self._write(self._lines.finish())

    def _write(self, pieces: Iterable[tuple[bytes, bool]]) -> None:
        at_us = attempts.now_us()
        for data, continued in pieces:
            self.worker.write(self.stream, data, at_us, attempts.CONTINUED if continued else 0)


def _fork(
    path: str,
    command: list[str],
    source: str,
    variables: Mapping[str, str],
    streams: Sequence[int],
    enter: Callable[[], None],
) -> int:
    """What posix_spawn does, with a step in between. We have one thread, so a fork is safe."""
    told, telling = os.pipe()  # closed by a successful exec, as Python opens everything so
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for each in CATCHABLE:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            enter()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for theirs, stream in zip(streams, (STDOUT, STDERR), strict=True):
                os.dup2(theirs, stream)
            os.chdir(source)
            os.execve(path, command, variables)
        except BaseException as error:  # noqa: BLE001
            os.write(telling, str(error).encode()[:1000])
        os._exit(127)
    os.close(telling)
    refusal = os.read(told, 1000)
    os.close(told)
    if refusal:
        os.waitpid(pid, 0)
        raise Unlaunchable(f"{path} could not be started: {refusal.decode(errors='replace')}")
    return pid


def give_way(nice: int) -> bool:
    """Have our session as nice as its processes, where the kernel shares cores between sessions; False to repeat.

    It takes one such change a tenth of a second from all who are not root.
    """
    try:
        with open("/proc/self/autogroup", "wb", buffering=0) as group:
            group.write(b"%d" % nice)
    except BlockingIOError:
        return False
    except OSError:  # it does not, or we may not
        return True
    return True


def find_command(command: str, source: str, path: str) -> str:
    """The file a command means to a shell standing in `source`, or raise Unlaunchable."""
    if not os.path.isdir(source):
        raise Unlaunchable(f"the working folder {source} does not exist")
    if "/" in command:
        candidates = [os.path.join(source, command)]
    else:
        candidates = [os.path.join(source, folder, command) for folder in path.split(":") if folder]
    for candidate in candidates:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    there = [candidate for candidate in candidates if os.path.exists(candidate)]
    if there:
        raise Unlaunchable(f"{there[0]} is not an executable file")
    where = candidates[0] if "/" in command else f"{command} in {path or 'an empty PATH'}"
    raise Unlaunchable(f"there is no command {where}")


def rank_variables(workers: int) -> list[dict[str, str]]:
    """What tells the workers of one attempt apart, in the names that torchrun gives it; nothing for one."""
    if workers == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RUNGRAPH_HOSTS": ",".join(["127.0.0.1"] * workers),
    }
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(workers)]


def describe(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
