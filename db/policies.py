"""Which ends of attempts are tried again, how often, with how much memory, and after how long. Pure.

A rule is of one reason: how many attempts that ended for it are followed by another one. What a run asks for
stands before what its functions say, and that before what is so by default. A function's `retries` counts
attempts whatever ended them, and grants another after those of RETRIED that no rule names.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from db import texts
from db.errors import Problem
from db.states import RETRIED, EndReason

RULED = (
    EndReason.PREEMPTED,
    EndReason.LOST,
    EndReason.IMAGE_UNAVAILABLE,
    EndReason.OUT_OF_MEMORY,
    EndReason.EXIT_CODE,
    EndReason.TIMED_OUT,
)
"""Reasons that may be tried again; of all others the next attempt would end the same."""
DEFAULTS: Mapping[EndReason, int] = {
    EndReason.PREEMPTED: 5,
    EndReason.LOST: 2,
    EndReason.IMAGE_UNAVAILABLE: 2,
}
"""How often, where nobody says: what took the job's place or its machine is no fault of its own."""
MOST_TIMES = 100
MOST_FACTOR = 16.0
MOST_SECONDS = 86_400.0
MOST_MEMORY = 1 << 53


@dataclass(frozen=True, slots=True)
class Rule:
    """So many times more after this reason; after OUT_OF_MEMORY with so many times the memory, up to a bound."""

    reason: EndReason
    times: int
    memory_factor: float = 1.0
    most_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Before the second attempt, doubled for every one in between, and at most."""

    first_seconds: float = 1.0
    most_seconds: float = 60.0

    def seconds(self, attempts: int) -> float:
        """How long to wait after so many attempts."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** min(attempts - 1, 64))


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that hold for one job, at most one a reason, and how long it waits."""

    rules: tuple[Rule, ...] = ()
    backoff: Backoff = Backoff()

    def rule(self, reason: EndReason) -> Rule | None:
        """What is said of a reason; None where only defaults hold."""
        return next((rule for rule in self.rules if rule.reason is reason), None)

    def overlaid(self, rules: Iterable[Rule]) -> "Policy":
        """With other rules standing before these."""
        asked = tuple(rules)
        said = {rule.reason for rule in asked}
        return replace(self, rules=(*asked, *(rule for rule in self.rules if rule.reason not in said)))

    def grants(self, reason: EndReason, so_ended: int, attempts: int, retries: int) -> bool:
        """Whether another attempt follows, when so many of all have ended for this reason, this one included."""
        rule = self.rule(reason)
        if rule is not None:
            return so_ended <= rule.times
        if reason in RETRIED and attempts <= retries:
            return True
        return so_ended <= DEFAULTS.get(reason, 0)

    def memory(self, reason: EndReason, memory_bytes: int | None) -> int | None:
        """How much the next attempt gets in the place of this, 0 for as much; None where there may be no more."""
        rule = self.rule(reason)
        if reason is not EndReason.OUT_OF_MEMORY or rule is None or rule.memory_factor == 1.0:
            return 0
        if memory_bytes is None:
            return 0
        more = min(math.ceil(memory_bytes * rule.memory_factor), rule.most_memory_bytes or MOST_MEMORY)
        return more if more > memory_bytes else None


NOTHING = Policy()
"""Nothing is said: what is so by default."""


def encode(policy: Policy) -> dict[str, Any] | None:
    """A policy as JSON; None where nothing is said."""
    if policy == NOTHING:
        return None
    return {"rules": documents(policy.rules), "backoff": asdict(policy.backoff)}


def decode(document: Mapping[str, Any] | None) -> Policy:
    """The inverse of `encode`."""
    if document is None:
        return NOTHING
    return Policy(rules_of(document.get("rules", ())), Backoff(**document.get("backoff", {})))


def documents(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as JSON."""
    return [{**asdict(rule), "reason": rule.reason.value} for rule in rules]


def rules_of(found: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The inverse of `documents`."""
    return tuple(Rule(**{**one, "reason": EndReason(one["reason"])}) for one in found)


def refusals(rule: Rule) -> list[tuple[str, str]]:
    """What is wrong with a rule: which part of it, and why."""
    found: list[tuple[str, str]] = []
    if rule.reason not in RULED:
        known = ", ".join(reason.value for reason in RULED)
        found.append(
            ("reason", f"after {rule.reason.value} no other attempt would end otherwise: say {known}")
        )
    if not 0 <= rule.times <= MOST_TIMES:
        found.append(("times", f"must be from 0 to {MOST_TIMES}, not {texts.shown(rule.times)}"))
    if not 1 <= rule.memory_factor <= MOST_FACTOR:
        found.append(
            ("memoryFactor", f"must be from 1 to {MOST_FACTOR:g}, not {texts.shown(rule.memory_factor)}")
        )
    if rule.most_memory_bytes is not None and not 1 <= rule.most_memory_bytes <= MOST_MEMORY:
        found.append(("mostMemoryBytes", "must be from 1 to 2^53 bytes"))
    if rule.reason is not EndReason.OUT_OF_MEMORY:
        if rule.memory_factor != 1.0:
            found.append(("memoryFactor", "is for OUT_OF_MEMORY alone"))
        if rule.most_memory_bytes is not None:
            found.append(("mostMemoryBytes", "is for OUT_OF_MEMORY alone"))
    return found


def problems(rules: Sequence[Rule]) -> list[Problem]:
    """Everything that is wrong with what a run asks for."""
    found = [
        Problem(("retry", str(index), part), why)
        for index, rule in enumerate(rules)
        for part, why in refusals(rule)
    ]
    if len({rule.reason for rule in rules}) < len(rules):
        found.append(Problem(("retry",), "a reason is named twice"))
    return found
