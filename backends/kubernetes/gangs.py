"""Gangs: several workers that all begin or none does, and of which one that fails ends the others.

Their jobs wait in their first line until their courier reads (start.sh), so that pods may come up in any order and
no program runs before every other is there. Part of `following.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any

from backends.base import EndReason
from backends.kubernetes import pods
from backends.kubernetes.followed import Followed, Hands, Worker, insist, now
from backends.kubernetes.statuses import moment

Task = Callable[[Followed, Hashable, Callable[[], Coroutine[Any, Any, None]]], None]

_OTHERS_GRACE_SECONDS = 10.0
"""For the rest of a gang, when one worker has failed."""


def look(each: Followed, hands: Hands, task: Task) -> None:
    """Let a gang begin when all of it is there; withdraw one that does not come together, or breaks."""
    workers = each.workers
    begun = any(worker.state is not None and worker.state.started_us for worker in workers)
    failed = [worker for worker in workers if worker.end and worker.end.reason is not EndReason.COMPLETED]
    if failed:
        _halt(each, hands, task, f"worker {failed[0].rank} failed")
    elif all(worker.reachable for worker in workers):
        task(each, "go", partial(_go, each, hands))
    elif not begun and _age(each) > hands.gang_seconds:
        _halt(each, hands, task, _short(each, hands.gang_seconds))


def _halt(each: Followed, hands: Hands, task: Task, why: str) -> None:
    for worker in each.workers:
        if worker.end is None:
            task(each, ("halt", worker.rank), partial(_end, each, hands, worker, why))


async def _end(each: Followed, hands: Hands, worker: Worker, why: str) -> None:
    """End a worker: politely where its job has begun, else by taking its pod away."""

    async def end() -> None:
        if worker.state is not None and worker.state.started_us is not None and worker.reachable:
            companion = await hands.companion(each.handle, worker.rank)
            await companion.stop(_OTHERS_GRACE_SECONDS)
        else:
            await hands.withdraw(each.handle, worker.rank, why)

    await insist(end, until=lambda: worker.end is not None)


async def _go(each: Followed, hands: Hands) -> None:
    """Tell every worker where the others are, upon which its job begins."""
    peers = pods.peers([hands.host(each.handle, worker.rank, worker.address) for worker in each.workers])

    async def tell(rank: int) -> None:
        companion = await hands.companion(each.handle, rank)
        await companion.go(peers)

    await asyncio.gather(*(insist(partial(tell, worker.rank)) for worker in each.workers))


def _age(each: Followed) -> float:
    """Seconds since the first of its pods was made."""
    made = [
        moment(worker.pod["metadata"].get("creationTimestamp"))
        for worker in each.workers
        if worker.pod is not None
    ]
    return max(((now() - at).total_seconds() for at in made if at is not None), default=0.0)


def _short(each: Followed, seconds: float) -> str:
    """Why a gang is withdrawn: how many are there, and why not the others."""
    there = sum(worker.reachable for worker in each.workers)
    said = next((worker.words for worker in each.workers if worker.words), "")
    return f"withdrawn: {there} of {len(each.workers)} workers were there after {seconds:g} s: {said}".rstrip(
        ": "
    )
