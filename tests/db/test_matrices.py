"""Matrices: a job for each combination, told apart by its label, checked before anything runs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, matrices
from db.database import Database
from db.manifests import Option, OptionType
from db.states import EndReason, JobState
from tests.db.world import World, function, written

TRAIN = function(
    "train",
    options=(
        Option("rate", OptionType.FLOAT, required=True, minimum=0),
        Option("epochs", OptionType.INT, default=3),
        Option("loss", OptionType.ENUM, default="l1", values=("l1", "l2")),
    ),
)


def _train(name: str = "fit", **values: Any) -> dict[str, Any]:
    return {"name": name, "function": "ml/train", **values}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (3, ""),
        ({}, ""),
        ({"a": 1}, "a"),
        ({"a": []}, "a"),
        ({"a": [1, None]}, "a.1"),
        ({"a": [1, [2]]}, "a.1"),
        ({"a": [1, 2, 1.0]}, "a.2"),
        ({"a": list(range(40)), "b": list(range(40))}, ""),
    ],
)
def test_a_mistake_is_told_where_it_is(value: Any, path: str) -> None:
    _, problems = matrices.read(value, ())
    assert [".".join(problem.path) for problem in problems] == [path]


scalars = st.one_of(
    st.booleans(),
    st.integers(-9, 9),
    st.sampled_from([0.5, 1e-5, 1.0]),
    st.sampled_from(["1", "true", "a", "a,b", "a]b", "x" * 90, "x" * 89 + "y", "é", '"a"', ""]),
)
lists = st.lists(scalars, min_size=1, max_size=4, unique_by=lambda value: (isinstance(value, bool), value))


@given(st.dictionaries(st.sampled_from(["a", "b", "c,d"]), lists, min_size=1, max_size=3))
def test_every_combination_has_a_label_of_its_own(matrix: dict[str, list[Any]]) -> None:
    found, problems = matrices.read(matrix, ())
    assert not problems
    labels = [matrices.label("fit", found, one) for one in matrices.combinations(found)]
    assert len(set(labels)) == len(labels)
    assert all(label.startswith("fit[") for label in labels)


async def test_each_combination_is_a_job_with_its_arguments(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps = written(
        _train(arguments={"epochs": 5}, matrix={"rate": [1, 0.5], "loss": ["l1", "l2"]}),
        _train("test", arguments={"rate": 1}),
    )
    run_id = await world.start(steps, arguments=[("fit", {"epochs": 7})])
    jobs = await world.jobs(run_id)
    assert list(jobs) == [
        "fit[rate=1,loss=l1]",
        "fit[rate=1,loss=l2]",
        "fit[rate=0.5,loss=l1]",
        "fit[rate=0.5,loss=l2]",
        "test",
    ]
    one = jobs["fit[rate=1,loss=l2]"]
    assert (one.arguments, one.matrix) == (
        {"rate": 1.0, "epochs": 7, "loss": "l2"},
        {"rate": 1, "loss": "l2"},
    )
    assert jobs["test"].needs == [0, 1, 2, 3] and jobs["test"].matrix is None


async def test_what_needs_a_matrix_step_needs_all_of_its_jobs(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps = written(_train(matrix={"rate": [1, 2, 3]}), _train("test", arguments={"rate": 1}))
    run_id = await world.start(steps)
    await world.drive({"fit[rate=2]": EndReason.EXIT_CODE})
    jobs = await world.jobs(run_id)
    assert jobs["test"].state is JobState.SKIPPED
    assert jobs["test"].message == "it needs fit[rate=2], which is FAILED"


async def test_a_condition_asks_every_job_of_a_matrix_or_any(database: Database) -> None:
    world = await World.make(database, TRAIN)
    failed = {"step": "fit", "state": "FAILED"}
    steps = written(
        _train(matrix={"rate": [1, 2]}),
        _train("every", arguments={"rate": 1}, needs=[], when=failed),
        _train("any", arguments={"rate": 1}, needs=[], when={**failed, "jobs": "ANY"}),
        _train("one", arguments={"rate": 1}, needs=[], when={**failed, "matrix": {"rate": 2}}),
        _train("other", arguments={"rate": 1}, needs=[], when={**failed, "matrix": {"rate": 1}}),
    )
    run_id = await world.start(steps)
    await world.drive({"fit[rate=2]": EndReason.EXIT_CODE})
    states = await world.states(run_id)
    assert [step for step in ("every", "any", "one", "other") if states[step] is JobState.SUCCEEDED] == [
        "any",
        "one",
    ]


async def test_a_matrix_is_checked_against_its_function(database: Database) -> None:
    world = await World.make(database, TRAIN)
    steps = written(
        _train(arguments={"rate": 1}, matrix={"rate": [-1, 2], "lss": ["l1"], "loss": ["l1", "l3"]})
    )
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(steps)
    assert {".".join(problem.path): problem.message for problem in refused.value.problems} == {
        "steps.0.matrix.rate": "fit: is set by the arguments too: leave it out there",
        "steps.0.matrix.rate.0": "fit: rate must be at least 0, not -1",
        "steps.0.matrix.lss": "fit: is not an option of train; did you mean 'loss'?",
        "steps.0.matrix.loss.1": "fit: loss must be one of l1, l2, not 'l3'",
    }


async def test_what_a_matrix_varies_is_not_overridden_and_old_values_are_checked_again(
    database: Database,
) -> None:
    world = await World.make(database, TRAIN)
    pipeline_id = await world.draw(written(_train(matrix={"rate": [1, 2]})))
    with pytest.raises(errors.Invalid) as refused:
        await world.start(pipeline_id, arguments=[("fit", {"rate": 3})])
    assert [problem.path for problem in refused.value.problems] == [("arguments", "0", "arguments", "rate")]
    await world.install(function("train", options=(Option("rate", OptionType.FLOAT, maximum=1),)))
    with pytest.raises(errors.Invalid) as refused:
        await world.start(pipeline_id)
    assert str(refused.value) == "fit: rate must be at most 1, not 2, in its matrix"


async def test_a_run_has_at_most_a_thousand_jobs(database: Database) -> None:
    world = await World.make(database, TRAIN)
    many = list(range(600))
    with pytest.raises(errors.Invalid) as refused:
        await world.draw(written(_train("a", matrix={"rate": many}), _train("b", matrix={"rate": many})))
    assert "make 1200 jobs; a run has at most 1000" in str(refused.value)
    run_id = await world.start(written(_train("a", matrix={"rate": [*range(1000)]})))
    assert len(await world.jobs(run_id)) == 1000
    await world.cancel(run_id)
