"""Matrices: a step that is run once for every combination of values of some of its options.

Each combination is a job of its own, labelled `step[name=value,…]`. The last option varies fastest. Labels
derive from the pipeline alone, so that every run of a revision has the same ones. Pure.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from db import manifests, texts
from db.errors import Problem
from db.manifests import Scalar

MOST_JOBS = 1_000
"""Of a run. A job more costs every settling of its run a little."""
MOST_OPTIONS = 20
_PLAIN = re.compile(r"[A-Za-z0-9._+:@-][A-Za-z0-9._+:@ -]*\Z")
_LONGEST = 40

Matrix = Mapping[str, Sequence[Scalar]]
Combination = Mapping[str, Scalar]


def read(value: Any, at: tuple[str, ...]) -> tuple[dict[str, list[Scalar]], list[Problem]]:
    """A matrix as its author wrote it, and what is wrong with it."""
    if not isinstance(value, Mapping):
        return {}, [Problem(at, f"a matrix is an object of lists by option, not {texts.shown(value)}")]
    if not 1 <= len(value) <= MOST_OPTIONS:
        return {}, [Problem(at, f"a matrix has 1 to {MOST_OPTIONS} options, not {len(value)}")]
    problems = [problem for name, values in value.items() for problem in _list_problems(name, values, at)]
    if problems:
        return {}, problems
    if (jobs := math.prod(len(values) for values in value.values())) > MOST_JOBS:
        return {}, [Problem(at, f"makes {jobs} jobs; a run has at most {MOST_JOBS}")]
    return {name: list(values) for name, values in value.items()}, []


def _list_problems(name: Any, values: Any, at: tuple[str, ...]) -> list[Problem]:
    if refused := texts.refusal(name):
        return [Problem(at, f"an option's name {refused}")]
    at = (*at, name)
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= MOST_JOBS:
        return [Problem(at, f"is a list of 1 to {MOST_JOBS} values")]
    problems = [
        Problem((*at, str(index)), refused)
        for index, value in enumerate(values)
        if (refused := manifests.tag_refusal(None, value))
    ]
    if problems:
        return problems[: manifests.MOST_PROBLEMS]
    seen: set[tuple[bool, Scalar]] = set()
    for index, value in enumerate(values):
        if (key := _key(value)) in seen:
            problems.append(Problem((*at, str(index)), f"{texts.shown(value)} is there twice"))
        seen.add(key)
    return problems


def _key(value: Scalar) -> tuple[bool, Scalar]:
    """Equal for equal values; true is not 1, as it is to Python, but 1.0 is."""
    return isinstance(value, bool), value


def equal(one: Scalar, other: Scalar) -> bool:
    """Whether two values are the same to a user."""
    return _key(one) == _key(other)


def combinations(matrix: Matrix) -> list[dict[str, Scalar]]:
    """Every combination, in order; of no options there is one, which is empty."""
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]


def label(step: str, matrix: Matrix, combination: Combination) -> str:
    """What the job of a combination is called: unique in its run."""
    if not combination:
        return step
    parts = (f"{_shown_name(name)}={_shown(value, matrix[name])}" for name, value in combination.items())
    return f"{step}[{','.join(parts)}]"


def _shown_name(name: str) -> str:
    return name if _PLAIN.match(name) else json.dumps(name, ensure_ascii=False)


def _shown(value: Scalar, among: Sequence[Scalar]) -> str:
    """A value in a label: bare where it can be mistaken for no other, as JSON else; a long one by its place."""
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and _PLAIN.match(value) and not _is_json(value):
        text = value
    if len(text) <= _LONGEST:
        return text
    place = next(index for index, other in enumerate(among) if equal(value, other))
    return f"{text[: _LONGEST - 10]}…#{place}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def option_problems(
    function: manifests.Function, matrix: Matrix, arguments: Mapping[str, Any]
) -> list[Problem]:
    """What of a matrix does not fit the function, each with its path below the matrix."""
    declared = {option.name: option for option in function.options}
    problems: list[Problem] = []
    for name, values in matrix.items():
        option = declared.get(name)
        if option is None:
            close = texts.suggestion(name, declared)
            problems.append(Problem((name,), f"is not an option of {function.name}{close}"))
            continue
        if arguments.get(name) is not None:
            problems.append(Problem((name,), "is set by the arguments too: leave it out there"))
        problems += [
            Problem((name, str(index)), f"{name} {refused}")
            for index, value in enumerate(values)
            if (refused := manifests.refusal(option, value))
        ][: manifests.MOST_PROBLEMS]
    return problems


def normal(function: manifests.Function, combination: Combination) -> dict[str, Scalar]:
    """The values of a combination as they are stored among arguments."""
    declared = {option.name: option for option in function.options}
    return {name: manifests.normal(declared[name], value) for name, value in combination.items()}
