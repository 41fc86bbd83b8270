"""One `watch` over attempts in a cluster: what is followed, and what is still to be told.

Two sources say what happens: the one watch of all pods (placed, running, ended, deleted), and each running pod's
courier (started, printed, drained), asked with a long answer. Both only change what is known of a worker; `_look`
then decides what is to be told or done, so that it does not matter what came first, or twice. Part of `adapter.py`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Hashable, Mapping
from functools import partial
from typing import Any

from backends import base
from backends.base import BackendUnavailable, EndReason
from backends.kubernetes import ends, gangs, listing, pods, waits
from backends.kubernetes.cluster import Refused
from backends.kubernetes.companions import WAIT_SECONDS
from backends.kubernetes.ends import State, WorkerEnd
from backends.kubernetes.followed import AGAIN_SECONDS, Followed, Hands, Worker, insist, now
from backends.kubernetes.statuses import container, micros, moment

LOOK_SECONDS = 1.0
_PACE_SECONDS = 0.1
"""Between two looks at a job that prints without end."""


class Following:
    """What one watcher of the adapter is told. Lives in one event loop."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._followed: dict[str, Followed] = {}
        self._pods: dict[str, Mapping[str, Any]] = {}
        self._listed = False
        self._untold: OrderedDict[Hashable, base.Observation] = OrderedDict()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._closed = False

    async def observations(
        self, changes: AsyncIterator[listing.Listed | listing.Changed]
    ) -> AsyncGenerator[base.Observation]:
        """What is told, until closed; raises what following the pods raises."""
        self._spawn(self._follow(changes))
        self._spawn(self._tick())
        while not self._closed:
            while self._untold:
                yield self._untold.popitem(last=False)[1]
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()

    def add(self, handle: base.Handle, *, launched_here: bool = False) -> None:
        """Follow an attempt, and tell how it stands."""
        name = str(handle["name"])
        if name in self._followed or self._closed:
            return
        workers = [Worker(rank) for rank in range(handle["workers"])]
        each = self._followed[name] = Followed(handle, workers, launched_here=launched_here)
        for worker in workers:
            worker.pod = self._pods.get(pods.pod_name(name, worker.rank))
        if self._listed:
            self._look(each)

    def forget(self, name: str) -> None:
        """Follow it no longer: it was removed."""
        if (each := self._followed.pop(name, None)) is not None:
            for task in each.tasks.values():
                task.cancel()

    def state(self, name: str, rank: int) -> State | None:
        """The last that a worker's courier has said."""
        each = self._followed.get(name)
        return each.workers[rank].state if each is not None and rank < len(each.workers) else None

    def running(self) -> list[tuple[base.Handle, int, Mapping[str, Any]]]:
        """The pods of workers that have started and not ended."""
        return [
            (each.handle, worker.rank, worker.pod)
            for each in self._followed.values()
            for worker in each.workers
            if worker.pod is not None
            and worker.state is not None
            and worker.state.started_us
            and worker.end is None
        ]

    def has_quiet(self) -> bool:
        """Whether there is a pod whose node does not begin with it."""
        pods = (worker.pod for each in self._followed.values() for worker in each.workers if not worker.end)
        return any(pod is not None and waits.is_quiet(pod) for pod in pods)

    def complain(self, told: Mapping[str, str]) -> None:
        """What the cluster's events say of pods, by their uids."""
        for each in list(self._followed.values()):
            for worker in each.workers:
                worker.complaint = told.get((worker.pod or {}).get("metadata", {}).get("uid", ""))
            self._look(each)

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something else for as long as it follows."""
        self._spawn(work)

    def close(self) -> None:
        """Stop following; whoever iterates ends."""
        self._closed = True
        for each in self._followed.values():
            for task in each.tasks.values():
                task.cancel()
        for task in self._tasks:
            task.cancel()
        self._followed.clear()
        self._news.set()

    async def _follow(self, changes: AsyncIterator[listing.Listed | listing.Changed]) -> None:
        async for change in changes:
            if isinstance(change, listing.Listed):
                self._pods = {pod["metadata"]["name"]: _light(pod) for pod in change.pods}
                self._listed = True
                for each in list(self._followed.values()):
                    for worker in each.workers:
                        found = self._pods.get(pods.pod_name(each.name, worker.rank))
                        worker.gone = found is None and worker.pod is not None
                        worker.pod = found or worker.pod
                    self._look(each)
            else:
                self._change(change)

    def _change(self, change: listing.Changed) -> None:
        name = change.pod["metadata"]["name"]
        if change.gone:
            self._pods.pop(name, None)
        else:
            self._pods[name] = _light(change.pod)
        labels = change.pod["metadata"].get("labels") or {}
        each, rank = self._followed.get(labels.get(pods.LABEL_NAME, "")), labels.get(pods.LABEL_RANK, "")
        if each is not None and rank.isdigit() and int(rank) < len(each.workers):
            worker = each.workers[int(rank)]
            worker.pod, worker.gone = change.pod, change.gone
            self._look(each)

    async def _tick(self) -> None:
        """What time alone changes: patience that ends, nodes that stay silent."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for each in list(self._followed.values()):
                self._look(each)

    def _look(self, each: Followed) -> None:
        """Tell and do what follows from what is known now."""
        if not self._listed or each.name not in self._followed:
            return
        if all(worker.pod is None for worker in each.workers):
            if not each.is_new:
                self._finish(each, base.Missing(each.name))
            return
        for worker in each.workers:
            self._look_at(each, worker)
        if len(each.workers) > 1:
            gangs.look(each, self._hands, self._task)
        self._conclude(each)

    def _look_at(self, each: Followed, worker: Worker) -> None:
        if worker.pod is None:
            # The others' pods are there, so this one was, too: all are made before the handle is given.
            if worker.end is None and not each.is_new:
                worker.end = WorkerEnd(EndReason.LOST, None, "its pod is gone", micros(now()))
            return
        if worker.reachable and worker.end is None:
            self._task(each, ("talk", worker.rank), partial(self._talk, each, worker))
        state = worker.state
        if state is not None:
            if state.started_us is not None and not worker.start_told:
                worker.start_told = True
                node = str(worker.pod["spec"].get("nodeName") or "")
                self._tell(
                    base.WorkerStarted(each.name, worker.rank, node, worker.address, state.started_us),
                    worker.rank,
                )
            if state.size > worker.size_told:
                worker.size_told = state.size
                self._tell(base.HasOutput(each.name, worker.rank), worker.rank)
        if worker.end is None:
            self._tell_waiting(each)
            worker.look()
            worker.end = ends.read(
                worker.pod,
                state,
                gone=worker.gone,
                patience=self._hands.patience,
                since=worker.since,
                heard=worker.heard,
            )
            if worker.end is not None:
                self._start_of_ended(each, worker)

    def _tell_waiting(self, each: Followed) -> None:
        """What keeps it from starting, when that is news: of a gang, what keeps the first that is kept."""
        found = (worker.words for worker in each.workers)
        words = next((word for word in found if word), None)
        if words != each.words:
            each.words = words
            self._tell(base.Waiting(each.name, words), None)

    def _start_of_ended(self, each: Followed, worker: Worker) -> None:
        """Of a job that ended before its courier could be asked, when its container started."""
        main = container(worker.pod or {}, "main")
        at = moment(((main.get("state") or {}).get("terminated") or {}).get("startedAt"))
        end = worker.end
        if worker.start_told or worker.state is not None or at is None or end is None:
            return
        if end.withdrawn or end.reason is EndReason.LAUNCH_REJECTED:
            return
        worker.start_told = True
        node = str((worker.pod or {})["spec"].get("nodeName") or "")
        at_us = min(micros(at), end.at_us)
        self._tell(base.WorkerStarted(each.name, worker.rank, node, worker.address, at_us), worker.rank)

    def _conclude(self, each: Followed) -> None:
        """Tell the end when every worker has one."""
        found = [worker.end for worker in each.workers]
        whole = [end for end in found if end is not None]
        if len(whole) < len(found):
            return
        rank = ends.deciding(whole)
        end = whole[rank]
        if end.reason is EndReason.COMPLETED:
            self._task(each, "stage", partial(self._stage, each, whole, rank))
        else:
            self._end(each, whole, rank, end.reason, end.message)

    def _end(
        self, each: Followed, whole: list[WorkerEnd], rank: int, reason: EndReason, message: str | None
    ) -> None:
        codes = {at: end.exit_code for at, end in enumerate(whole) if end.exit_code is not None}
        if message is not None and len(whole) > 1:
            message = f"rank {rank}: {message}"
        at_us = max(end.at_us for end in whole)
        decided = whole[rank].exit_code
        self._finish(each, base.Ended(each.name, reason, decided, codes, message, at_us))

    async def _stage(self, each: Followed, whole: list[WorkerEnd], rank: int) -> None:
        """What it made is taken before its end is told: a pod that goes later takes nothing with it."""
        taken = False

        async def take() -> None:
            nonlocal taken
            taken = await self._hands.stage(each.handle)

        await insist(take)
        if taken:
            self._end(each, whole, rank, EndReason.COMPLETED, None)
        else:
            self._end(each, whole, rank, EndReason.LOST, "it completed, and its outputs went with its pod")

    async def _talk(self, each: Followed, worker: Worker) -> None:
        """Ask a courier for news until there are no more."""
        pause, known, wait_seconds = AGAIN_SECONDS[0], -1, 0
        while worker.end is None:
            try:
                companion = await self._hands.companion(each.handle, worker.rank)
                worker.state = await companion.state(known, wait_seconds)
            except (BackendUnavailable, Refused):
                # It is not there yet, or not any more: its pod says so sooner or later.
                await asyncio.sleep(pause)
                pause = min(pause * 2, AGAIN_SECONDS[1])
                continue
            quiet, known, pause = worker.state.version == known, worker.state.version, AGAIN_SECONDS[0]
            worker.heard = now()
            self._look(each)
            if worker.state.ended_us is None:
                wait_seconds = WAIT_SECONDS
            elif ends.is_doubtful(worker.state):
                wait_seconds = 1
            else:
                return
            if not quiet:
                await asyncio.sleep(_PACE_SECONDS)

    def _finish(self, each: Followed, observation: base.Observation) -> None:
        if self._followed.pop(each.name, None) is not None:
            self._tell(observation, None)
            current = asyncio.current_task()
            for task in each.tasks.values():
                if task is not current:
                    task.cancel()

    def _tell(self, observation: base.Observation, rank: int | None) -> None:
        self._untold[type(observation), getattr(observation, "name", ""), rank] = observation
        self._news.set()

    def _task(self, each: Followed, key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin a piece of work of an attempt, once."""
        if key not in each.tasks:
            each.tasks[key] = self._spawn(work())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._news.set()


def _light(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pod without who set which of its fields, which is half of it."""
    metadata = {name: value for name, value in pod["metadata"].items() if name != "managedFields"}
    return {**pod, "metadata": metadata}
