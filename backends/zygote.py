"""The server's end of the zygote: start it, ask it for a watcher, start it again when it died.

Every adapter has a zygote of its own on a socket pair: it runs the code this server runs, ends with it, and
leaves nothing to find, lock or clean up. A request may be sent while it still starts, so launching without
one costs its start (about 25 ms) and needs no second way.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from pathlib import Path

from backends import attempts
from backends.base import BackendUnavailable

INTERPRETER = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
"""The venv's own starts in 26 ms where this one takes 6."""

ANSWER_SECONDS = 30.0
DESCRIPTOR = 3
PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from backends import watcher; "
    "watcher.main(sys.argv[2], 3, int(sys.argv[3]))"
)
ROOT = Path(__file__).resolve().parent.parent


class Zygote:
    """Asks a process of next to no size to fork watchers for the attempts in one folder, as `nice` as they are."""

    def __init__(self, jobs: Path, nice: int = 0) -> None:
        self._jobs = jobs
        self._nice = nice
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[attempts.Record]] = {}
        self._sending = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._children: dict[int, int] = {}
        """Zygotes to wait for, by pidfd: the one that serves, and any that are dying."""

    def start(self) -> None:
        """Start the process unless it runs. Does not wait for it."""
        if self._socket is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            pid = self._spawn(theirs.fileno())
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._socket = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._receive, ours)
        loop.add_reader(pidfd, self._reap, pidfd)

    def _spawn(self, descriptor: int) -> int:
        # A socket of number 3 to 3 is meant to work: posix_spawn then clears close-on-exec.
        given = (str(ROOT), str(self._jobs), str(self._nice))
        command = [str(INTERPRETER), "-S", "-E", "-I", "-c", PROGRAM, *given]
        try:
            return os.posix_spawn(
                INTERPRETER,
                command,
                {"LC_CTYPE": "C.UTF-8"},
                file_actions=[
                    *((os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (0, 1, 2)),
                    (os.POSIX_SPAWN_DUP2, descriptor, DESCRIPTOR),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
            )
        except OSError as error:
            raise BackendUnavailable(f"no process could be started: {error}") from error

    async def ask(self, name: str) -> attempts.Record:
        """Have the attempt's folder claimed by a watcher; the claim, whoever holds it."""
        for _ in range(2):
            self.start()
            with contextlib.suppress(ConnectionError):  # it died just now, maybe after the fork: ask again
                return await self._ask(name)
        raise BackendUnavailable("the process that starts watchers dies as soon as it is asked")

    async def _ask(self, name: str) -> attempts.Record:
        number = next(self._numbers)
        answered = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(f"{number} {name}".encode())
                answer: attempts.Record = await answered
        except TimeoutError as error:
            raise BackendUnavailable("the process that starts watchers does not answer") from error
        finally:
            del self._asked[number]
        if "error" in answer:
            raise BackendUnavailable(answer["error"])
        return answer

    async def _send(self, message: bytes) -> None:
        async with self._sending:
            if (ours := self._socket) is None:
                raise ConnectionResetError
            try:
                await asyncio.get_running_loop().sock_sendall(ours, message)
            except ConnectionError:
                self._let_go(ours)
                raise

    def _receive(self, ours: socket.socket) -> None:
        try:
            while message := ours.recv(4096):
                answer = json.loads(message)
                answered = self._asked.get(answer.pop("number"))
                if answered is not None and not answered.done():
                    answered.set_result(answer)
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self._let_go(ours)

    def _let_go(self, ours: socket.socket) -> None:
        """Close our end, by which a zygote that still lives ends; who waits for it is told."""
        if self._socket is not ours:
            return
        self._socket = None
        loop = asyncio.get_running_loop()
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        ours.close()
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(ConnectionResetError())

    def _reap(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.waitpid(self._children.pop(pidfd), 0)
        os.close(pidfd)

    async def close(self) -> None:
        """End the process by closing its socket; what it forked goes on."""
        if self._socket is not None:
            self._let_go(self._socket)
        loop = asyncio.get_running_loop()
        while self._children:
            pidfd, pid = self._children.popitem()
            loop.remove_reader(pidfd)
            await asyncio.to_thread(os.waitpid, pid, 0)
            os.close(pidfd)
