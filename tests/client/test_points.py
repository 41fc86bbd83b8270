"""Points on their way: what is taken, how it is packed, and what the server is shown."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rungraph import points
from rungraph.points import BATCH_SERIES, MOST_EXACT, Batch, Intake, Wrong


class Complaints(list[str]):
    """What was complained of."""

    def take(self, about: str, wrong: Wrong) -> None:
        self.append(str(wrong))


def intake(most: int = 1000) -> tuple[Intake, Complaints]:
    told = Complaints()
    return Intake(told.take, most), told


def batch(*given: points.Point) -> Batch:
    made = Batch()
    assert all(made.takes(point) for point in given)
    return made


@pytest.mark.parametrize(
    "value",
    [
        3,
        True,
        Decimal("3.5"),
        np.float32(1.5),
        np.int64(4),
        np.array([2.5]),
        np.array(2.5),
        np.float64("nan"),
        -math.inf,
    ],
)
def test_whatever_is_one_number_is_taken(value: Any) -> None:
    taken, told = intake()
    taken.add({"loss": value}, None)
    ((name, kept, step, _),) = taken.waiting
    assert not told and name == "loss" and step is None
    assert type(kept) is float and (kept == float(np.asarray(value, float).reshape(())) or math.isnan(kept))


@pytest.mark.parametrize(
    "value", ["0.3", b"1", None, 1j, np.array([1.0, 2.0]), [1.0], {}, 10**400, np.str_("1"), object()]
)
def test_what_is_no_number_is_left_out_and_named(value: Any) -> None:
    taken, told = intake()
    taken.add({"fine": 1.0, "loss": value, "also": 2}, 1)
    assert [point[0] for point in taken.waiting] == ["fine", "also"]
    assert len(told) == 1 and "'loss'" in told[0] and f"({type(value).__name__})" in told[0]


@pytest.mark.parametrize("name", ["", "x" * 251, "a\0b", "\ud800", 3, None, ("a",)])
def test_a_name_that_the_server_would_refuse_is_left_out(name: Any) -> None:
    taken, told = intake()
    taken.add({name: 1.0, "loss": 1.0}, None)
    assert [point[0] for point in taken.waiting] == ["loss"] and len(told) == 1


@pytest.mark.parametrize(
    ("step", "kept"), [(3, 3), (np.int32(4), 4), (5.0, 5), (True, 1), (-MOST_EXACT, -MOST_EXACT)]
)
def test_a_step_is_a_whole_number(step: Any, kept: int) -> None:
    taken, told = intake()
    taken.add({"loss": 1.0}, step)
    assert not told and taken.waiting[0][2] == kept and type(taken.waiting[0][2]) is int


@pytest.mark.parametrize("step", [0.5, "1", 2**53, -(2**53), math.nan, [1]])
def test_a_step_that_is_none_leaves_its_points_out(step: Any) -> None:
    taken, told = intake()
    taken.add({"loss": 1.0}, step)
    assert not taken.waiting and len(told) == 1 and "step" in told[0]


def test_what_has_no_room_is_counted() -> None:
    taken, _ = intake(most=3)
    for _ in range(3):
        taken.add({"a": 1.0, "b": 2.0}, None)
    assert (len(taken.waiting), taken.dropped) == (2, 4)


def test_a_batch_has_a_series_once_and_with_steps_or_without() -> None:
    made = batch(("a", 1.0, 1, 0), ("b", 1.0, None, 0))
    assert not made.takes(("a", 2.0, None, 0))
    assert not made.takes(("b", 2.0, 7, 0))
    assert made.takes(("a", 2.0, 2, 0)) and made.size == 3


def test_a_batch_has_so_many_series_and_points() -> None:
    made = batch(*((f"m{n}", 0.0, None, 0) for n in range(BATCH_SERIES)))
    assert not made.takes(("another", 0.0, None, 0))
    made = batch(*(("a", 0.0, None, 0) for _ in range(points.BATCH_POINTS)))
    assert not made.takes(("a", 0.0, None, 0))


VALUES = st.floats(allow_nan=True)
POINTS = st.lists(
    st.tuples(st.sampled_from("abc"), VALUES, st.integers(-MOST_EXACT, MOST_EXACT), st.integers(0, 2**52))
)


@given(POINTS)
def test_a_packed_batch_is_as_it_was(given: list[points.Point]) -> None:
    found = points.unpack(points.pack(batch(*given)))
    for name in {point[0] for point in given}:
        (column,) = [part.column for part in found if part.column.name == name]
        ours = [point for point in given if point[0] == name]
        np.testing.assert_array_equal(column.values, [point[1] for point in ours])
        assert column.steps is not None
        assert (column.steps.tolist(), column.times.tolist()) == ([p[2] for p in ours], [p[3] for p in ours])
    assert points.count(found) == len(given)


@given(POINTS)
def test_halves_have_every_point_once(given: list[points.Point]) -> None:
    whole = points.unpack(points.pack(batch(*given)))
    left, right = points.halves(whole)
    assert points.count(left) == len(given) // 2
    for name in "abc":
        parts = [one for half in (left, right) for one in points.series(half) if one["name"] == name]
        times = [at for part in parts for at in part["times"]]
        assert times == [point[3] for point in given if point[0] == name]


@given(st.lists(VALUES, min_size=1))
def test_what_json_cannot_hold_is_told_beside(values: list[float]) -> None:
    (shown,) = points.series(points.unpack(points.pack(batch(*(("a", v, None, 0) for v in values)))))
    kinds = {"NAN": math.nan, "POSITIVE_INFINITY": math.inf, "NEGATIVE_INFINITY": -math.inf}
    odd = {one["index"]: kinds[one["kind"]] for one in shown.get("nonFinite", [])}
    assert "steps" not in shown
    np.testing.assert_array_equal([odd.get(at, v) for at, v in enumerate(shown["values"])], values)
    assert {at for at, v in enumerate(shown["values"]) if v is None} == set(odd)
