"""Ids: what goes out comes back, in order of making, and only where it belongs."""

import itertools
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, ids

sixteen = st.binary(min_size=16, max_size=16)
kinds = st.sampled_from(["run", "job", "module_version", "file"])


@given(kinds, sixteen)
def test_an_id_comes_back_as_it_went_out(kind: str, value: bytes) -> None:
    text = ids.encode(kind, value)
    assert ids.decode(kind, text) == value
    assert ids.split(text) == (kind, value)


@given(sixteen, sixteen)
def test_ids_sort_outside_as_they_do_inside(one: bytes, other: bytes) -> None:
    assert (ids.encode("run", one) < ids.encode("run", other)) is (one < other)


@given(sixteen)
def test_an_id_of_another_kind_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(errors.NotFound, match="is not the id of a run: those begin with run_"):
        ids.decode("run", ids.encode("job", value))


@given(st.text(max_size=80))
def test_what_is_no_id_is_refused_and_quoted_shortly(text: str) -> None:
    with pytest.raises(errors.NotFound) as refused:
        ids.decode("run", text)
    assert len(str(refused.value)) < 140


@pytest.mark.parametrize(
    "letters", ["8" + "0" * 25, "u" + "0" * 25, "0" * 25, "0" * 27, "0" * 25 + "I", "0" * 25 + "U"]
)
def test_letters_that_no_id_has_are_refused(letters: str) -> None:
    with pytest.raises(errors.NotFound):
        ids.split(f"run_{letters}")


def test_ids_are_version_seven_of_this_moment() -> None:
    made = uuid.UUID(bytes=ids.new())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_every_id_is_later_than_those_before_it_in_whatever_thread() -> None:
    made: list[list[bytes]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own: own.extend(ids.new() for _ in range(2000)), args=(own,))
        for own in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a < b for own in made for a, b in itertools.pairwise(own))
    assert len(set(itertools.chain(*made))) == 8000


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_many_ids_are_encoded_as_each_alone(values: list[bytes]) -> None:
    for kind in ("run", "job", "run"):
        assert ids.encode_all(kind, values) == [ids.encode(kind, value) for value in values]


def test_no_more_ids_are_remembered_than_lists_show() -> None:
    for _ in range(25):
        some = [ids.new() for _ in range(1000)]
        assert ids.encode_all("row", some) == [ids.encode("row", value) for value in some]
    assert len(ids._known["row"]) <= ids._MOST_KNOWN
