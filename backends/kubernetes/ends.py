"""How a worker's end is read from its pod: native reasons to ours. Pure.

A pod says why it ended in four places: its own reason (evicted, refused by a node, over its deadline), the job's
container (exit code, OOMKilled), a container that never came to run (images, mounts), and its deletion, which
before Kubernetes 1.26 does not say whose it was. The first that applies decides, in this order. What is given time
has it from when we first saw it so: of what went on while we, or the API server, were away, the pod may say what was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backends.base import EndReason
from backends.kubernetes import template
from backends.kubernetes.statuses import Pod, condition, container, image, is_running, micros, moment

WITHDRAWN = f"{template.PREFIX}withdrawn"
"""On pods that we delete before their job has begun: why."""

# https://kubernetes.io/docs/concepts/scheduling-eviction, kubelet's eviction, preemption, shutdown and admission
POD_REASONS: dict[str, EndReason] = {
    "Evicted": EndReason.PREEMPTED,
    "Preempting": EndReason.PREEMPTED,
    "NodeShutdown": EndReason.PREEMPTED,
    "Shutdown": EndReason.PREEMPTED,
    "Terminated": EndReason.PREEMPTED,
    "OutOfcpu": EndReason.PREEMPTED,
    "OutOfmemory": EndReason.PREEMPTED,
    "OutOfpods": EndReason.PREEMPTED,
    "NodeAffinity": EndReason.PREEMPTED,
    "UnexpectedAdmissionError": EndReason.PREEMPTED,
    "NodeLost": EndReason.LOST,
    "DeadlineExceeded": EndReason.TIMED_OUT,
}
IMAGE_NEVER = {"InvalidImageName", "ErrImageNeverPull"}
IMAGE_PERHAPS = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
CANNOT_START = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PostStartHookError",
}
NODE_SECONDS = 60.0
"""After a deletion's grace, until a node that says nothing is taken for lost."""
DRAIN_SECONDS = 20.0
"""For the courier to say the last of a job that has ended."""
DOUBT_SECONDS = 3.0
"""After which the courier must still be there for an end by a signal to be the job's own, and no node's."""
STALLED_SECONDS = 180.0
"""Until a node that has begun with a pod and does not go on is taken for one that never will."""
STARTED_AGAIN = "its container was started a second time"
"""What start.sh says instead of running a job that may have run."""
_TAKEN_ALONG = (-9, -15, 255)
"""How a container ends that its engine takes along: forced, asked, or found dead by the next one."""


