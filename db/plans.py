"""Plans: what a run would consist of, from a revision and what its user asks for. Nothing is written.

Every mistake is found here, at once. What comes out is frozen: function versions, arguments with their
defaults, resources and limits of each job. starts.py inserts it.
"""

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from db import (
    dataset_uses,
    expansions,
    ids,
    labels,
    manifests,
    matrices,
    modules,
    pipelines,
    policies,
    resources,
    secrets,
    source_uses,
    steps,
    texts,
)
from db.backends import Backend
from db.data_sources import DataSource
from db.database import Session
from db.errors import Problem
from db.expansions import Member
from db.files import File, FileState
from db.requests import Request
from db.states import JobState
from db.steps import StepSpec
from db.viewers import Viewer

PRIORITIES = range(-1000, 1001)


class IfBusy(enum.Enum):
    """What to do with a run that would have to wait (vacancies.py)."""

    QUEUE = "QUEUE"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSpec(Request):
    """A request of one start. Without `revision_id` it is of the pipeline's latest revision."""

    pipeline_id: bytes
    idempotency_key: str | None = None
    revision_id: bytes | None = None
    parent_id: bytes | None = None
    based_on: bytes | None = None
    digest: bytes | None = None
    if_busy: IfBusy = IfBusy.QUEUE

    def sha256(self) -> bytes:
        """The digest that tells a repeated request from another one under the same key.

        Of anything that JSON can say, as it is taken before anything is checked. It is `digest` for what
        another request was made into.
        """
        if self.digest is not None:
            return self.digest
        content: list[Any] = [
            self.pipeline_id.hex(),
            self.backend,
            self.name,
            self.priority,
            sorted(json.dumps([step, dict(given)], sort_keys=True) for step, given in self.arguments),
            [file.hex() for file in self.files],
            sorted(self.tags),
            self.fail_fast,
        ]
        if self.revision_id is not None:  # what older requests did not know leaves their digests as they are
            content.append(["revision", self.revision_id.hex()])
        if self.datasets:
            content.append(["datasets", *(use.document() for use in self.datasets)])
        if self.sources:
            content.append(["sources", *(key.hex() for key in self.sources)])
        if self.parent_id is not None:
            content.append(["parent", self.parent_id.hex()])
        if not self.cache:
            content.append(["cache", False])
        if self.resources:
            content.append(["resources", *(each.document() for each in self.resources)])
        if self.if_busy is not IfBusy.QUEUE:
            content.append(["ifBusy", self.if_busy.value])
        if self.retry:
            content.append(["retry", *policies.documents(self.retry)])
        return hashlib.sha256(json.dumps(content).encode()).digest()


@dataclass(frozen=True, slots=True)
class Plan:
    """The revision that is executed, what its jobs are, their rows without what all of a run share, its files.

    `datasets` are the versions whose files are among these, each with the chosen parts. With `problems` it
    cannot be started, and rows and files are only those that are right.
    """

    revision_id: bytes
    members: list[Member]
    jobs: list[dict[str, Any]]
    files: list[File]
    datasets: list[tuple[bytes, list[str]]]
    sources: list[DataSource]
    problems: list[Problem]


# Built once: building a statement costs as much as running it.
_BACKEND = select(Backend.id).where(Backend.name == bindparam("backend"), Backend.retired_at.is_(None))
_BACKENDS = select(Backend.name).where(Backend.retired_at.is_(None)).order_by(Backend.name).limit(20)


async def make(session: Session, viewer: Viewer, pipeline: pipelines.Pipeline, spec: StartSpec) -> Plan:
    """Check and freeze everything; every mistake is told. Raises NotFound for a revision of another pipeline."""
    revision = await pipelines.get_revision(session, viewer, pipeline, spec.revision_id)
    written = steps.specs_of(await steps.steps_of(session, [revision.id]))
    problems = _spec_problems(spec, [step.name for step in written])
    files, missing = await _files(session, viewer, pipeline.project_id, spec.files)
    problems += policies.problems(spec.retry)
    problems += missing + resources.problems(spec.resources, [step.name for step in written])
    chosen = await dataset_uses.choose(session, pipeline.project_id, spec.datasets)
    problems += chosen.problems
    sources = await source_uses.choose(session, pipeline.project_id, spec.sources)
    problems += sources.problems
    names = {step.address.partition("/")[0] for step in written}
    functions = await modules.addressed(session, pipeline.project_id, names)
    backend: bytes | None = await session.scalar(_BACKEND, {"backend": spec.backend})
    if backend is None:
        known = (await session.execute(_BACKENDS)).scalars().all()
        there = f"; there are {', '.join(known)}" if known else ""
        message = f"there is no backend named {ids.shorten(spec.backend)!r}{there}"
        problems.append(Problem(("backend",), message))
    problems += await _unset(session, pipeline.project_id, written, functions)
    overrides = {step: (index, given) for index, (step, given) in enumerate(spec.arguments)}
    members = expansions.expand(written)
    of_step: dict[str, list[Member]] = {}
    for member in members:
        of_step.setdefault(member.step.name, []).append(member)
    planned: list[dict[str, Any]] = []
    for step in written:
        rows, wrong = _jobs(step, of_step[step.name], functions, *overrides.get(step.name, (None, {})))
        problems += wrong
        asked = resources.replaced(step.name, spec.resources)
        planned += [
            {
                **row,
                **asked,
                "retry": _retry(row, spec),
                "backend_id": backend,
                "cache": step.cache and spec.cache,
            }
            for row in rows
        ]
    given_files = dataset_uses.joined(files, chosen)
    return Plan(revision.id, members, planned, given_files, chosen.versions, sources.sources, problems)


