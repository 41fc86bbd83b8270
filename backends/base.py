"""The contract every backend keeps: what the supervisor may ask, and what an adapter promises.

A backend turns a `JobSpec` into running processes and says what becomes of them. It never touches the
database: the supervisor records what it observes. Native names derive from job and attempt, so launching
twice is harmless, and a crash between launch and record is healed by launching again, which adopts.
The adapters stand beside this file; `registry.py` names them; one contract suite in tests runs over all.
"""

import enum
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Handle = Mapping[str, Any]
"""What an adapter needs to find a launched attempt again after a restart: small, JSON, opaque to others."""


class BackendUnavailable(Exception):
    """The backend cannot be reached just now; nothing is known to have happened; ask again later."""

    def __init__(self, message: str, *, retry_in_seconds: float = 5.0) -> None:
        super().__init__(message)
        self.retry_in_seconds = retry_in_seconds


class Crowded(BackendUnavailable):
    """The backend answers, and has no room for this launch just now: nothing of it is left there; ask again later.

    The message says who has no room, in the backend's words (a quota's).
    """


class LaunchRejected(Exception):
    """The backend will never run this spec as it stands; `reason` says why, in words for its author.

    `end` is what the attempt's end is called: LAUNCH_REJECTED, or something more exact.
    """

    def __init__(self, reason: str, end: "EndReason | None" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.end = end or EndReason.LAUNCH_REJECTED


class BadOptions(Exception):
    """A configured option cannot be meant; the message says the rule, `option` which one it is about."""

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class PreparationFailed(Exception):
    """A module version cannot be made ready on this backend; the message says why, its log says the rest."""


class Scope(enum.Enum):
    """Who may adopt what runs on a backend: any replica, or only one on the same host."""

    HOST = "HOST"
    CLUSTER = "CLUSTER"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, by the number jobs are given it under."""

    index: int
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all workers together may have, as far as a backend can tell; None leaves it to the configuration."""

    slots: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, so that the rest of the system need not ask its kind; known once it is open.

    `scope` and `needs_container` are known before. `memory` and `cpus` say in a few words what keeps a worker
    to what it asked for, None that nothing does. What it has may change while it is open: `Backend.capacity` tells.
    """

    scope: Scope
    needs_container: bool
    max_workers: int
    suspends: bool = False
    memory: str | None = None
    cpus: str | None = None
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker asks for. None leaves the backend's default; cpus are cores."""

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to place in the input folder: its name there, and where its content lies on this host."""

    name: str
    content: Path


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One attempt of a job, complete: the adapter needs to know nothing else.

    `name` is unique for ever and safe as a file, container or pod name ([a-z0-9-], at most 63).
    `command` is empty where the image's own is to run, in the image's own folder; only backends whose
    capabilities say `needs_container` are given such a one. `source` is the unpacked module version, the
    working folder of a command; read-only by convention.
    `prepared` is what `prepare` returned for that version, None when nothing was asked to be prepared.
    `environment` is added to what the adapter sets (RUNGRAPH_INPUT, RUNGRAPH_OUTPUT, PATH, HOME, …).
    `input_document` is the text of input.json. `resources` are each worker's, `devices` the GPUs that were
    chosen for each, by rank. `client` is a folder of this host to have on PYTHONPATH, where it has been
    brought to the job: `import rungraph` finds the client there. `network` says whether the function asks for
    one, where there may be none. `labels` (run, job, attempt) tell people what a native object belongs to.
    """

    name: str
    command: tuple[str, ...]
    source: Path
    prepared: str | None
    input_document: bytes
    inputs: tuple[InputFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    resources: Resources = Resources()
    devices: tuple[tuple[int, ...], ...] = ()
    client: Path | None = None
    network: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


def check(spec: JobSpec, names: re.Pattern[str], what: str, most_workers: int) -> None:
    """Refuse what can never be launched, for its own name, which names `what`, its workers or its inputs.

    Raises LaunchRejected.
    """
    if not names.fullmatch(spec.name):
        raise LaunchRejected(f"{spec.name!r} cannot name {what}")
    if not 1 <= spec.workers <= most_workers:
        raise LaunchRejected(f"{spec.workers} workers; this backend runs 1 to {most_workers}")
    for file in spec.inputs:
        if "/" in file.name or "\0" in file.name or file.name in ("", ".", "..", "input.json"):
            raise LaunchRejected(f"{file.name!r} cannot name an input file")


@dataclass(frozen=True, slots=True)
class PrepareSpec:
    """A module version to make ready: its unpacked source, and the Python requirements it states.

    Where jobs run in containers: `image` is what they run in, or `dockerfile`, a path within the source, which
    is the build's context, or neither: a default of the backend's, with this Python. The requirements are
    installed in any of them. `digest` is the source's, by its content.
    """

    version: str
    source: Path
    requirements: tuple[str, ...]
    python: str | None = None
    digest: str = ""
    image: str | None = None
    dockerfile: str | None = None


class Stream(enum.IntEnum):
    """Where a piece of output came from.

    USAGE is not the user's: the adapter says there what the worker uses, as lines of metrics are printed.
    """

    STDOUT = 1
    STDERR = 2
    USAGE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of one stream, stamped when they were read.

    `data` holds one or more lines without the last newline. `continued` says that the line goes on in the
    next piece of the same stream, because it was longer than the adapter holds back (64 KiB).
    """

    stream: Stream
    time_us: int
    data: bytes
    continued: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Pieces in the order they were read, and the offset to read on from. Empty: nothing more for now."""

    pieces: tuple[Piece, ...]
    next_offset: int


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The user's process of this rank exists. `at_us` is microseconds since the epoch."""

    name: str
    rank: int
    node: str
    address: str
    at_us: int


@dataclass(frozen=True, slots=True)
class HasOutput:
    """A hint that `read` has more for this worker. May come too often, never too seldom by more than 1 s."""

    name: str
    rank: int


@dataclass(frozen=True, slots=True)
class Used:
    """What a worker used when the adapter looked, as a piece of Stream.USAGE.

    For adapters whose native log has no place for it; others have such pieces among what `read` gives. A look
    is told once: one that is lost with a crash is a gap, and none is ever stored twice.
    """

    name: str
    rank: int
    piece: Piece


class EndReason(enum.Enum):
    """Why an attempt ended, as far as a backend can see it. The supervisor knows the rest of the reasons."""

    COMPLETED = "COMPLETED"
    EXIT_CODE = "EXIT_CODE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMED_OUT = "TIMED_OUT"
    PREEMPTED = "PREEMPTED"
    IMAGE_UNAVAILABLE = "IMAGE_UNAVAILABLE"
    LAUNCH_REJECTED = "LAUNCH_REJECTED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Ended:
    """All workers of the attempt are gone, with every descendant; all their output can be read.

    `exit_codes` maps rank to exit code, negative for a signal as in `subprocess` where a backend can tell (an
    engine of containers says 128 and the signal's number); `exit_code` is the one that decided. `message` says
    in words what the reason leaves open ("killed by signal 9").
    """

    name: str
    reason: EndReason
    exit_code: int | None
    exit_codes: Mapping[int, int]
    message: str | None
    at_us: int


@dataclass(frozen=True, slots=True)
class Missing:
    """The backend knows nothing of this name: never launched here, or gone without a trace."""

    name: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A launched attempt cannot start yet: why, in the backend's own words (a scheduler's, a registry's).

    None when nothing keeps it any more; a start or an end says so, too. Tell it when the words change.
    """

    name: str
    words: str | None


Observation = WorkerStarted | HasOutput | Used | Ended | Missing | Waiting


class Backend(Protocol):
    """What an adapter implements. All methods may be called concurrently, and again after a crash."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self) -> None:
        """Make ready to be used; may raise BackendUnavailable."""

    async def capacity(self) -> Capacity | None:
        """What it can hold now, whatever of it is taken; None where only the configuration says so.

        Asked now and then, and again until it answers after any BackendUnavailable: one that can be away is
        really asked, and raises BackendUnavailable.
        """

    async def prepare(self, spec: PrepareSpec, log: Callable[[str], Awaitable[None]]) -> str:
        """Make a version ready and return what `JobSpec.prepared` needs; a repeat costs nothing.

        Of an image that is its immutable reference, so that what runs later is what was prepared.
        Every line of the work goes to `log` as it appears. Raises PreparationFailed or BackendUnavailable.
        """

    async def discard(self, prepared: str) -> None:
        """Free what `prepare` returned and no version needs any more; repeats silently."""

    async def launch(self, spec: JobSpec) -> Handle:
        """Start the attempt and return at once; a name launched before returns the handle it has.

        A command that does not exist ends the attempt (`Ended` with LAUNCH_REJECTED and what was looked
        for); raises LaunchRejected where that is known beforehand, BackendUnavailable where it cannot tell.
        """

    def watch(self, known: Sequence[Handle]) -> AsyncGenerator[Observation]:
        """First how every known handle stands now (WorkerStarted, Ended or Missing), then what happens.

        What this instance launched, before or while it is watched, is watched too; its observations may
        come before `launch` has returned. One watcher at a time. An observation may come twice; what ended
        is told once more for every `watch` that knows its handle, the starts of its workers before its end.
        """

    async def read(self, handle: Handle, rank: int, offset: int, limit_bytes: int = 1 << 20) -> Output:
        """Output of one worker from `offset` (0 at the start, else a `next_offset`); exact on every repeat.

        At least one piece where there is one, then as many as fit into the limit. A name or rank that is
        not there has no output.
        """

    async def stored(self, handle: Handle, rank: int, offset: int) -> None:
        """What lies before an offset is kept elsewhere and is not read again: the adapter may free it."""

    async def outputs(self, handle: Handle) -> Path:
        """The output folder of an ended attempt, on this host."""

    async def spool(self, handle: Handle) -> Path:
        """Where processes of an ended attempt have left what they could not report (RUNGRAPH_SPOOL), on this host."""

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """Ask politely, then force after the grace period; returns at once; `Ended` follows.

        Repeats silently; the period that runs out first counts, so that a second call may hurry.
        """

    async def suspend(self, handle: Handle) -> None:
        """Have every process of the attempt stand still until `resume` or `stop`; returns at once, repeats silently.

        It keeps its memory and its place. An adapter whose capabilities do not say `suspends` is not asked.
        """

    async def resume(self, handle: Handle) -> None:
        """Let a suspended attempt go on; repeats silently."""

    async def remove(self, handle: Handle) -> None:
        """Forget an attempt and free what it holds (folders, containers); repeats silently.

        One that still runs is ended.
        """

    async def held(self) -> Sequence[Handle]:
        """Every attempt that the backend still holds for this server, whoever launched it, ended or not.

        What nobody knows of any more can so be found and removed.
        """

    async def close(self) -> None:
        """Let go of what this instance holds; everything launched goes on."""