@dataclass(frozen=True, slots=True)
class State:
    """What a courier says of its job."""

    version: int
    size: int
    started_us: int | None = None
    ended_us: int | None = None
    exit_code: int | None = None
    rejected: str | None = None
    leaving: bool = False
    """Whether the courier was told by its node to end, before the job had ended or as its end came by a signal."""
    asked: bool = False
    """Whether we have had it end the job."""


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How one worker ended. `withdrawn` is not an end of its own: another's, or ours, was the reason."""

    reason: EndReason
    exit_code: int | None
    message: str | None
    at_us: int
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may mend itself is given."""

    image_seconds: float = 120.0
    start_seconds: float = 60.0


def read(
    pod: Pod,
    state: State | None,
    *,
    gone: bool,
    patience: Patience,
    since: datetime | None = None,
    heard: datetime | None = None,
    now: datetime | None = None,
) -> WorkerEnd | None:
    """How the worker of this pod ended; None while it has not.

    `gone` says that the pod is no more, `since` when we first saw it at its `stage`, `heard` when its courier last
    answered.
    """
    now = now or datetime.now(UTC)
    since = since or datetime.min.replace(tzinfo=UTC)
    main = container(pod, template.MAIN)
    over = (main.get("state") or {}).get("terminated") or _known_to_courier(pod, state)
    if over is not None:
        return _ended(pod, state, over, gone, since, heard, now)
    why = reason_of(pod)
    if pod.get("status", {}).get("phase") == "Failed" and why is not None:
        return WorkerEnd(why, None, _words(pod), _latest(pod, now))
    if (failed := _failed_courier(pod)) is not None:
        return failed
    if deleted := moment(pod["metadata"].get("deletionTimestamp")):
        return _deleted(pod, gone, deleted, since, now)
    if gone:
        return WorkerEnd(EndReason.LOST, None, "its pod is gone", micros(now))
    return _stuck(pod, patience, since, now)


def stage(pod: Pod) -> str:
    """What is waited for next: from when we see another, something else is given its time."""
    if "terminated" in (container(pod, template.MAIN).get("state") or {}):
        return "over"
    if pod["metadata"].get("deletionTimestamp"):
        return "deleted"
    return "waiting" if _fetched_alone(pod) is None else "fetched"


def is_doubtful(state: State) -> bool:
    """Whether a job ended as one that its node ends, and nobody has said yet that they ended it."""
    said = state.exit_code is not None and state.exit_code not in (128 + 9, 128 + 15, 255)
    return state.ended_us is not None and not (said or state.asked or state.leaving)


def _ended(
    pod: Pod,
    state: State | None,
    over: Mapping[str, Any],
    gone: bool,
    since: datetime,
    heard: datetime | None,
    now: datetime,
) -> WorkerEnd | None:
    """The job's container is over; so is the worker when all it printed is in the journal, or lost."""
    finished = moment(over.get("finishedAt")) or now
    withdrawn = (pod["metadata"].get("annotations") or {}).get(WITHDRAWN)
    if withdrawn is not None and (state is None or state.started_us is None):
        return WorkerEnd(EndReason.PREEMPTED, None, withdrawn, micros(finished), withdrawn=True)
    drained = state is not None and state.ended_us is not None
    waited = (now - max(finished, since)).total_seconds()
    speaks = not gone and is_running(pod, "courier") and waited < DRAIN_SECONDS
    if speaks and not drained:
        return None
    at_us = state.ended_us if state is not None and state.ended_us is not None else micros(finished)
    if state is not None and state.rejected:
        return WorkerEnd(EndReason.LAUNCH_REJECTED, None, state.rejected, at_us)
    code = int(over.get("exitCode", 0))
    if code == 0:
        return WorkerEnd(EndReason.COMPLETED, 0, None, at_us)
    code = 128 - code if 128 < code <= 128 + 64 else code
    if over.get("reason") == "OOMKilled":
        return WorkerEnd(EndReason.OUT_OF_MEMORY, code, _memory(pod), at_us)
    why = reason_of(pod)
    if why is not None:
        return WorkerEnd(why, code, _words(pod), at_us)
    if over.get("message") == STARTED_AGAIN:
        return WorkerEnd(EndReason.LOST, None, STARTED_AGAIN, at_us)
    if _was_deleted_under(pod, finished):
        return WorkerEnd(EndReason.PREEMPTED, code, _words(pod), at_us)
    is_refused = over.get("reason") in ("ContainerCannotRun", "StartError")
    is_taken = code in _TAKEN_ALONG or _had_no_courier(pod, state, finished)
    if is_refused or (is_taken and not (state is not None and state.asked)):
        if _is_leaving(pod, state):
            words = "its node, or the engine there, ended all that ran"
            return WorkerEnd(EndReason.LOST, None if is_refused else code, words, at_us)
        if not gone and (now - finished).total_seconds() < DOUBT_SECONDS:
            return None
        # What the pod says of its courier is as old as its node's last word.
        outlived = heard is not None and (heard - finished).total_seconds() >= DOUBT_SECONDS
        if not gone and not is_refused and not outlived:
            if waited < NODE_SECONDS:
                return None
            return WorkerEnd(
                EndReason.LOST, code, "its node, or the engine there, says nothing more of it", at_us
            )
    if is_refused:
        return WorkerEnd(EndReason.LAUNCH_REJECTED, None, str(over.get("message") or over["reason"]), at_us)
    message = f"killed by signal {-code}" if code < 0 else f"exited with {code}"
    return WorkerEnd(EndReason.EXIT_CODE, code, message, at_us)