async def _unset(
    session: Session, project_id: bytes, given: Sequence[StepSpec], functions: Mapping[str, Any]
) -> list[Problem]:
    """The secrets that functions need and nobody has set."""
    needed = [
        (step.name, name)
        for step in given
        if step.address in functions
        for name in functions[step.address].spec.get("secrets", ())
    ]
    missing = await secrets.missing(session, project_id, {name for _, name in needed})
    return [
        Problem(("pipeline",), f"{step}: needs the secret {name}, which is not set")
        for step, name in needed
        if name in missing
    ]


def _jobs(
    step: StepSpec,
    members: Sequence[Member],
    functions: Mapping[str, Any],
    index: int | None,
    given: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The rows of a step's jobs, or what is wrong with them. They differ in what its matrix varies."""
    function = functions.get(step.address)
    if function is None:
        message = f"{step.name}: {steps.unknown_function(step.address, functions)}"
        return [], [Problem(("pipeline",), message)]
    spec = manifests.decode_function(function.spec)
    resolved = manifests.resolve(spec, {**step.arguments, **given, **members[0].combination})
    at = ("arguments", *(() if index is None else (str(index), "arguments")))
    problems = [
        Problem((*at, *map(str, p.path)), f"{step.name}: {p.path[0]} {p.message}")
        for p in resolved.problems
        if p.path[0] not in step.matrix
    ]
    unfit = matrices.option_problems(spec, step.matrix, {})
    problems += [Problem(("pipeline",), f"{step.name}: {p.message}, in its matrix") for p in unfit]
    varied = [name for name in given if name in step.matrix]
    problems += [Problem((*at, name), f"{step.name}: {name} is varied by its matrix") for name in varied]
    if problems:
        return [], problems
    common = {
        "function_id": function.id,
        "version_id": function.version_id,
        "workers": spec.workers,
        "cpus": spec.resources.cpus,
        "memory_bytes": spec.resources.memory_bytes,
        "gpus": spec.resources.gpus,
        "timeout_seconds": spec.timeout_seconds,
        "retries": spec.retries,
        "retry": spec.retry,
        "state": JobState.WAITING,
    }
    rows = [
        {
            "id": ids.new(),
            **common,
            **member.row(),
            "arguments": {**resolved.arguments, **matrices.normal(spec, member.combination)},
        }
        for member in members
    ]
    return rows, []


def _retry(row: Mapping[str, Any], spec: StartSpec) -> dict[str, Any] | None:
    policy: policies.Policy = row["retry"]
    return policies.encode(policy.overlaid(spec.retry))


def _spec_problems(spec: StartSpec, names: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    for index, (step, _) in enumerate(spec.arguments):
        if step not in names:
            close = texts.suggestion(step, names)
            problems.append(
                Problem(("arguments", str(index), "step"), f"no step is named {ids.shorten(step)!r}{close}")
            )
    if len({step for step, _ in spec.arguments}) < len(spec.arguments):
        problems.append(Problem(("arguments",), "a step is named twice"))
    if spec.priority not in PRIORITIES:
        problems.append(Problem(("priority",), f"a priority is {PRIORITIES[0]} to {PRIORITIES[-1]}"))
    problems += labels.tag_problems(spec.tags, "tags")
    problems += labels.name_problems(spec.name, "name")
    return problems


async def _files(
    session: Session, viewer: Viewer, project_id: bytes, keys: Sequence[bytes]
) -> tuple[list[File], list[Problem]]:
    if not keys:
        return [], []
    rows = await session.all(File, select(File).where(File.id.in_(keys), File.project_id == project_id))
    found = {row.id: row for row in rows}
    problems: list[Problem] = []
    for index, key in enumerate(keys):
        at = ("files", str(index))
        if key not in found:
            problems.append(Problem(at, f"there is no file {ids.encode('file', key)} in this project"))
        elif found[key].state is not FileState.READY:
            problems.append(Problem(at, f"{found[key].name}: its upload is not complete"))
        elif key in keys[:index]:
            problems.append(Problem(at, f"{found[key].name} is given twice"))
    return [found[key] for key in keys if key in found], problems
