"""Selections: which files a step reads, by step, combination, glob and the run itself."""

from typing import Any

import pytest

from db import errors, jobs, selections
from db.claims import Launch
from db.contracts import OutputKind
from db.database import Database
from db.jobs import Direction
from db.manifests import Accept, Option, OptionType
from db.selections import Bound, Candidate
from db.states import EndReason, JobState
from tests.db.world import World, function, made, written

LEARN = function(
    "learn",
    options=(Option("rate", OptionType.FLOAT, default=1.0), Option("seed", OptionType.INT, default=0)),
)
PICKY = function("picky", accepts=(Accept(("pt",)),))


async def _inputs(world: World, run_id: bytes, step: str) -> list[str]:
    """The names of what a step's job is given, as it sees them, claimed or not."""
    job = (await world.jobs(run_id))[step]
    async with world.database.read() as session:
        rows = await jobs.files_of(session, [job.id], Direction.INPUT)
    return [row.name for row in rows]


def _seen(launch: Launch) -> list[str]:
    return [file.name for file in launch.inputs]


def _wrong(value: Any) -> list[str]:
    return [".".join(problem.path) for problem in selections.read(value, ("inputs",))[1]]


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ([], ["inputs"]),
        ("a", ["inputs"]),
        (["a"], ["inputs.0"]),
        ([{"stp": "a"}], ["inputs.0.stp"]),
        ([{"step": 1}], ["inputs.0.step"]),
        ([{"matrix": {"a": 1}}], ["inputs.0.matrix"]),
        ([{"step": "a", "matrix": {}}], ["inputs.0.matrix"]),
        ([{"step": "a", "matrix": {"a": None}}], ["inputs.0.matrix.a"]),
        ([{"files": ""}, {"files": 3}], ["inputs.0.files", "inputs.1.files"]),
        ([{"prefix": True}], ["inputs.0.prefix"]),
        ([{"step": "a", "prefix": 1}], ["inputs.0.prefix"]),
    ],
)
def test_a_mistake_is_told_where_it_is(value: Any, paths: list[str]) -> None:
    assert _wrong(value) == paths


def test_a_file_is_chosen_once_by_each_name() -> None:
    file = Candidate(b"1", "a.pt", "", {}, "train[rate=0.1,data=a/b]")
    both = [Bound((0,)), Bound((0,), "*.pt"), Bound((0,), "a*", prefix=True), Bound((0,), "*.csv")]
    chosen, empty = selections.choose(both, [], {0: [file]})
    assert [one.name for one in chosen] == ["a.pt", "train[rate=0.1,data=a_b]-a.pt"]
    assert empty == both[3:]


async def test_a_step_reads_what_it_selects_and_naming_a_step_makes_it_needed(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "split"},
        {"name": "train", "inputs": [{"step": "split", "files": "train*"}]},
        {"name": "test", "needs": [], "inputs": [{"step": "train"}, {"files": "*.csv"}, {"step": "split"}]},
        {"name": "plain", "needs": ["split"]},
    )
    run_id = await world.start(
        steps, files=[await world.upload("labels.csv"), await world.upload("notes.txt")]
    )
    assert (await world.jobs(run_id))["test"].needs == [0, 1]
    split = (await world.claim())["split"]
    assert _seen(split) == ["labels.csv", "notes.txt"]
    await world.end(split, EndReason.COMPLETED, made("train.bin"), made("test.bin"))
    launches = await world.claim()
    assert _seen(launches["train"]) == ["train.bin"]
    assert _seen(launches["plain"]) == ["train.bin", "test.bin"]
    await world.end(launches["train"], EndReason.COMPLETED, made("model.pt"))
    assert _seen((await world.claim())["test"]) == ["model.pt", "labels.csv", "train.bin", "test.bin"]


async def test_a_condition_alone_hands_no_files_on(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "a"},
        {"name": "b", "needs": []},
        {"name": "c", "needs": ["a"], "when": {"step": "b", "state": "SUCCEEDED"}},
        {"name": "d", "needs": [], "when": {"step": "b", "state": "SUCCEEDED"}},
    )
    run_id = await world.start(steps, files=[await world.upload("own.txt")])
    for step, launch in (await world.claim()).items():
        await world.end(launch, EndReason.COMPLETED, made(f"{step}.txt"))
    launches = await world.claim()
    assert (_seen(launches["c"]), _seen(launches["d"])) == (["a.txt"], ["own.txt"])
    assert (await world.jobs(run_id))["c"].awaits == [1]


