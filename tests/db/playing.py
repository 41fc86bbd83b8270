"""Playing runs through the real commands, beside the model: whatever was done, both must stand alike.

A `Play` does one thing after another to its runs, tells the model what was done when, and compares every job
and run after each. `audit` reads what a run's feed told of it all.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import select

from db import errors, feeds, ids, jobs, reports, retries, runs
from db.claims import Launch
from db.database import Database
from db.feeds import Subject
from db.jobs import Direction
from db.manifests import Accept, Option, OptionType
from db.metrics import Chunk
from db.policies import Policy, Rule
from db.states import EndReason
from tests.db import model
from tests.db.model import ENDS, ONWARD, RETRIES, File, Key, Run, Stand, Try
from tests.db.world import World, function, made, report, written

_OPTIONS = tuple(Option(name, OptionType.INT, default=value) for name, value in model.OPTIONS.items())
FUNCTIONS = tuple(
    function(
        address.removeprefix("ml/"),
        options=_OPTIONS,
        retries=granted,
        retry=Policy(
            tuple(Rule(EndReason(why), times) for why, times in model.RULES.get(address, {}).items())
        ),
        accepts=(Accept(),) if address in model.TAKES_FILES else (),
    )
    for address, granted in RETRIES.items()
)


@dataclass
class Play:
    """Runs under way. `launches` are those of attempts, by run, label and number of the attempt."""

    world: World
    given: Mapping[str, bytes]
    runs: list[Run] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    launches: dict[tuple[int, str, int], Launch] = field(default_factory=dict)
    stands: model.Stands = field(default_factory=dict)
    clock: int = 0

    @classmethod
    async def anew(cls, database: Database, names: Sequence[str]) -> "Play":
        """A play with files of these names, a backend and a version of its modules of its own."""
        world = await World.make(database, *FUNCTIONS, name=f"b{ids.new().hex()}")
        return cls(world, {name: await world.upload(name, name) for name in names})

    def tick(self) -> int:
        """The number of what is being done."""
        self.clock += 1
        return self.clock

    async def start(self, steps: Sequence[model.Document], names: Sequence[str] = (), **values: Any) -> None:
        """Start a run of these steps on the files of these names."""
        files = tuple(File(None, 0, name, _sha256(name)) for name in names)
        self.runs.append(Run(steps, self.tick(), files=files, **values))
        asked = {"files": [self.given[name] for name in names], "backend": self.world.backend.name, **values}
        self.ids.append(await self.world.start(written(*steps), **asked))
        await self.check()

    async def retry(self, number: int, whole: bool) -> None:
        """Retry a run; where that is nothing to do, see it refused."""
        old = self.runs[number]
        states = [self.stands[number, label].state for label in old.jobs]
        state = model.run_state(old, states)
        refused: Any = contextlib.nullcontext()
        if state not in ENDS:
            refused = pytest.raises(errors.Conflict)
        elif state == "SUCCEEDED" and not whole:
            refused = pytest.raises(errors.Invalid)
        begin = retries.From.START if whole else retries.From.FAILURE
        with refused:
            async with self.world.database.begin() as session:
                new = await retries.retry(session, self.world.viewer, self.ids[number], begin)
            self.ids.append(new)
            run = replace(old, began=self.tick(), tries={}, cancelled=None, retry_of=number, whole=whole)
            self.runs.append(run)
            await self.check()

    async def claim(self, most: int, script: Callable[[Key, int], Try]) -> None:
        """Claim at most so many jobs, each to follow a script; as many as the model has in the queue are found."""
        queued = set(self.standing("QUEUED"))
        for number in {number for number, label in queued if self.runs[number].tries.get(label)}:
            await self.world.wait_out(self.ids[number])
        claimed = await self.world.claim_all(most)
        numbers = {run_id: number for number, run_id in enumerate(self.ids)}
        keys = [(numbers[run_id], label) for run_id, label in claimed]
        assert set(keys) <= queued
        assert len(keys) == min(most, len(queued))
        self.tick()
        for (number, label), launch in zip(keys, claimed.values(), strict=True):
            assert launch.number == len(self.runs[number].tries.get(label, ())) + 1
            self.launches[number, label, launch.number] = launch
            self.runs[number].tries.setdefault(label, []).append(script((number, label), self.clock))
        await self.check()

    def standing(self, *states: str) -> list[Key]:
        """The jobs that stand so."""
        return [key for key, one in self.stands.items() if one.state in states]

    async def begin(self, key: Key) -> None:
        """Report that the attempt of a job runs."""
        script = self.runs[key[0]].tries[key[1]][-1]
        await self.world.begin(self._launch(key))
        script.begun = True
        self.tick()
        await self.check()

    async def end(self, key: Key) -> None:
        """Report what the attempt of a job measured, and that it ended; and once more, which changes nothing."""
        script, launch = self.runs[key[0]].tries[key[1]][-1], self._launch(key)
        if script.metrics:
            await report(
                self.world, launch, **{name: list(values) for name, values in script.metrics.items()}
            )
        reason = EndReason(script.reason)
        if reason is EndReason.TIMED_OUT:  # it is asked to stop, and then ends by itself
            async with self.world.database.begin() as session:
                asked = (session, self.world.supervisor, launch.attempt_id, launch.feed_id)
                await reports.time_out(*asked, grace_seconds=1.0)
            reason = EndReason.COMPLETED
        outputs = [made(file.name, sha256=file.content, tags=dict(file.tags)) for file in script.files]
        script.ended = self.tick()
        assert await self.world.end(launch, reason, *outputs)
        assert not await self.world.end(launch, EndReason.EXIT_CODE)
        await self.check()

    async def cancel(self, number: int) -> None:
        """Cancel a run, perhaps a second time or too late."""
        await self.world.cancel(self.ids[number])
        states = {self.stands[number, label].state for label in self.runs[number].jobs}
        if self.runs[number].cancelled is None and not states <= ENDS:
            self.runs[number].cancelled = self.tick()
        await self.check()

    def _launch(self, key: Key) -> Launch:
        return self.launches[(*key, len(self.runs[key[0]].tries[key[1]]))]

    async def check(self) -> None:
        """Compare how everything stands with what the model says."""
        self.stands = model.predict(self.runs, self.stands)
        async with self.world.database.read() as session:
            rows = await runs.find_runs(session, self.world.viewer, self.ids)
            members = await jobs.of_runs(session, self.ids)
        found = {row.id: row.state.value for row in rows}
        for number, (run, run_id) in enumerate(zip(self.runs, self.ids, strict=True)):
            said = {label: self.stands[number, label].state for label in run.jobs}
            assert {job.step: job.state.value for job in members if job.run_id == run_id} == said
            assert found[run_id] == model.run_state(run, list(said.values()))


async def audit(play: Play, number: int) -> None:
    """Check what came of a run that has ended, and what its feed told on the way."""
    run, run_id = play.runs[number], play.ids[number]
    said = {label: play.stands[number, label] for label in run.jobs}
    found = await play.world.jobs(run_id)
    assert {stand.state for stand in said.values()} <= ENDS
    for label, job in found.items():
        assert job.attempts == len(run.tries.get(label, ()))
        origin = said[label].origin
        taken = None if origin is None else (await play.world.jobs(play.ids[origin[0]]))[origin[1]].id
        assert job.reused_from == taken
    await _audit_files(play, found, said)
    events = await play.world.events(run_id)
    async with play.world.database.read() as session:
        feed = await feeds.head(session, (await play.world.run(run_id)).feed_id)
        assert feed is not None
        points = select(Chunk.first_seq).where(Chunk.feed_id == feed.id)
        numbers = {event.seq for event in events} | set((await session.execute(points)).scalars())
    assert feed.ended and numbers == set(range(1, feed.seq + 1))
    _audit_moves(run, events, {job.id: label for label, job in found.items()})
    told = [event.data["state"] for event in events if event.subject is Subject.RUN]
    assert events[-1].subject is Subject.RUN and set(told[:-1]).isdisjoint(ENDS)
    assert told[-1] == model.run_state(run, [stand.state for stand in said.values()])
    assert len(told) == len(set(told))


async def _audit_files(play: Play, found: Mapping[str, jobs.Job], said: Mapping[str, Stand]) -> None:
    """What each hands on is what the model says, and what it took over is the very same file."""
    labels = {job.id: label for label, job in found.items()}
    async with play.world.database.read() as session:
        rows = await jobs.files_of(session, list(labels), Direction.OUTPUT)
    handed: dict[str, list[tuple[str, str]]] = {label: [] for label in found}
    for row in rows:
        handed[labels[row.owner]].append((row.name, row.sha256))
    assert handed == {label: [(f.name, f.content) for f in one.files] for label, one in said.items()}


def _audit_moves(run: Run, events: Sequence[feeds.Event], labels: Mapping[bytes, str]) -> None:
    """Every job moved along the order, and was queued only when all that it hangs on had ended."""
    state: dict[str, str] = {}
    for event in events:
        if event.subject is not Subject.JOB:
            continue
        label, to = labels[event.subject_id], event.data["state"]
        if label in state:
            assert to in ONWARD[state[label]], f"{label}: {state[label]} → {to}"
        else:
            assert to in ("WAITING", "SUCCEEDED")
        if to == "QUEUED":
            assert {state[need] for need in run.jobs[label].needs} <= {"SUCCEEDED"}
            assert {state[awaited] for awaited in run.jobs[label].awaits} <= ENDS
        state[label] = to


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
