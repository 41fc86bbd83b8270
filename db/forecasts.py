"""Forecasts: what a run would be if it were started now. Nothing is written, nothing is locked.

It is made of the plan that a start is made of, so that both find the same mistakes; what is added is what
somebody wants to know beforehand: what each job would read, whether its backend has that much and its module
is ready there, and whether it would take over what another job has done. What earlier steps decide is left open.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db import (
    admission,
    backends,
    dataset_uses,
    families,
    pipelines,
    plans,
    policies,
    preparations,
    readiness,
    reuse,
    selections,
    starts,
    verdicts,
)
from db.backends import Backend
from db.database import Session
from db.errors import Problem
from db.expansions import Member
from db.manifests import Scalar
from db.plans import Plan, StartSpec
from db.preparations import Preparation
from db.readiness import Known
from db.selections import Bound, Candidate, Chosen
from db.states import PreparationState
from db.viewers import Viewer

MOST_NAMES = 100
"""Of the files that a selection picks, so many are named; all are counted."""
_MOST_CHECKED = 100_000
"""So many inputs, of all jobs together, are looked at for what would become of them: some 0.2 s."""
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """What a selection would pick: from these jobs, or (None) of the run's own files, which are known already."""

    jobs: Sequence[str] | None
    files: str
    prefix: bool
    names: Sequence[str] | None
    count: int | None


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job to be. `rejection` and `bad_input` say why it could never run; `reuses` is a job's id."""

    label: str
    step: str
    matrix: Mapping[str, Scalar]
    function_id: bytes
    arguments: Mapping[str, Any]
    needs: Sequence[str]
    awaits: Sequence[str]
    when: str | None
    inputs: Sequence[PlannedInput]
    workers: int
    cpus: float | None
    memory_bytes: int | None
    gpus: int
    timeout_seconds: float | None
    retries: int
    retry: Sequence[policies.Rule]
    cache: bool
    preparation_id: bytes | None
    prepared: bool
    rejection: str | None
    bad_input: str | None
    reuses: bytes | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a start would come to. `started` is the run that its key has started; with `problems` there is none."""

    revision_id: bytes | None
    problems: Sequence[Problem]
    jobs: Sequence[PlannedJob]
    started: bytes | None = None


async def make(session: Session, viewer: Viewer, spec: StartSpec) -> Forecast:
    """What `starts.start` would do; raises what that raises, but tells what is wrong with the plan.

    With problems its jobs are those that are right.
    """
    pipeline = await pipelines.get_startable(session, viewer, spec.pipeline_id)
    if spec.idempotency_key is not None:
        key, digest = spec.idempotency_key, spec.sha256()
        started = await starts.look_up(session, pipeline.project_id, key, digest)
        if started is not None:
            return Forecast(None, [], [], started)
    await families.require_parent(session, viewer, pipeline.project_id, spec.parent_id)
    plan = await plans.make(session, viewer, pipeline, spec)
    jobs = await _Planner(session, pipeline.project_id, plan).jobs(spec.backend)
    return Forecast(plan.revision_id, plan.problems, jobs)


class _Planner:
    """Says what is known of a plan's jobs; what many of them share is found once."""

    def __init__(self, session: Session, project_id: bytes, plan: Plan) -> None:
        self._session = session
        self._project_id = project_id
        self._plan = plan
        self._labels = {member.position: member.label for member in plan.members}
        self._own = [Candidate(row.id, row.name, row.sha256 or "", row.tags) for row in plan.files]
        self._named: dict[tuple[int, ...], list[str]] = {}
        self._inputs: dict[Bound, PlannedInput] = {}
        self._chosen: dict[tuple[Bound, ...], tuple[list[Chosen], list[str]]] = {}
        self._checked = 0

    async def jobs(self, backend_name: str) -> list[PlannedJob]:
        """The jobs of the plan's rows, in order."""
        members = {member.position: member for member in self._plan.members}
        rows = [_Row(**{name: row[name] for name in _Row.__slots__}) for row in self._plan.jobs]
        functions = await readiness.functions_of(self._session, {row.function_id for row in rows})
        backend = await self._session.find(Backend, select(Backend).where(Backend.name == backend_name))
        bounds = {} if backend is None else backends.bounds(backend)
        ready = await self._preparations({row.version_id for row in rows}, backend)
        parts = await dataset_uses.parts_of(self._session, self._plan.datasets)
        keys: dict[int, bytes] = {}
        refusals: dict[int, str | None] = {}
        for index, row in enumerate(rows):
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)  # whoever else waits for the loop
            selected = members[row.position].selections
            known = functions[row.function_id]
            if self._is_known(selected):
                chosen, missing = self._choose(selected)
                refusals[row.position] = readiness.refusal(known.spec, row.arguments, chosen, missing)
                if row.cache and not self._plan.sources and refusals[row.position] is None:
                    keys[row.position] = _key(row, known, chosen, parts)
        reused = await reuse.foresee(self._session, self._project_id, set(keys.values()))
        return [
            self._job(
                members[row.position],
                row,
                preparation=ready.get(row.version_id),
                rejection=admission.excess(backend_name, bounds, row),
                bad_input=refusals.get(row.position),
                reuses=reused.get(keys.get(row.position, b"")),
            )
            for row in rows
        ]

    async def _preparations(self, versions: set[bytes], backend: Backend | None) -> dict[bytes, Preparation]:
        """How far each version is made ready for a backend: of several hosts where it is ready, if anywhere."""
        if backend is None or not versions:
            return {}
        found: dict[bytes, Preparation] = {}
        for row in await preparations.of_versions(self._session, versions):
            kept = found.get(row.version_id)
            if row.backend_id == backend.id and (kept is None or kept.state is not PreparationState.READY):
                found[row.version_id] = row
        return found

    def _is_known(self, selected: Sequence[Bound]) -> bool:
        """Whether what a job reads is known, and is still to be looked at: files of the run, and not too many."""
        if any(bound.jobs is not None for bound in selected):
            return False
        self._checked += len(self._own)
        return self._checked <= _MOST_CHECKED

    def _choose(self, selected: tuple[Bound, ...]) -> tuple[list[Chosen], list[str]]:
        """What selections of the run's files pick, and in words which of them pick nothing."""
        if selected not in self._chosen:
            chosen, empty = selections.choose(selected, self._own, {})
            missing = [selections.words(bound, self._labels) for bound in empty]
            self._chosen[selected] = (chosen, missing)
        return self._chosen[selected]

    def _job(
        self,
        member: Member,
        row: "_Row",
        *,
        preparation: Preparation | None,
        rejection: str | None,
        bad_input: str | None,
        reuses: bytes | None,
    ) -> PlannedJob:
        return PlannedJob(
            label=member.label,
            step=member.step.name,
            matrix=member.combination,
            function_id=row.function_id,
            arguments=row.arguments,
            needs=self._labels_of(member.needs),
            awaits=self._labels_of(member.awaits),
            when=None if member.condition is None else verdicts.wording(member.condition),
            inputs=[self._input(bound) for bound in member.selections],
            workers=row.workers,
            cpus=row.cpus,
            memory_bytes=row.memory_bytes,
            gpus=row.gpus,
            timeout_seconds=row.timeout_seconds,
            retries=row.retries,
            retry=policies.decode(row.retry).rules,
            cache=row.cache,
            preparation_id=None if preparation is None else preparation.id,
            prepared=preparation is not None and preparation.state is PreparationState.READY,
            rejection=rejection,
            bad_input=bad_input,
            reuses=reuses,
        )

    def _labels_of(self, positions: tuple[int, ...]) -> list[str]:
        if positions not in self._named:
            self._named[positions] = [self._labels[position] for position in positions]
        return self._named[positions]

    def _input(self, bound: Bound) -> PlannedInput:
        if bound not in self._inputs:
            self._inputs[bound] = self._described(bound)
        return self._inputs[bound]

    def _described(self, bound: Bound) -> PlannedInput:
        if bound.jobs is not None:
            return PlannedInput(self._labels_of(bound.jobs), bound.files, bound.prefix, None, None)
        picked = [one.name for one in self._choose((bound,))[0]]
        return PlannedInput(None, bound.files, bound.prefix, picked[:MOST_NAMES], len(picked))


@dataclass(frozen=True, slots=True)
class _Row:
    """What of a planned job's row is needed here."""

    position: int
    function_id: bytes
    version_id: bytes
    arguments: dict[str, Any]
    workers: int
    cpus: float | None
    memory_bytes: int | None
    gpus: int
    timeout_seconds: float | None
    retries: int
    retry: dict[str, Any] | None
    cache: bool


def _key(row: _Row, known: Known, chosen: Sequence[Chosen], parts: Mapping[bytes, Sequence[str]]) -> bytes:
    return reuse.key_of(known.digest, known.spec.name, row.arguments, chosen, parts, row.workers, row.gpus)
