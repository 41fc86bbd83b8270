"""Selections: which files a step reads, from which earlier step or from the run itself, by a glob of the name.

Without any, a step reads what the steps it needs hand on, and a first step the run's files. A selection
frozen with a job (`Bound`) names the positions of jobs in its run; `choose` picks the files once they are
known. Pure.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import contracts, manifests, matrices, texts
from db.errors import Problem
from db.manifests import Scalar

MOST = 100
_KEYS = ("step", "matrix", "files", "prefix")
_UNFIT = re.compile(r"[^\w.,=+\[\]@ -]")


@dataclass(frozen=True, slots=True)
class Source:
    """Jobs of an earlier step: all of them, or those whose combination has these values."""

    step: str
    matrix: Mapping[str, Scalar] = field(default_factory=dict)

    def takes(self, combination: Mapping[str, Scalar]) -> bool:
        """Whether the job of a combination is one of them."""
        return all(
            name in combination and matrices.equal(combination[name], value)
            for name, value in self.matrix.items()
        )

    def encode(self) -> dict[str, Any]:
        """As it is written."""
        return {"step": self.step, **({"matrix": dict(self.matrix)} if self.matrix else {})}


@dataclass(frozen=True, slots=True)
class Selection:
    """Files whose names fit the glob, of a source or (None) of the run; `prefix` puts the job's label first."""

    source: Source | None = None
    files: str = "*"
    prefix: bool = False

    def encode(self) -> dict[str, Any]:
        """As it is written, without what is so by default."""
        document = self.source.encode() if self.source else {}
        if self.files != "*" or not document:
            document["files"] = self.files
        return {**document, "prefix": True} if self.prefix else document

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> "Selection":
        """What `encode` made."""
        source = Source(document["step"], document.get("matrix", {})) if "step" in document else None
        return cls(source, document.get("files", "*"), document.get("prefix", False))


@dataclass(frozen=True, slots=True)
class Bound:
    """A selection frozen with a job: `jobs` are positions in its run, None is the run itself.

    `asked` is False for what a step reads without having said so.
    """

    jobs: tuple[int, ...] | None
    files: str = "*"
    prefix: bool = False
    asked: bool = True

    def encode(self) -> dict[str, Any]:
        """As JSON holds it."""
        jobs = None if self.jobs is None else list(self.jobs)
        return {"jobs": jobs, "files": self.files, "prefix": self.prefix, "asked": self.asked}

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> "Bound":
        """What `encode` made."""
        jobs = document["jobs"]
        return cls(
            None if jobs is None else tuple(jobs), document["files"], document["prefix"], document["asked"]
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be chosen: `made_by` is its job's label, empty for the run's own; tags as it has them."""

    file_id: bytes
    name: str
    sha256: str
    tags: Mapping[str, Scalar]
    made_by: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A file that a job reads, by the name it sees."""

    file: Candidate
    name: str

    @property
    def contract(self) -> contracts.JobFile:
        """The file as the job contract knows it."""
        origin = f"step {self.file.made_by}" if self.file.made_by else "the run"
        return contracts.JobFile(self.name, self.file.tags, origin)


def read(value: Any, at: tuple[str, ...]) -> tuple[tuple[Selection, ...] | None, list[Problem]]:
    """Selections as their author wrote them, and what is wrong with them; None is none."""
    if value is None:
        return None, []
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST:
        return None, [Problem(at, f"is a list of 1 to {MOST} selections")]
    found, problems = [], []
    for index, item in enumerate(value):
        selection, wrong = _one(item, (*at, str(index)))
        problems += wrong
        found.append(selection)
    return tuple(found), problems


def _one(value: Any, at: tuple[str, ...]) -> tuple[Selection, list[Problem]]:
    if not isinstance(value, Mapping):
        message = f"a selection is an object with a step, files or both, not {texts.shown(value)}"
        return Selection(), [Problem(at, message)]
    problems = unknown_keys(value, _KEYS, at)
    source, wrong = read_source(value, at)
    problems += wrong
    given = value.get("files")
    files = "*" if given is None else str(given)
    if refused := texts.refusal(files if given is None else given):
        problems.append(Problem((*at, "files"), f"a glob {refused}"))
    elif not 1 <= len(files) <= 255:
        problems.append(Problem((*at, "files"), "a glob has 1 to 255 characters"))
    prefix = value.get("prefix") or False
    if not isinstance(prefix, bool):
        problems.append(Problem((*at, "prefix"), "is true or false"))
    elif prefix and source is None:
        problems.append(Problem((*at, "prefix"), "the run's own files have no step to be named after"))
    return Selection(source, files, prefix is True), problems


def read_source(value: Mapping[str, Any], at: tuple[str, ...]) -> tuple[Source | None, list[Problem]]:
    """The source that `step` and `matrix` of an object name, if they do."""
    step, matrix = value.get("step"), value.get("matrix")
    if step is None:
        if matrix is None:
            return None, []
        return None, [Problem((*at, "matrix"), "belongs to a step: name it")]
    if refused := texts.refusal(step):
        return None, [Problem((*at, "step"), f"a step's name {refused}")]
    if matrix is None:
        return Source(step), []
    if not isinstance(matrix, Mapping) or not matrix:
        return Source(step), [Problem((*at, "matrix"), "is an object of values by option")]
    problems = [
        Problem((*at, "matrix", str(name)), refused)
        for name, item in matrix.items()
        if (refused := texts.refusal(name) or manifests.tag_refusal(None, item))
    ]
    return Source(step, {} if problems else dict(matrix)), problems


def unknown_keys(value: Mapping[str, Any], known: Sequence[str], at: tuple[str, ...]) -> list[Problem]:
    """Keys that mean nothing here, with the ones that were probably meant."""
    strange = [str(name) for name in value if name not in known][: manifests.MOST_PROBLEMS]
    return [
        Problem((*at, name), f"is unknown here{texts.suggestion(name, known)}; known: {', '.join(known)}")
        for name in strange
    ]


def choose(
    bound: Sequence[Bound], own: Sequence[Candidate], made: Mapping[int, Sequence[Candidate]]
) -> tuple[list[Chosen], list[Bound]]:
    """The files that selections pick, each once, and the selections that were asked for and pick none.

    `own` are the run's files, `made` what jobs hand on, by position.
    """
    chosen: dict[tuple[bytes, str], Chosen] = {}
    empty: list[Bound] = []
    for selection in bound:
        candidates = (
            own if selection.jobs is None else [f for job in selection.jobs for f in made.get(job, ())]
        )
        picked = [file for file in candidates if fnmatch.fnmatchcase(file.name, selection.files)]
        if not picked and selection.asked:
            empty.append(selection)
        for file in picked:
            name = _prefixed(file) if selection.prefix else file.name
            chosen.setdefault((file.file_id, name), Chosen(file, name))
    return list(chosen.values()), empty


def _prefixed(file: Candidate) -> str:
    """The label of a file's job and its name, where a label has what no file's name can have, `_`."""
    return f"{_UNFIT.sub('_', file.made_by)}-{file.name}"


def requires_files(function: manifests.Function) -> bool:
    """Whether a function makes no sense without files: it says which it takes, or an option must name one."""
    named = any(option.type is manifests.OptionType.FILE and option.required for option in function.options)
    return bool(function.accepts) or named


def words(selection: Bound, labels: Mapping[int, str]) -> str:
    """What a selection asks for, to people."""
    what = "file" if selection.files == "*" else f"file like {selection.files!r}"
    if selection.jobs is None:
        return f"the run has no {what}"
    names = [labels[job] for job in selection.jobs]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} handed on no {what}"