def _known_to_courier(pod: Pod, state: State | None) -> Mapping[str, Any] | None:
    """The end of a job that its courier knows before the cluster says so.

    Of success nothing is to be added. Of a pod that is being deleted nothing is said before all of it is gone, the
    courier with what it holds; what can be said of any other end, only the cluster knows.
    """
    if state is None or state.ended_us is None or state.exit_code is None:
        return None
    if state.exit_code != 0 and not pod["metadata"].get("deletionTimestamp"):
        return None
    at = datetime.fromtimestamp(state.ended_us / 1_000_000, UTC)
    return {"exitCode": state.exit_code, "finishedAt": at.isoformat()}


def _was_deleted_under(pod: Pod, finished: datetime) -> bool:
    """Whether the job's container ended after somebody had asked for the pod's end."""
    deleted = moment(pod["metadata"].get("deletionTimestamp"))
    if deleted is None:
        return False
    grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    return finished.timestamp() >= deleted.timestamp() - grace - 1.0


def _is_leaving(pod: Pod, state: State | None) -> bool:
    """Whether the courier ends as well, which nobody has released yet and nobody has deleted."""
    ended = "terminated" in (container(pod, "courier").get("state") or {})
    return ended or (state is not None and state.leaving)


def _had_no_courier(pod: Pod, state: State | None, finished: datetime) -> bool:
    """Whether its courier was leaving or had left while the job ran: nobody read any more what the job wrote."""
    if state is not None and state.leaving:
        return True
    left = moment(((container(pod, "courier").get("state") or {}).get("terminated") or {}).get("finishedAt"))
    return (state is None or state.ended_us is None) and left is not None and left <= finished


def _failed_courier(pod: Pod) -> WorkerEnd | None:
    """Without the courier there is neither a job to be begun nor one whose output could be had."""
    for name in ("fetch", "courier"):
        over = (container(pod, name).get("state") or {}).get("terminated")
        if over is None or (name == "fetch" and over.get("exitCode") == 0):
            continue
        if pod["metadata"].get("deletionTimestamp"):
            return None  # it ends with its pod
        at_us = micros(moment(over.get("finishedAt")) or datetime.now(UTC))
        said = (over.get("message") or over.get("reason") or "").strip()
        if name == "fetch" and over.get("exitCode") == 3:
            return WorkerEnd(
                EndReason.LAUNCH_REJECTED, None, f"its files could not be fetched: {said}", at_us
            )
        return WorkerEnd(
            EndReason.LOST, None, f"its courier ended with {over.get('exitCode')}: {said}", at_us
        )
    return None


def _deleted(pod: Pod, gone: bool, deleted: datetime, since: datetime, now: datetime) -> WorkerEnd | None:
    """A pod that is on its way out before its job has ended, or begun."""
    running = any(is_running(pod, name) for name in ("fetch", "courier", template.MAIN))
    withdrawn = (pod["metadata"].get("annotations") or {}).get(WITHDRAWN)
    if withdrawn is not None and (gone or not is_running(pod, template.MAIN)):
        return WorkerEnd(EndReason.PREEMPTED, None, withdrawn, micros(deleted), withdrawn=True)
    if gone or not running:
        return WorkerEnd(EndReason.PREEMPTED, None, _words(pod), micros(deleted))
    if (now - max(deleted, since)).total_seconds() > NODE_SECONDS:
        node = pod["spec"].get("nodeName")
        return WorkerEnd(EndReason.LOST, None, f"the node {node} does not answer", micros(deleted))
    return None


