"""The process that stands by one attempt on this machine, and the zygote that forks it. Linux only.

The server starts the zygote with the base interpreter and next to no imports; it ends with its server, and
until then forks a watcher a job, which takes 1 ms where an interpreter takes 7. A watcher outlives the
server: it claims the attempt's folder, spawns the workers, frames what they print, obeys the stop file, ends
every descendant and writes durably how it ended. `zygote.py` is the server's end of the socket.
"""
# ruff: noqa: PTH110, PTH112, PTH118, PTH119, PTH123, PTH208

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import time

from backends import attempts, backlog, bounds, usage, workers

HINTS = f"../../{attempts.HINTS}"  # seen from an attempt's folder: a socket's address holds 108 bytes
HINT_SECONDS = 0.005  # between two hints of one attempt
BURST_HINT_SECONDS = 0.02  # the same in a burst, which is stored no more often
BURST_SECONDS = 0.004  # reads that follow one another faster than this, so many times, are a burst
GATHER_SECONDS = 0.004  # how long lines of a burst are let come together
BURST_READS = 8
TICK_SECONDS = 1.0  # how often the stop file is looked for without a signal
GRACE_SECONDS = 10.0  # what workers are given when another failed, or the host is shut down
KILL_SECONDS = 0.01  # between two rounds of killing, or of stopping what is suspended
EXPENDABLE = b"500"  # when memory runs out, the kernel ends a job before it ends the server
NEVER = float("inf")
PR_SET_CHILD_SUBREAPER = 36
BOOT = attempts.boot_id()
LIBC = ctypes.CDLL(None, use_errno=True)


def main(jobs: str, descriptor: int, nice: int) -> None:
    """The zygote: fork a watcher for every request on the socket, until the server closes its end."""
    os.nice(nice)  # of all that is forked here, too; where no core is short, it has all of them
    for other in os.listdir("/proc/self/fd"):  # a listening socket of the server's would outlive it in us
        if int(other) > descriptor:
            with contextlib.suppress(OSError):
                os.close(int(other))
    server = socket.socket(fileno=descriptor)
    server.set_inheritable(False)
    os.chdir(jobs)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(EXPENDABLE)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forked watchers need no waiting for
    gc.collect()
    gc.freeze()
    while request := server.recv(4096):
        number, _, name = request.decode().partition(" ")
        try:
            child = os.fork()
        except OSError as error:
            reply(server, int(number), {"error": f"no process could be forked: {error.strerror}"})
            continue
        if child == 0:
            try:
                watch(os.path.join(jobs, name), int(number), server, nice)
            finally:
                os._exit(0)


def reply(server: socket.socket, number: int, answer: attempts.Record) -> None:
    with contextlib.suppress(OSError):  # the server may be gone; what was asked for is done all the same
        server.send(json.dumps({"number": number, **answer}).encode())


def watch(folder: str, number: int, server: socket.socket, nice: int) -> None:
    """The life of a watcher."""
    os.setsid()
    yields = not nice or workers.give_way(nice)  # at once: most of a short job is its start
    gc.disable()
    for each in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(each, lambda *_: None)  # they only wake the poll
    try:
        os.chdir(folder)
        descriptor, record = claim()
    except OSError as error:
        return reply(server, number, {"error": f"{folder} could not be claimed: {error}"})
    reply(server, number, record)
    server.close()
    if descriptor is not None:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        attempts.write_record(attempts.EXIT, attend(folder, 0 if yields else nice), durable=True)
    return None


def claim() -> tuple[int | None, attempts.Record]:
    """Lock the folder we are in for as long as we live, and who has it: we, if there is a descriptor.

    A folder without a lock but with a claim was ours to run once: its watcher died, so nobody runs it again.
    """
    descriptor = os.open(".", os.O_RDONLY)
    while True:
        locked = attempts.lock(descriptor)
        if (record := attempts.read_claim(".")) is not None:
            os.close(descriptor)
            return None, record
        if locked:
            break
        time.sleep(0.001)  # who has the lock is about to write
    us = attempts.process(os.getpid())
    assert us is not None
    record = {"pid": us.pid, "start": us.start, "boot": BOOT}
    attempts.write_record(attempts.CLAIM, record)
    return descriptor, record


def attend(folder: str, nice: int) -> attempts.Record:
    """Run the attempt in `folder` to its end and say how it ended. Whatever happens, nothing is left.

    Its session is still to be made so `nice`; it is already where that is 0.
    """
    if attempts.read_record(attempts.STOP) is not None:
        return attempts.end_record("EXIT_CODE", None, {}, "stopped before it started")
    attempt = None
    try:
        attempt = Attempt(folder, nice)
        attempt.start()
        attempt.run()
        attempt.sync()
        outcome = attempt.result()
    except workers.Unlaunchable as error:
        outcome = attempts.end_record("LAUNCH_REJECTED", None, {}, str(error))
    except Exception as error:  # noqa: BLE001
        outcome = attempts.end_record("LOST", None, {}, f"its watcher failed: {error!r}")
    end_descendants()
    if attempt is not None:
        attempt.bounds.remove()
    return outcome


