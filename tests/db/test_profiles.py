"""Profiles: however files' tables are put together, the whole is the same."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from db import profiles
from db.profiles import Column, Profile

KINDS = st.sampled_from(["null", "int", "float", "bool", "str", "mixed", "list", "timestamp[ns]"])


@st.composite
def tables(draw: st.DrawFn) -> Profile:
    """A file's profile: some of three columns, or none that could be read."""
    rows = draw(st.none() | st.integers(0, 1000))
    if draw(st.booleans()) and draw(st.booleans()):
        return Profile(rows)
    names = draw(st.lists(st.sampled_from("abc"), unique=True))
    bounds = [sorted([draw(st.floats(-10, 10)), draw(st.floats(-10, 10))]) for _ in names]
    return Profile(
        rows,
        tuple(
            Column(name, draw(KINDS), draw(st.none() | st.integers(0, 9)), low, high)
            for name, (low, high) in zip(names, bounds, strict=True)
        ),
    )


def _known(profile: Profile) -> tuple[int | None, frozenset[Column] | None]:
    return profile.rows, None if profile.columns is None else frozenset(profile.columns)


@given(KINDS, KINDS, KINDS)
def test_the_wider_type_is_that_of_a_lattice(a: str, b: str, c: str) -> None:
    wider = profiles.wider
    assert wider(a, a) == a
    assert wider(a, b) == wider(b, a)
    assert wider(wider(a, b), c) == wider(a, wider(b, c))


@given(st.lists(tables(), min_size=1, max_size=3))
def test_the_order_of_files_does_not_matter(files: list[Profile]) -> None:
    assert len({_known(profiles.combine(order)) for order in permutations(files)}) == 1


@given(st.lists(tables(), min_size=2, max_size=4))
def test_bounds_hold_every_files_bounds_and_rows_add_up(files: list[Profile]) -> None:
    whole = profiles.combine(files)
    rows = [one.rows for one in files]
    assert whole.rows == (None if None in rows else sum(row or 0 for row in rows))
    for column in whole.columns or ():
        for one in files:
            for part in one.columns or ():
                if part.name == column.name and part.minimum is not None and part.maximum is not None:
                    assert column.minimum is not None and column.minimum <= part.minimum
                    assert column.maximum is not None and column.maximum >= part.maximum


def test_a_column_that_a_file_lacks_is_null_in_each_of_its_rows() -> None:
    has, lacks = Profile(3, (Column("a", "int", 1, 0.0, 2.0),)), Profile(4, ())
    assert profiles.combine([has, lacks]).columns == (Column("a", "int", 5, 0.0, 2.0),)


@given(tables())
def test_columns_are_kept_as_they_are(profile: Profile) -> None:
    assert profiles.decode(profiles.encode(profile.columns)) == profile.columns
