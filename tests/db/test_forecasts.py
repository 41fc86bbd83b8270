"""Forecasts: what a start would do and which mistakes it would tell, exactly, with nothing written."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from db import data_sources, deletions, errors, forecasts, jobs, resources
from db.columns import Base
from db.database import Database
from db.forecasts import Forecast, PlannedJob
from db.manifests import Accept, Option, OptionType
from db.policies import Policy, Rule
from db.starts import StartSpec
from db.states import EndReason
from db.viewers import Kind, Viewer
from tests.db.world import GIB, World, few, function, made, report, written

TRAIN = function(
    "train",
    options=(Option("rate", OptionType.FLOAT, default=1.0, minimum=0), Option("word", OptionType.STR)),
    retries=2,
    retry=Policy((Rule(EndReason.LOST, 0), Rule(EndReason.EXIT_CODE, 1))),
    timeout_seconds=60.0,
)
READ = function("read", accepts=(Accept(types=("csv",)),))
SWEEP = {"name": "fit", "function": "ml/train", "matrix": {"rate": [0.5, 2]}}


async def _foresee(world: World, pipeline: bytes | Mapping[str, Any], **values: Any) -> Forecast:
    pipeline_id = pipeline if isinstance(pipeline, bytes) else await world.draw(pipeline)
    viewer = values.pop("viewer", world.viewer)
    spec = StartSpec(pipeline_id=pipeline_id, backend=values.pop("backend", "local"), **values)
    async with world.database.read() as session:
        return await forecasts.make(session, viewer, spec)


async def _jobs(world: World, *steps: dict[str, Any], **values: Any) -> dict[str, PlannedJob]:
    forecast = await _foresee(world, written(*steps), **values)
    assert not forecast.problems, forecast.problems
    return {job.label: job for job in forecast.jobs}


async def _counts(database: Database) -> dict[str, int]:
    """How many rows there are of everything, and how far every feed is."""
    async with database.read() as session:
        found = {
            name: await session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }
        found["events"] = await session.scalar(text("SELECT sum(seq) FROM feeds"))
    return found


async def test_a_forecast_says_what_the_jobs_would_be(database: Database) -> None:
    world = await World.make(database, TRAIN)
    best = {"step": "fit", "metric": "loss", "of": "MIN", "op": "LT", "value": 0.1, "jobs": "ANY"}
    planned = await _jobs(
        world,
        SWEEP,
        {"name": "best", "function": "ml/train", "when": best, "inputs": [{"step": "fit", "files": "*.pt"}]},
        {"name": "tell", "function": "ml/train", "needs": [], "when": {"step": "best", "state": "FAILED"}},
        files=[await world.upload("a.csv")],
        arguments=[("best", {"word": "x"})],
        resources=[resources.StepResources("fit", workers=3, cpus=2.0)],
        retry=[Rule(EndReason.EXIT_CODE, 5)],
    )
    fit = planned["fit[rate=0.5]"]
    assert list(planned) == ["fit[rate=0.5]", "fit[rate=2]", "best", "tell"]
    assert (fit.step, fit.matrix, fit.arguments) == ("fit", {"rate": 0.5}, {"rate": 0.5, "word": None})
    assert (fit.workers, fit.cpus, fit.retries, fit.timeout_seconds) == (3, 2.0, 2, 60.0)
    assert list(fit.retry) == [Rule(EndReason.EXIT_CODE, 5), Rule(EndReason.LOST, 0)]
    assert (fit.prepared, fit.rejection, fit.bad_input, fit.reuses) == (True, None, None, None)
    assert [(one.jobs, one.names, one.count) for one in fit.inputs] == [(None, ["a.csv"], 1)]
    asked = planned["best"]
    labels = ["fit[rate=0.5]", "fit[rate=2]"]
    assert (asked.needs, asked.awaits, asked.arguments["word"]) == (labels, [], "x")
    assert asked.when == "the min loss of any job of fit < 0.1"
    assert [(one.jobs, one.files, one.names) for one in asked.inputs] == [(labels, "*.pt", None)]
    assert (planned["tell"].needs, planned["tell"].awaits) == ([], ["best"])
    assert planned["tell"].when == "best ends FAILED"


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"step": "a", "metric": "loss", "op": "GTE", "value": 2}, "the last loss of a ≥ 2"),
        ({"step": "a", "tag": "kind", "op": "NE", "value": "x"}, "the tag kind of a ≠ 'x'"),
        ({"step": "m", "state": "FAILED", "op": "NE"}, "every job of m does not end FAILED"),
        ({"step": "m", "matrix": {"rate": 2}, "state": "FAILED"}, "m[rate=2] ends FAILED"),
        (
            {
                "all": [
                    {"not": {"step": "a", "state": "FAILED"}},
                    {"any": [{"step": "a", "state": "SKIPPED"}, {"step": "a", "state": "CANCELLED"}]},
                ]
            },
            "not (a ends FAILED) and (a ends SKIPPED or a ends CANCELLED)",
        ),
    ],
)
async def test_a_condition_is_told_in_words(database: Database, when: dict[str, Any], said: str) -> None:
    world = await World.make(database, TRAIN)
    sweep = {**SWEEP, "name": "m"}
    first = {"name": "a", "function": "ml/train"}
    planned = await _jobs(world, first, sweep, {"name": "b", "function": "ml/train", "when": when})
    assert planned["b"].when == said


async def test_what_can_never_run_is_foretold_as_it_would_end(database: Database) -> None:
    world = await World.make(database, READ, TRAIN, cpus=4.0, memory_bytes=8 * GIB)
    steps: list[dict[str, Any]] = [
        {"name": "read", "function": "ml/read"},
        {"name": "none", "function": "ml/read", "needs": [], "inputs": [{"files": "*.png"}]},
        {"name": "large", "function": "ml/train", "needs": []},
    ]
    given_: Any = {
        "files": [await world.upload("a.txt")],
        "resources": [resources.StepResources("large", workers=2, cpus=3.0)],
    }
    planned = await _jobs(world, *steps, **given_)
    started = await world.start(written(*steps), **given_)
    await world.claim()
    ended = await world.jobs(started)
    assert (ended["read"].reason, planned["read"].bad_input) == (EndReason.BAD_INPUT, ended["read"].message)
    assert (ended["none"].reason, planned["none"].bad_input) == (EndReason.BAD_INPUT, ended["none"].message)
    rejected = ended["large"]
    assert (rejected.reason, planned["large"].rejection) == (EndReason.LAUNCH_REJECTED, rejected.message)
    assert planned["large"].bad_input is None and planned["read"].rejection is None


async def test_a_version_that_is_not_ready_on_the_backend_is_told(database: Database) -> None:
    world = await World.make(database)
    assert (await _jobs(world, {"name": "a"}))["a"].prepared
    async with database.begin() as session:
        await session.execute(text("UPDATE preparations SET state = 'BUILDING'"))
    waiting = (await _jobs(world, {"name": "a"}))["a"]
    assert not waiting.prepared and waiting.preparation_id is not None


async def test_what_would_be_taken_over_is_named_and_only_where_it_is_known(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps: list[dict[str, Any]] = [
        {"name": "a", "function": "ml/train", "cache": True, "matrix": {"rate": [1, 2]}},
        {"name": "b", "function": "ml/train", "cache": True},
    ]
    files = [await world.upload("a.csv")]
    assert {job.reuses for job in (await _jobs(world, *steps, files=files)).values()} == {None}
    first = await world.start(written(*steps), files=files)
    while launches := await world.claim():
        for launch in launches.values():
            await world.begin(launch)
            await report(world, launch, loss=0.5)
            await world.end(launch, EndReason.COMPLETED, made("model.bin"))
    done = await world.jobs(first)
    planned = await _jobs(world, *steps, files=files)
    repeated = await world.start(written(*steps), files=files)
    again = await world.jobs(repeated)
    for label in ("a[rate=1]", "a[rate=2]"):
        assert planned[label].reuses == again[label].reused_from == done[label].id
    assert planned["b"].reuses is None and planned["b"].cache
    assert not (await _jobs(world, *steps, files=files, cache=False))["a[rate=1]"].cache
    assert (await _jobs(world, *steps))["a[rate=1]"].reuses is None
    async with database.begin() as session:
        source = await data_sources.create(session, world.viewer, "web", "https://example.org/train.csv")
    assert (await _jobs(world, *steps, files=files, sources=[source]))["a[rate=1]"].reuses is None
    for deleted, left in ((repeated, done["a[rate=1]"].id), (first, None)):
        async with database.begin() as session:
            await deletions.mark(session, world.viewer, deleted)
        assert (await _jobs(world, *steps, files=files))["a[rate=1]"].reuses == left


async def test_a_key_that_has_started_a_run_leads_to_it(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    started = await world.start(pipeline_id, idempotency_key="k")
    forecast = await _foresee(world, pipeline_id, idempotency_key="k")
    assert (forecast.started, forecast.problems, forecast.jobs) == (started, [], [])
    with pytest.raises(errors.Conflict):
        await _foresee(world, pipeline_id, idempotency_key="k", priority=1)
    with pytest.raises(errors.Invalid):
        await _foresee(world, pipeline_id, idempotency_key="")


async def test_a_stranger_learns_nothing(database: Database) -> None:
    world = await World.make(database)
    pipeline_id = await world.draw({"a": ()})
    for kind in (Kind.USER, Kind.JOB):
        with pytest.raises(errors.NotFound):
            await _foresee(world, pipeline_id, viewer=Viewer(kind, user_id=b"?" * 16))
    with pytest.raises(errors.NotFound):
        await _foresee(world, b"?" * 16)


names = st.sampled_from(["a", "b", "c", "nobody"])
options = st.dictionaries(
    st.sampled_from(["rate", "word", "rat"]), st.sampled_from([0.5, 1, -1, "x", None]), max_size=2
)
asked_resources = st.builds(
    resources.StepResources,
    names,
    workers=st.sampled_from([None, 1, 0, 99]),
    cpus=st.sampled_from([None, 0.5, 1e9]),
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "backend": st.sampled_from(["local", "local", "local", "cloud"]),
        "priority": st.sampled_from([0, 1000, 1001]),
        "name": st.sampled_from([None, "n", ""]),
        "arguments": st.lists(st.tuples(names, options), max_size=3),
        "resources": st.lists(asked_resources, max_size=2),
        "tags": st.lists(st.tuples(st.sampled_from(["t", "u", ""]), st.just("1")), max_size=2),
        "cache": st.booleans(),
        "files": st.lists(st.sampled_from([0, 1, 2]), max_size=3),
        "parent_id": st.sampled_from([None, b"?" * 16]),
        "idempotency_key": st.sampled_from([None, "k", ""]),
        "revision_id": st.sampled_from([None, None, b"?" * 16]),
    },
)
drawings = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "matrix": st.sampled_from([{"rate": [1, 2]}, {"word": ["x", "y"], "rate": [0.5, 3]}]),
            "cache": st.just(True),
            "needs": st.just([]),
            "when": st.sampled_from(["FAILED", "SUCCEEDED"]),
            "inputs": st.sampled_from(["*", "*.csv"]),
        },
    ),
    min_size=1,
    max_size=3,
)


def _steps(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps a, b, c; a condition is on the first one's state, a selection of the one above."""
    steps: list[dict[str, Any]] = []
    for name, said in zip("abc", drawn, strict=False):
        step = {"name": name, "function": "ml/train", **said}
        above = steps[-1]["name"] if steps else None
        if "inputs" in step:
            step["inputs"] = [{**({"step": above} if above else {}), "files": step["inputs"]}]
        if "when" in step:
            step["when"] = {"step": "a", "state": step["when"]}
            if above is None:
                del step["when"]
        steps.append(step)
    return steps


