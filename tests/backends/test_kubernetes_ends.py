"""How ends are read from pods: every native reason, with no cluster."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from backends.base import EndReason
from backends.kubernetes import ends
from backends.kubernetes.ends import Patience, State, WorkerEnd
from tests.backends.podshapes import NOW, at, over, pod, waiting

DRAINED = State(3, 10, started_us=1, ended_us=2, exit_code=5)


def read(
    given: Mapping[str, Any],
    state: State | None = DRAINED,
    *,
    gone: bool = False,
    silent: float = 0,
    seen: float | None = None,
) -> WorkerEnd | None:
    """What is read of a pod whose courier is silent, and that we have seen so, for so many seconds."""
    heard = NOW - timedelta(seconds=silent)
    since = None if seen is None else NOW - timedelta(seconds=seen)
    patience = Patience(image_seconds=60)
    return ends.read(given, state, gone=gone, patience=patience, since=since, heard=heard, now=NOW)


@pytest.mark.parametrize(
    ("given", "reason", "code"),
    [
        (pod(over(0)), EndReason.COMPLETED, 0),
        (pod(over(5)), EndReason.EXIT_CODE, 5),
        (pod(over(143, seconds=-9)), EndReason.EXIT_CODE, -15),
        (pod(over(255, seconds=-9)), EndReason.EXIT_CODE, 255),
        (pod(over(137), over(137)), EndReason.LOST, -9),
        (pod(over(255), over(255)), EndReason.LOST, 255),
        (pod(over(5), over(137)), EndReason.EXIT_CODE, 5),
        (pod(over(137, "OOMKilled")), EndReason.OUT_OF_MEMORY, -9),
        (pod(over(1, "OOMKilled")), EndReason.OUT_OF_MEMORY, 1),
        (pod(over(0, "OOMKilled")), EndReason.COMPLETED, 0),
        (pod(over(137), over(137), phase="Failed", reason="Evicted"), EndReason.PREEMPTED, -9),
        (pod(phase="Failed", reason="DeadlineExceeded"), EndReason.TIMED_OUT, None),
        (pod(phase="Failed", reason="NodeLost"), EndReason.LOST, None),
        (pod(phase="Failed", reason="OutOfcpu"), EndReason.PREEMPTED, None),
        (pod(over(137), metadata={"deletionTimestamp": at(-2)}), EndReason.PREEMPTED, -9),
        (
            pod(
                over(137), conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "Preemption"}]
            ),
            EndReason.PREEMPTED,
            -9,
        ),
        (pod(over(128, "ContainerCannotRun", seconds=-9)), EndReason.LAUNCH_REJECTED, None),
        (pod(over(128, "ContainerCannotRun"), over(255)), EndReason.LOST, None),
    ],
)
def test_what_a_pod_says_of_its_end(given: Mapping[str, Any], reason: EndReason, code: int | None) -> None:
    found = read(given)
    assert found is not None
    assert (found.reason, found.exit_code) == (reason, code)


@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        (pod(waiting("ImagePullBackOff")), EndReason.IMAGE_UNAVAILABLE, "job:1: ImagePullBackOff it is"),
        (
            pod(fetch=waiting("InvalidImageName")),
            EndReason.IMAGE_UNAVAILABLE,
            "hands:1: InvalidImageName it is",
        ),
        (
            pod(waiting("CreateContainerConfigError")),
            EndReason.LAUNCH_REJECTED,
            "CreateContainerConfigError: CreateContainerConfigError it is",
        ),
        (pod(fetch=over(3)), EndReason.LAUNCH_REJECTED, "its files could not be fetched: Error"),
        (pod(courier=over(137, "OOMKilled")), EndReason.LOST, "its courier ended with 137: OOMKilled"),
    ],
)
def test_what_never_ran_says_why(given: Mapping[str, Any], reason: EndReason, words: str) -> None:
    found = read(given, None)
    assert found is not None
    assert (found.reason, found.exit_code, found.message) == (reason, None, words)


def test_what_may_mend_itself_is_given_time() -> None:
    young = {"metadata": {"creationTimestamp": at(-10)}}
    assert read(pod(waiting("ErrImagePull"), **young), None) is None
    assert read(pod(waiting("CreateContainerError"), **young), None) is None
    assert read(pod(waiting("ErrImageNeverPull"), **young), None) is not None


@pytest.mark.parametrize("why", ["PodInitializing", "ImageInspectError"])
def test_a_pod_that_its_node_does_not_go_on_with_is_lost(why: str) -> None:
    young = pod(waiting(why), waiting(why), over(0, "Completed", -59))
    assert read(young, None) is None
    lost = read(pod(waiting(why), waiting(why), over(0, "Completed", -61)), None)
    assert lost is not None and lost.reason is EndReason.LOST
    assert "n1" in (lost.message or "")
    busy = pod(waiting(why), waiting(why), over(0, "Completed", -61), podIP="10.0.0.1")
    assert read(busy, None) is None


def test_an_end_is_not_told_before_all_that_was_printed_is_kept() -> None:
    ended = pod(over(5))
    assert read(ended, State(1, 10, started_us=1)) is None
    assert read(ended, None) is None
    assert read(pod(over(5), over(137)), None) is not None
    late = read(pod(over(5, seconds=-60)), State(1, 10, started_us=1))
    assert late is not None


def test_who_sent_a_signal_is_waited_for() -> None:
    ended = pod(over(143))
    assert read(ended) is None
    asked = read(ended, State(3, 10, started_us=1, ended_us=2, exit_code=143, asked=True))
    assert asked is not None and asked.reason is EndReason.EXIT_CODE
    taken = read(ended, State(3, 10, started_us=1, ended_us=2, exit_code=143, leaving=True))
    assert taken is not None and (taken.reason, taken.exit_code) == (EndReason.LOST, -15)


def test_a_signal_is_the_jobs_own_only_if_its_courier_outlives_it() -> None:
    told = State(3, 10, started_us=1, ended_us=2, exit_code=143)
    ended = pod(over(143, seconds=-30))
    assert read(ended, told, silent=28) is None, "what the pod says of its courier may be old"
    own = read(ended, told, silent=26)
    assert own is not None and (own.reason, own.exit_code) == (EndReason.EXIT_CODE, -15)
    lost = read(pod(over(143, seconds=-61)), told, silent=60)
    assert lost is not None and lost.reason is EndReason.LOST


@pytest.mark.parametrize(
    ("given", "state", "seconds"),
    [
        (pod(over(143, seconds=-300)), None, 60),
        (pod(over(143, seconds=-300)), State(3, 10, started_us=1, ended_us=2, exit_code=143), 60),
        (pod(over(5, seconds=-300)), State(1, 10, started_us=1), 20),
        (pod(metadata={"deletionTimestamp": at(-300)}), None, 61),
        (pod(waiting("P"), waiting("P"), over(0, "Completed", -300)), None, 61),
        (pod(waiting("ErrImagePull"), metadata={"creationTimestamp": at(-300)}), None, 61),
        (pod(waiting("CreateContainerError"), metadata={"creationTimestamp": at(-300)}), None, 61),
    ],
)
def test_what_is_given_time_has_it_from_our_first_look(
    given: Mapping[str, Any], state: State | None, seconds: float
) -> None:
    assert read(given, state, silent=300, seen=seconds - 1) is None, "it may have gone on while we were away"
    assert read(given, state, silent=300, seen=seconds) is not None


def test_each_stage_of_a_pod_is_looked_at_anew() -> None:
    leaving = {"metadata": {"deletionTimestamp": at(-1)}}
    fetched = pod(waiting("P"), waiting("P"))
    found = [ends.stage(each) for each in (fetched, pod(), pod(**leaving), pod(over(0), **leaving))]
    assert found == ["fetched", "waiting", "deleted", "over"]


def test_whatever_a_job_ends_with_that_has_lost_its_courier_is_no_end_of_its_own() -> None:
    leaving = State(3, 10, started_us=1, ended_us=2, exit_code=1, leaving=True)
    found = read(pod(over(1)), leaving)
    assert found is not None and (found.reason, found.exit_code) == (EndReason.LOST, 1)
    left = read(pod(over(1, seconds=-2), over(137, seconds=-2)), State(1, 10, started_us=1))
    assert left is not None and left.reason is EndReason.LOST
    own = read(pod(over(1, seconds=-3), over(137, seconds=-2)), State(1, 10, started_us=1))
    assert own is not None and (own.reason, own.exit_code) == (EndReason.EXIT_CODE, 1)


def test_a_container_that_is_started_again_is_lost() -> None:
    again = over(125)
    again["terminated"]["message"] = ends.STARTED_AGAIN
    found = read(pod(again, over(137)), None)
    assert found is not None and (found.reason, found.exit_code) == (EndReason.LOST, None)


def test_success_and_the_end_of_a_deleted_pod_are_known_to_the_courier_first() -> None:
    won = read(pod(), State(3, 10, started_us=1, ended_us=2, exit_code=0))
    assert won == WorkerEnd(EndReason.COMPLETED, 0, None, 2)
    assert read(pod()) is None, "whether memory ran out only the cluster knows"
    gone = read(pod(metadata={"deletionTimestamp": at(10), "deletionGracePeriodSeconds": 30}), DRAINED)
    assert gone is not None


def test_a_node_that_stays_silent_over_a_deletion_is_lost() -> None:
    assert read(pod(metadata={"deletionTimestamp": at(-10)}), None) is None
    lost = read(pod(metadata={"deletionTimestamp": at(-61)}), None)
    assert lost is not None
    assert (lost.reason, lost.message) == (EndReason.LOST, "the node n1 does not answer")


def test_the_first_worker_that_failed_by_itself_decides() -> None:
    won = WorkerEnd(EndReason.COMPLETED, 0, None, 50)
    stopped = WorkerEnd(EndReason.EXIT_CODE, -15, None, 40)
    failed = WorkerEnd(EndReason.EXIT_CODE, 5, None, 30)
    withdrawn = WorkerEnd(EndReason.PREEMPTED, None, None, 10, withdrawn=True)
    assert ends.deciding([won, stopped, failed, withdrawn]) == 2
    assert ends.deciding([withdrawn, won]) == 0
    assert ends.deciding([won, WorkerEnd(EndReason.COMPLETED, 0, None, 60)]) == 1