def end_descendants() -> None:
    """Kill until nothing is left: a subreaper without children has no descendants."""
    with contextlib.suppress(ChildProcessError):
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            attempts.kill(attempts.descendants([os.getpid()], attempts.processes()))
            time.sleep(KILL_SECONDS)


class Hints:
    """Tells the server that there is news of this attempt. A lost hint costs a second, never data."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._earliest = 0.0
        self.waiting = False

    @property
    def due(self) -> float:
        return self._earliest if self.waiting else NEVER

    def send(self, *, burst: bool = False) -> None:
        """Send what waits, when it is due."""
        if time.monotonic() < self.due:
            return
        self._earliest = time.monotonic() + (BURST_HINT_SECONDS if burst else HINT_SECONDS)
        try:
            self._socket.sendto(self._name, HINTS)
        except BlockingIOError:  # the queue of a datagram socket holds 10 by default
            return
        except OSError:  # no server just now
            pass
        self.waiting = False


class Attempt:
    """One attempt while it runs: its workers, their pipes, and until when to be patient with them."""

    def __init__(self, folder: str, nice: int) -> None:
        self.folder = folder
        spec = attempts.read_record(attempts.SPEC)
        assert spec is not None
        self.spec = spec
        self.bounds = bounds.Bounds(spec["limits"], os.path.basename(folder))
        self.workers: list[workers.Worker] = []
        self.pipes: dict[int, workers.Pipe] = {}
        self.poll = select.poll()
        self.hints = Hints(os.path.basename(folder))
        self.backlog = backlog.Backlog(self.poll, self.spec.get("backlog_bytes"))
        self.nice = nice
        self.yields = not nice
        self.usage = usage.Usage(**spec.get("usage", {}))
        self.burst = 0
        self.read_at = 0.0
        self.decisive: workers.Worker | None = None
        self.starved: int | None = None
        self.suspended = False
        self.still = False
        self.stopping = False
        self.kill_at = NEVER
        self.next_look = 0.0
        self.oom_kills = 0
        self.woken, waking = os.pipe()
        for end in (self.woken, waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        self.poll.register(self.woken, select.POLLIN)
        signal.signal(signal.SIGTERM, lambda *_: self.stop(GRACE_SECONDS))  # the host is being shut down

    def start(self) -> None:
        """Spawn all workers, or raise Unlaunchable."""
        spec = self.spec
        started = []
        for rank, variables in enumerate(workers.rank_variables(spec["workers"])):
            worker = workers.Worker(rank)
            self.workers.append(worker)
            names = spec["environment"] | variables | {attempts.MARK: self.folder}
            enter = self.bounds.enter(rank)
            for pipe in worker.spawn(spec["command"], spec["source"], names, enter):
                self.pipes[pipe.end] = pipe
                self.poll.register(pipe.end, select.POLLIN)
            born = attempts.process(worker.pid)
            assert born is not None  # ours, and not yet waited for
            at_us = attempts.now_us()
            started.append({"rank": rank, "pid": born.pid, "start": born.start, "at_us": at_us})
        attempts.write_record(attempts.STARTED, {"node": os.uname().nodename, "workers": started})
        self.usage.begin(self._running())
        self.hints.waiting = True
        self.hints.send()
        self.oom_kills = attempts.oom_kills()

    def run(self) -> None:
        """Until no descendant is left: a subreaper without children has none."""
        while self._reap():
            if time.monotonic() >= self.kill_at:
                attempts.kill(attempts.descendants([os.getpid()], attempts.processes()))
            self._read(self._patience())
            self._look()
            self._keep()
            self._measure()
            self.hints.send(burst=self.burst > BURST_READS)
        for end in list(self.pipes):
            self._drain(end)

    def _reap(self) -> bool:
        """Take note of every child that ended; False when there is none left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            for worker in self.workers:
                if worker.pid == pid and worker.code is None:  # the number may come again
                    worker.code = os.waitstatus_to_exitcode(status)
                    self._worker_ended(worker)

    def _worker_ended(self, worker: workers.Worker) -> None:
        if worker.code != 0:
            self.decisive = self.decisive or worker
            self._keep(at_once=True)
        if self.stopping:
            return
        if all(each.code is not None for each in self.workers):
            self.kill_at = 0.0
        elif worker.code != 0:
            self.stop(GRACE_SECONDS)

    def _patience(self) -> float:
        now = time.monotonic()
        if now >= self.kill_at:
            return KILL_SECONDS  # what was forked while we looked is killed in the next round
        if self.suspended and not self.still:
            return KILL_SECONDS
        tick = backlog.LOOK_SECONDS if self.backlog.waits else TICK_SECONDS
        return max(
            0.0,
            min(tick, self.kill_at - now, self.hints.due - now, self.bounds.patience, self.usage.patience),
        )

    def _read(self, seconds: float) -> None:
        largest = 0
        for end, _ in self.poll.poll(seconds * 1000):
            if end == self.woken:
                os.read(end, 4096)
                self.next_look = 0.0
                continue
            pipe = self.pipes[end]
            if size := pipe.read():
                largest = max(largest, size)
                self.backlog.check(pipe)
            else:
                self._close(end)
        self.backlog.look()
        if largest:
            self.hints.waiting = True
            self._gather(largest)

    def _gather(self, size: int) -> None:
        """Let some lines of a burst come together: a frame of many costs what a frame of one does."""
        now = time.monotonic()
        self.burst = self.burst + 1 if now - self.read_at < BURST_SECONDS else 0
        if self.burst > BURST_READS and size < attempts.HELD_BYTES:
            time.sleep(GATHER_SECONDS)
        self.read_at = time.monotonic()

    def _drain(self, end: int) -> None:
        """Read what lies in a pipe that somebody who is no descendant may still hold open."""
        os.set_blocking(end, False)
        pipe = self.pipes[end]
        with contextlib.suppress(BlockingIOError):
            while pipe.read():
                pass
            self._close(end)
            return
        pipe.finish()

    def _close(self, end: int) -> None:
        self.backlog.close(end)
        del self.pipes[end]
        os.close(end)

    def _look(self) -> None:
        """Obey the stop file; end all when the folder has been taken away."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + TICK_SECONDS
        self.yields = self.yields or workers.give_way(self.nice)
        if (stop := attempts.read_record(os.path.join(self.folder, attempts.STOP))) is not None:
            self.stop(stop["grace_seconds"])
        elif not os.path.isdir(self.folder):
            self.stop(0.0)
        elif os.path.exists(os.path.join(self.folder, attempts.SUSPEND)) and not self.stopping:
            self.suspended = True
            self.still = False  # looked at again now and then: others may let it go on
        elif self.suspended:
            self._resume()

    def _keep(self, *, at_once: bool = False) -> None:
        """Keep a suspended attempt still, and end one that wants more memory than it asked for."""
        if self.suspended and not self.still:
            self.still = self.bounds.freeze()
        if self.starved is None and not self.stopping:
            self.starved = self.bounds.starved(self._running(), at_once=at_once)
            if self.starved is not None:
                self.stop(0.0)

    def _measure(self) -> None:
        """Write down what the workers use, now and then; not of those that stand still."""
        if self.suspended:
            return
        for rank, line in self.usage.look(self._running()):
            self.workers[rank].write(workers.USAGE, line, attempts.now_us())
            self.hints.waiting = True

    def _running(self) -> dict[int, int]:
        """The processes of the workers that have not ended, by rank."""
        return {worker.rank: worker.pid for worker in self.workers if worker.code is None}

    def _resume(self) -> None:
        self.suspended = False
        self.bounds.thaw()

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM to the workers' groups the first time; the shortest grace asked for counts."""
        if not self.stopping:
            self.stopping = True
            for worker in self.workers:
                if worker.code is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(worker.pid, signal.SIGTERM)
            if self.suspended:
                self._resume()  # it is to hear of its end
        self.kill_at = min(self.kill_at, time.monotonic() + grace_seconds)

    def sync(self) -> None:
        """What was printed outlives a power cut as the exit record does."""
        for worker in self.workers:
            os.fsync(worker.frames)

    def result(self) -> attempts.Record:
        codes = {worker.rank: worker.code for worker in self.workers if worker.code is not None}
        worker = self.decisive
        if worker is None or worker.code is None:
            return attempts.end_record("COMPLETED", 0, codes, None)
        if self.starved is not None:
            words = self._where(self.workers[self.starved]) + self.bounds.words(self.starved)
            code = self.workers[self.starved].code
            return attempts.end_record("OUT_OF_MEMORY", code, codes, words)
        starved = not self.stopping and worker.code in (-9, 137) and attempts.oom_kills() > self.oom_kills
        message = f"killed by signal {workers.describe(-worker.code)}" if worker.code < 0 else None
        if message is None and len(self.workers) > 1:
            message = f"exited with {worker.code}"
        reason = "OUT_OF_MEMORY" if starved else "EXIT_CODE"
        return attempts.end_record(reason, worker.code, codes, message and self._where(worker) + message)

    def _where(self, worker: workers.Worker) -> str:
        return f"rank {worker.rank}: " if len(self.workers) > 1 else ""
