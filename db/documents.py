"""Pipelines as documents: the one form in which a pipeline is written by hand, sent, exported and read again.

`{name, description, steps: [{name, function, arguments, needs, inputs, when, matrix, cache}]}`. `read` tells
every mistake with its path; `write` leaves out what is so by default, and `read` gives back what was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db import conditions, errors, matrices, selections, texts
from db.errors import Problem
from db.selections import unknown_keys
from db.steps import StepSpec

_KEYS = ("name", "description", "steps")
_STEP_KEYS = ("name", "function", "arguments", "needs", "inputs", "when", "matrix", "cache")
_MOST_STEPS = 10_000
"""Read at all; steps.py says how many there may be."""


@dataclass(frozen=True, slots=True)
class Document:
    """A pipeline as its author writes it."""

    name: str
    description: str
    steps: tuple[StepSpec, ...]


def read(value: Any) -> tuple[Document, list[Problem]]:
    """A pipeline, and what is wrong with how it is written; what it means is checked with its functions."""
    if not isinstance(value, Mapping):
        problem = Problem((), f"a pipeline is an object with a name and steps, not {texts.shown(value)}")
        return Document("", "", ()), [problem]
    problems = unknown_keys(value, _KEYS, ())
    name = _text(value, "name", (), problems)
    description = value.get("description")
    if description is not None and (refused := texts.refusal(description)):
        problems.append(Problem(("description",), refused))
        description = None
    steps, wrong = read_steps(value.get("steps"), ("steps",))
    return Document(name, description or "", tuple(steps)), problems + wrong


def read_steps(value: Any, at: tuple[str, ...] = ("steps",)) -> tuple[list[StepSpec], list[Problem]]:
    """Steps, and what is wrong with how they are written."""
    if not isinstance(value, list | tuple) or len(value) > _MOST_STEPS:
        return [], [Problem(at, "is a list of steps, each with a name and a function")]
    problems: list[Problem] = []
    steps = [_step(item, (*at, str(index)), problems) for index, item in enumerate(value)]
    return steps, problems


def _step(value: Any, at: tuple[str, ...], problems: list[Problem]) -> StepSpec:
    if not isinstance(value, Mapping):
        said = f"a step is an object with a name and a function, not {texts.shown(value)}"
        problems.append(Problem(at, said))
        return StepSpec("", "", {})
    problems += unknown_keys(value, _STEP_KEYS, at)
    arguments = value.get("arguments")
    if arguments is not None and not isinstance(arguments, Mapping):
        problems.append(Problem((*at, "arguments"), "arguments are an object of options by name"))
        arguments = None
    inputs, wrong = selections.read(value.get("inputs"), (*at, "inputs"))
    problems += wrong
    when, wrong = conditions.read(value.get("when"), (*at, "when"))
    problems += wrong
    matrix: dict[str, Any] = {}
    if value.get("matrix") is not None:
        matrix, wrong = matrices.read(value["matrix"], (*at, "matrix"))
        problems += wrong
    cache = value.get("cache") or False
    if not isinstance(cache, bool):
        problems.append(Problem((*at, "cache"), f"is true or false, not {texts.shown(cache)}"))
    return StepSpec(
        _text(value, "name", at, problems),
        _text(value, "function", at, problems),
        dict(arguments or {}),
        _needs(value.get("needs"), (*at, "needs"), problems),
        inputs,
        when,
        matrix,
        cache is True,
    )


def _text(value: Mapping[str, Any], key: str, at: tuple[str, ...], problems: list[Problem]) -> str:
    text = value.get(key)
    if refused := "is missing" if text is None else texts.refusal(text):
        problems.append(Problem((*at, key), refused))
        return ""
    return str(text)


def _needs(value: Any, at: tuple[str, ...], problems: list[Problem]) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or any(texts.refusal(name) for name in value):
        problems.append(Problem(at, "is a list of names of steps"))
        return None
    return tuple(value)


def accept(found: Sequence[StepSpec], problems: Sequence[Problem]) -> Sequence[StepSpec]:
    """Steps that were read without a mistake; raises Invalid with every one there was."""
    if problems:
        raise errors.Invalid(problems=problems)
    return found


def write(document: Document) -> dict[str, Any]:
    """A pipeline as `read` takes it; of a stored one, whose steps say their `needs` in full."""
    described = {"description": document.description} if document.description else {}
    return {"name": document.name, **described, "steps": write_steps(document.steps)}


def write_steps(steps: Sequence[StepSpec]) -> list[dict[str, Any]]:
    """Steps as `read_steps` takes them."""
    above = [(), *((step.name,) for step in steps)]
    return [_written(step, default) for step, default in zip(steps, above, strict=False)]


def _written(step: StepSpec, default: tuple[str, ...]) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "name": step.name,
        "function": step.address,
        "arguments": dict(step.arguments) or None,
        "needs": None if step.needs is None or step.needs == default else list(step.needs),
        "inputs": None if step.inputs is None else [selection.encode() for selection in step.inputs],
        "when": None if step.when is None else conditions.encode(step.when),
        "matrix": {name: list(values) for name, values in step.matrix.items()} or None,
        "cache": step.cache or None,
    }
    return {name: value for name, value in parts.items() if value is not None}
