"""What people write on runs: names, notes and tags, and the rules these keep. Pure."""

from collections.abc import Sequence

from db import texts
from db.errors import Problem

MOST_TAGS = 100
MOST_NOTES = 100_000

Tags = Sequence[tuple[str, str]]


def name_problems(name: str | None, *path: str) -> list[Problem]:
    """What is wrong with a run's name; None is none given."""
    if name is None or (1 <= len(name) <= 200 and texts.is_storable(name)):
        return []
    return [Problem(path, "a name has 1 to 200 characters")]


def notes_problems(notes: str | None, *path: str) -> list[Problem]:
    """What is wrong with notes."""
    if notes is None or (len(notes) <= MOST_NOTES and texts.is_storable(notes)):
        return []
    return [Problem(path, f"notes have at most {MOST_NOTES} characters, none of them NUL")]


def tag_problems(tags: Tags, *path: str) -> list[Problem]:
    """What is wrong with tags that are given together."""
    problems: list[Problem] = []
    if len(tags) > MOST_TAGS:
        problems.append(Problem(path, f"a run has at most {MOST_TAGS} tags"))
    if len({name for name, _ in tags}) < len(tags):
        problems.append(Problem(path, "a tag is named twice"))
    for index, (name, value) in enumerate(tags):
        if not 1 <= len(name) <= 100 or len(value) > 500 or not texts.is_storable(name + value):
            rule = "a tag has a name of 1 to 100 and a value of up to 500 characters"
            problems.append(Problem((*path, str(index)), rule))
    return problems
