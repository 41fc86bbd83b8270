"""What a worker's container says of itself, and what that makes of the attempt. Pure. Part of `docker.py`."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends import base
from backends.container_logs import moment_us
from backends.docker_native import Native

_SIGNALLED = 128
TAKEN_ALONG = (255, _SIGNALLED + signal.SIGKILL, _SIGNALLED + signal.SIGTERM)
"""How a container ends that an engine takes along: asked, forced, or found dead by the next one."""


@dataclass(frozen=True, slots=True)
class State:
    """A container as the engine inspects it."""

    status: str
    exit_code: int
    error: str
    starved: bool
    created_us: int
    started_us: int
    finished_us: int
    address: str
    labels: Mapping[str, str]

    @property
    def runs(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def is_paused(self) -> bool:
        return self.status == "paused"

    @property
    def has_ended(self) -> bool:
        return self.status == "exited" or self.was_refused

    @property
    def was_refused(self) -> bool:
        """The engine could not start it, and never will."""
        return self.status == "created" and bool(self.error)

    def is_forgotten(self, native: Native) -> bool:
        """Whether the engine ended before it had started, or while: it may have run, and does not begin again."""
        return self.status == "created" and native.is_another_life(self.labels)

    @property
    def was_killed(self) -> bool:
        """By somebody, and not by the kernel for its memory."""
        return self.has_ended and self.exit_code == _SIGNALLED + signal.SIGKILL and not self.starved

    @property
    def failed(self) -> bool:
        return self.was_refused or (self.has_ended and self.exit_code != 0)


def read(found: Mapping[str, Any] | None, *, starved: bool = False) -> State | None:
    """What inspecting a container gave; None for one that is not there, or that somebody is removing.

    `starved`: an event has said that the kernel ended it for its memory, which what it says of itself may lack.
    Of a removed one the exit code says only that it was killed, and nothing can be fetched any more.
    """
    if found is None or found["State"]["Status"] in ("removing", "dead"):
        return None
    state, labels = found["State"], found["Config"]["Labels"] or {}
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [each["IPAddress"] for each in networks.values() if each.get("IPAddress")]
    return State(
        status=state["Status"],
        exit_code=int(state["ExitCode"]),
        error=state.get("Error") or "",
        starved=starved or bool(state.get("OOMKilled")),
        created_us=moment_us(found["Created"]),
        started_us=moment_us(state["StartedAt"]),
        finished_us=moment_us(state["FinishedAt"]),
        address=addresses[0] if addresses else found["Config"]["Hostname"],
        labels=labels,
    )


def rejected(name: str, words: str, at_us: int) -> base.Ended:
    """None of it could be started."""
    return base.Ended(name, base.EndReason.LAUNCH_REJECTED, None, {}, words, at_us)


def ended(name: str, states: Mapping[int, State | None], native: Native) -> base.Ended:
    """How an attempt ended, none of whose workers runs any more."""
    there = {rank: state for rank, state in states.items() if state is not None}
    at_us = max(max(state.finished_us, state.created_us) for state in there.values())
    codes = {rank: state.exit_code for rank, state in there.items() if state.has_ended}
    alone = len(states) == 1
    if forgotten := [rank for rank, state in there.items() if state.is_forgotten(native)]:
        words = (
            f"{'' if alone else f'rank {forgotten[0]}: '}the Docker engine was started anew while it began"
        )
        return base.Ended(name, base.EndReason.LOST, None, codes, words, at_us)
    if refused := [state for state in there.values() if state.was_refused]:
        return rejected(name, refused[0].error, at_us)
    if missing := [rank for rank in states if rank not in there or not there[rank].has_ended]:
        words = f"{'' if alone else f'rank {missing[0]}: '}its container was removed"
        return base.Ended(name, base.EndReason.LOST, None, codes, words, at_us)
    failures = [(state.finished_us, rank) for rank, state in there.items() if state.exit_code != 0]
    if not failures:
        return base.Ended(name, base.EndReason.COMPLETED, 0, codes, None, at_us)
    rank = min(failures)[1]
    reason, why = _why(there[rank], native, alone)
    told = why if alone or why is None else f"rank {rank}: {why}"
    return base.Ended(name, reason, there[rank].exit_code, codes, told, at_us)


def _why(state: State, native: Native, alone: bool) -> tuple[base.EndReason, str | None]:
    code = state.exit_code
    if state.starved:
        return base.EndReason.OUT_OF_MEMORY, "the kernel ended it for want of memory within its limit"
    if code in TAKEN_ALONG and native.is_another_life(state.labels):
        return base.EndReason.LOST, "the Docker engine was started anew while it ran"
    words = None if alone and code <= _SIGNALLED else f"exited with {_described(code)}"
    return base.EndReason.EXIT_CODE, words


def _described(code: int) -> str:
    """An exit code, with the signal it stands for by convention: the engine does not tell them apart."""
    try:
        return f"{code} ({signal.Signals(code - _SIGNALLED).name})"
    except ValueError:
        return str(code)