async def test_nothing_selected_is_bad_input_only_for_what_takes_files(database: Database) -> None:
    world = await World.make(database, function(), PICKY)
    inputs = [{"step": "a", "files": "*.pt"}, {"step": "a", "files": "*.onnx"}, {"files": "*.csv"}]
    steps = written(
        {"name": "a"},
        {"name": "any", "needs": [], "inputs": inputs},
        {"name": "picky", "needs": [], "function": "ml/picky", "inputs": inputs},
    )
    run_id = await world.start(steps)
    await world.end((await world.claim())["a"], EndReason.COMPLETED, made("model.pt"))
    found = await world.jobs(run_id)
    assert found["any"].state is JobState.QUEUED
    assert (found["picky"].state, found["picky"].reason) == (JobState.FAILED, EndReason.BAD_INPUT)
    assert found["picky"].message == (
        "inputs: a handed on no file like '*.onnx', and picky takes files; "
        "inputs: the run has no file like '*.csv', and picky takes files"
    )


async def test_what_did_not_succeed_hands_on_nothing_and_is_no_mistake(database: Database) -> None:
    world = await World.make(database, function(), PICKY)
    steps = written(
        {"name": "a"},
        {
            "name": "b",
            "function": "ml/picky",
            "inputs": [{"step": "a"}],
            "when": {"step": "a", "state": "FAILED"},
        },
    )
    run_id = await world.start(steps)
    assert await world.drive({"a": EndReason.EXIT_CODE}) == ["a", "b"]
    assert (await world.states(run_id))["b"] is JobState.SUCCEEDED


async def test_equal_names_of_several_jobs_are_told_apart_by_combination_or_prefix(
    database: Database,
) -> None:
    world = await World.make(database, function(), LEARN)
    steps = written(
        {"name": "train", "function": "ml/learn", "matrix": {"rate": [0.1, 0.2], "seed": [1, 2]}},
        {"name": "clash", "needs": ["train"]},
        {"name": "prefixed", "needs": ["train"], "inputs": [{"step": "train", "prefix": True}]},
        {"name": "one", "needs": [], "inputs": [{"step": "train", "matrix": {"rate": 0.1, "seed": 2}}]},
        {"name": "some", "needs": [], "inputs": [{"step": "train", "matrix": {"rate": 0.2}, "prefix": True}]},
    )
    run_id = await world.start(steps)
    found = await world.jobs(run_id)
    assert (found["one"].needs, found["some"].needs) == ([1], [2, 3])
    for launch in (await world.claim()).values():
        await world.end(launch, EndReason.COMPLETED, made("model.pt"))
    clash = (await world.jobs(run_id))["clash"]
    assert (clash.state, clash.reason) == (JobState.FAILED, EndReason.BAD_INPUT)
    assert "step train[rate=0.1,seed=1] and step train[rate=0.1,seed=2]" in (clash.message or "")
    launches = await world.claim()
    assert _seen(launches["one"]) == ["model.pt"]
    assert _seen(launches["some"]) == [
        "train[rate=0.2,seed=1]-model.pt",
        "train[rate=0.2,seed=2]-model.pt",
    ]
    assert len(_seen(launches["prefixed"])) == 4


async def test_a_prefixed_input_is_handed_on_by_the_name_the_job_knows(database: Database) -> None:
    world = await World.make(database)
    steps = written({"name": "a"}, {"name": "b", "inputs": [{"step": "a", "prefix": True}]}, {"name": "c"})
    run_id = await world.start(steps)
    await world.end((await world.claim())["a"], EndReason.COMPLETED, made("x.txt"))
    b = (await world.claim())["b"]
    (given,) = b.inputs
    same = made(given.name, kind=OutputKind.UNCHANGED, input_id=given.file_id, sha256=given.sha256)
    await world.end(b, EndReason.COMPLETED, same)
    assert _seen((await world.claim())["c"]) == ["a-x.txt"]
    assert await _inputs(world, run_id, "b") == ["x.txt"]


async def test_a_selection_names_steps_and_combinations_there_are(database: Database) -> None:
    world = await World.make(database, LEARN)
    steps = written(
        {"name": "a", "function": "ml/learn", "matrix": {"rate": [0.1]}},
        {"name": "b", "function": "ml/learn", "inputs": [{"step": "x"}]},
        {
            "name": "c",
            "function": "ml/learn",
            "inputs": [{"files": "*"}, {"step": "a", "matrix": {"rate": 0.2}}],
        },
        {"name": "d", "function": "ml/learn", "inputs": [{"step": "b", "matrix": {"rate": 0.1}}]},
    )
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(steps)
    found = {".".join(problem.path): problem.message for problem in refused.value.problems}
    assert list(found) == ["steps.1.inputs.0.step", "steps.2.inputs.1.step", "steps.3.inputs.0.step"]
    assert found["steps.2.inputs.1.step"] == "no combination of the matrix of a has these values"


async def test_steps_that_read_from_each_other_are_a_cycle(database: Database) -> None:
    world = await World.make(database)
    steps = written(
        {"name": "a", "needs": [], "inputs": [{"step": "b"}]},
        {"name": "b", "needs": [], "when": {"step": "a", "state": "FAILED"}},
    )
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(steps)
    assert "a → b → a" in str(refused.value)
