"""The `retry` of a function in rungraph.yaml: how often another attempt follows an end, by its reason."""

from collections.abc import Iterator

from backends import manifest_values as values
from backends.manifest_documents import Node, Problems
from backends.manifest_schema import BACKOFF, RETRY, RULE
from db import policies
from db.policies import Backoff, Policy, Rule
from db.states import EndReason

_SAID = {"memoryFactor": "memory", "mostMemoryBytes": "most"}


def read(node: Node | None, problems: Problems) -> Policy:
    """What a function says of it."""
    if node is None:
        return policies.NOTHING
    parts = values.fields(node, RETRY, problems, "retry")
    return Policy(tuple(_rules(parts, problems)), _backoff(parts.get("backoff"), problems))


def _rules(parts: dict[str, Node], problems: Problems) -> Iterator[Rule]:
    for reason in policies.RULED:
        if reason.value in parts:
            yield _rule(reason, parts[reason.value], problems)


def _rule(reason: EndReason, node: Node, problems: Problems) -> Rule:
    most = policies.MOST_TIMES
    if not isinstance(node.value, dict):
        return Rule(reason, values.whole(node, problems, 0, 0, most))
    given = values.fields(node, RULE, problems, reason.value)
    rule = Rule(
        reason,
        values.whole(given.get("times"), problems, 1, 0, most),
        values.amount(given.get("memory"), problems, most=1e9) or 1.0,
        values.memory(given.get("most"), problems),
    )
    for part, why in policies.refusals(rule):
        at = given.get(_SAID.get(part, part))
        if at is not None and part != "times":
            problems.at(at, "retry", why)
    return rule


def _backoff(node: Node | None, problems: Problems) -> Backoff:
    parts = values.fields(node, BACKOFF, problems, "backoff") if node is not None else {}
    first, most = (values.seconds(parts.get(name), problems) for name in ("first", "most"))
    made = Backoff(first or Backoff().first_seconds, most or max(Backoff().most_seconds, first or 0.0))
    if made.most_seconds < made.first_seconds:
        problems.at(parts["most"], "backoff", "must be no shorter than the first")
    return made