def _told(refused: errors.DomainError) -> tuple[type[errors.DomainError], list[Any]]:
    return type(refused), [(problem.path, problem.message) for problem in refused.problems]


@few
@given(drawn=drawings, asked=requests)
async def test_a_forecast_and_a_start_agree(
    database: Database, drawn: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    world = await World.make(database, TRAIN)
    uploaded = [await world.upload("a.csv"), await world.upload("b.txt"), b"?" * 16]
    wanted = {**asked, "files": [uploaded[index] for index in asked.get("files", ())]}
    pipeline_id = await world.draw(written(*_steps(drawn)))
    before = await _counts(database)
    foretold: Any
    try:
        forecast = await _foresee(world, pipeline_id, **wanted)
        told = [(problem.path, problem.message) for problem in forecast.problems]
        foretold = (errors.Invalid, told) if told else None
    except errors.DomainError as refused:
        foretold = _told(refused)
    assert await _counts(database) == before
    try:
        run_id = await world.start(pipeline_id, **wanted)
    except errors.DomainError as refused:
        assert foretold == _told(refused)
        return
    assert foretold is None
    started = await world.jobs(run_id)
    labels = list(started)
    assert [_comparable(job) for job in forecast.jobs] == [
        (
            job.step,
            job.arguments,
            [labels[position] for position in job.needs],
            [labels[position] for position in job.awaits or ()],
            job.matrix or {},
            (job.function_id, job.workers, job.cpus, job.gpus, job.retries, job.cache),
        )
        for job in started.values()
    ]
    for planned, job in zip(forecast.jobs, started.values(), strict=True):
        await _reads_as_planned(world, planned, job)
    assert (await world.run(run_id)).revision_id == forecast.revision_id
    await world.cancel(run_id)


def _comparable(job: PlannedJob) -> Any:
    whole = (job.function_id, job.workers, job.cpus, job.gpus, job.retries, job.cache)
    return job.label, job.arguments, job.needs, job.awaits, dict(job.matrix), whole


async def _reads_as_planned(world: World, planned: PlannedJob, job: jobs.Job) -> None:
    """What is ready at once reads what was foretold."""
    if job.needs or job.awaits:
        return
    async with world.database.read() as session:
        rows = await jobs.files_of(session, [job.id], jobs.Direction.INPUT)
    named = [name for one in planned.inputs for name in one.names or ()]
    assert (job.reason is EndReason.BAD_INPUT) == (planned.bad_input is not None)
    assert [row.name for row in rows] == named