def _stuck(pod: Pod, patience: Patience, since: datetime, now: datetime) -> WorkerEnd | None:
    """What waits for something that will not come: images, and containers that cannot be made."""
    created = moment(pod["metadata"].get("creationTimestamp")) or now
    scheduled = condition(pod, "PodScheduled").get("lastTransitionTime")
    waited = (now - max(moment(scheduled) or created, since)).total_seconds()
    if (fetched := _fetched_alone(pod)) is not None:
        # Of a pod that has lost its address there is nothing left to wait for; a busy node takes minutes over others.
        seconds = STALLED_SECONDS if pod["status"].get("podIP") else patience.start_seconds
        if (now - max(fetched, since)).total_seconds() <= seconds:
            return None
        words = f"the node {pod['spec'].get('nodeName')} does not go on with it: its engine may have ended"
        return WorkerEnd(EndReason.LOST, None, words, micros(now))
    for name in ("fetch", "courier", template.MAIN):
        waiting = (container(pod, name).get("state") or {}).get("waiting") or {}
        why, said = waiting.get("reason"), waiting.get("message")
        words = f"{image(pod, name)}: {said or why}"
        if why in IMAGE_NEVER or (why in IMAGE_PERHAPS and waited > patience.image_seconds):
            return WorkerEnd(EndReason.IMAGE_UNAVAILABLE, None, words, micros(now))
        if why in CANNOT_START and waited > patience.start_seconds:
            return WorkerEnd(EndReason.LAUNCH_REJECTED, None, f"{why}: {said}", micros(now))
    return None


def _fetched_alone(pod: Pod) -> datetime | None:
    """Since when its files are there, and its courier, of the same image, has not begun.

    A kubelet whose engine ended between the two goes on with no pod that is not to be restarted.
    """
    over = (container(pod, "fetch").get("state") or {}).get("terminated") or {}
    waiting = (container(pod, "courier").get("state") or {}).get("waiting")
    if over.get("exitCode") != 0 or waiting is None or waiting.get("reason") in CANNOT_START:
        return None
    return moment(over.get("finishedAt"))


def deciding(ends: Sequence[WorkerEnd]) -> int:
    """The rank whose end is the attempt's: the first that failed by itself, else the last to end."""
    failed = [rank for rank, end in enumerate(ends) if end.reason is not EndReason.COMPLETED]
    own = [rank for rank in failed if not ends[rank].withdrawn] or failed
    if own:
        return min(own, key=lambda rank: (ends[rank].at_us, rank))
    return max(range(len(ends)), key=lambda rank: ends[rank].at_us)


def is_answering(pod: Pod, now: datetime | None = None) -> bool:
    """Whether its courier runs, as far as its node has said, and its node still says anything."""
    deleted = moment(pod["metadata"].get("deletionTimestamp"))
    late = deleted is not None and ((now or datetime.now(UTC)) - deleted).total_seconds() > NODE_SECONDS
    return is_running(pod, "courier") and not late


def reason_of(pod: Pod) -> EndReason | None:
    """The pod's own reason, or its disruption's, in our words."""
    status = pod.get("status") or {}
    if status.get("reason") in POD_REASONS:
        return POD_REASONS[status["reason"]]
    if condition(pod, "DisruptionTarget").get("status") == "True":
        return EndReason.PREEMPTED
    return None


def _words(pod: Pod) -> str:
    status, disrupted = pod.get("status") or {}, condition(pod, "DisruptionTarget")
    for told in (status, disrupted):
        if told.get("reason") or told.get("message"):
            return ": ".join(str(told[name]) for name in ("reason", "message") if told.get(name))
    return "its pod was deleted: evicted, preempted, or by hand"


def _memory(pod: Pod) -> str:
    main = pod["spec"]["containers"][-1]
    limit = ((main.get("resources") or {}).get("limits") or {}).get("memory")
    return f"it used more than its {limit} bytes of memory" if limit else "its node ran out of memory"


def _latest(pod: Pod, now: datetime) -> int:
    """The last moment that any container has: a pod has none of its own."""
    status = pod.get("status") or {}
    found = [
        moment(((each.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for each in status.get("containerStatuses") or ()
    ]
    return micros(max((each for each in found if each is not None), default=now))
