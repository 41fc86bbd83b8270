"""Manifests: stored and read again unchanged, and options resolved whatever is given."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import manifests, policies
from db.manifests import Function, Manifest, Option, OptionType

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_words = st.lists(_text, max_size=3).map(tuple)
_numbers = st.integers(-manifests.MAX_INTEGER, manifests.MAX_INTEGER) | st.floats(
    allow_nan=False, allow_infinity=False
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_options = st.builds(
    Option,
    name=st.sampled_from(["lr", "epochs", "data", "style", "fast", "word"]),
    type=st.sampled_from(OptionType),
    required=st.booleans(),
    default=st.none() | st.booleans() | _numbers | _text,
    minimum=st.none() | _numbers,
    maximum=st.none() | _numbers,
    values=_words,
    doc=_text,
)
_functions = st.builds(
    Function,
    name=_text,
    description=_text,
    command=_words,
    options=st.lists(_options, max_size=4, unique_by=lambda option: option.name).map(tuple),
    accepts=st.lists(
        st.builds(manifests.Accept, _words, _words, st.dictionaries(_text, _text, max_size=2)), max_size=2
    ).map(tuple),
    output_tags=st.lists(
        st.builds(manifests.OutputTag, _text, st.sampled_from(manifests.TagType)), max_size=2
    ).map(tuple),
    resources=st.builds(manifests.Resources, st.none() | st.floats(0.1, 64), st.none() | st.integers(0)),
    workers=st.integers(1, 9),
    timeout_seconds=st.none() | st.floats(1, 1e6),
    retries=st.integers(0, 9),
    retry=st.builds(
        policies.Policy,
        st.lists(
            st.builds(
                policies.Rule,
                st.sampled_from(policies.RULED),
                st.integers(0, 9),
                st.floats(1, 16),
                st.none() | st.integers(1, 1 << 40),
            ),
            max_size=2,
        ).map(tuple),
        st.builds(policies.Backoff, st.floats(0, 9), st.floats(10, 99)),
    ),
    environment=st.dictionaries(_text, _text, max_size=2),
)
manifests_of = st.builds(
    Manifest,
    name=_text,
    description=_text,
    tags=_words,
    image=st.none() | _text,
    dockerfile=st.none() | _text,
    python=st.none() | _text,
    requirements=_words,
    functions=st.lists(_functions, max_size=2).map(tuple),
)

TRAIN = Function(
    "train",
    options=(
        Option("data", OptionType.FILE, required=True),
        Option("epochs", OptionType.INT, default=10, minimum=1, maximum=1000),
        Option("learning_rate", OptionType.FLOAT, default=0.1, minimum=0),
        Option("fast", OptionType.BOOL, default=False),
        Option("style", OptionType.ENUM, default="sgd", values=("sgd", "adam")),
        Option("note", OptionType.STR),
    ),
)


@given(manifests_of)
def test_a_manifest_survives_json_exactly(manifest: Manifest) -> None:
    assert manifests.decode(json.loads(json.dumps(manifests.encode(manifest)))) == manifest


def test_a_document_from_before_a_field_was_added_takes_its_default() -> None:
    document = manifests.encode(Manifest("digits", functions=(TRAIN,)))
    for field in dataclasses.fields(Function):
        if field.name not in ("name", "options"):
            del document["functions"][0][field.name]
    assert manifests.decode(document) == Manifest("digits", functions=(TRAIN,))


@given(_functions, st.dictionaries(st.text(max_size=8) | st.sampled_from(["lr", "data"]), _json, max_size=5))
def test_resolving_never_raises_and_answers_every_option(
    function: Function, arguments: dict[str, Any]
) -> None:
    resolved = manifests.resolve(function, arguments)
    wrong = {problem.path[0] for problem in resolved.problems}
    assert {option.name for option in function.options} <= resolved.arguments.keys() | wrong
    assert set(arguments) - {option.name for option in function.options} <= wrong


@given(_functions, st.dictionaries(st.sampled_from(["lr", "epochs", "data"]), _json, max_size=3))
def test_what_resolves_without_problems_resolves_to_itself(
    function: Function, arguments: dict[str, Any]
) -> None:
    resolved = manifests.resolve(
        dataclasses.replace(function, options=_without_defaults(function)), arguments
    )
    if not resolved.problems:
        assert manifests.resolve(function, resolved.arguments).problems == ()


def _without_defaults(function: Function) -> tuple[Option, ...]:
    return tuple(dataclasses.replace(option, default=None) for option in function.options)


def test_defaults_are_filled_in_and_what_is_given_wins() -> None:
    resolved = manifests.resolve(TRAIN, {"data": "a.npz", "epochs": 3})
    assert resolved.problems == ()
    assert resolved.arguments == {
        "data": "a.npz",
        "epochs": 3,
        "learning_rate": 0.1,
        "fast": False,
        "style": "sgd",
        "note": None,
    }


@pytest.mark.parametrize("epochs", [2**53, 1e23])
def test_a_number_too_large_to_be_exact_is_told_as_that(epochs: float) -> None:
    (problem,) = manifests.resolve(TRAIN, {"data": "a", "epochs": epochs}).problems
    assert problem.message == "must be a whole number within ±(2^53−1)"


def test_all_problems_are_told_at_once() -> None:
    given = {"epoch": 3, "epochs": 0, "learning_rate": "0.1", "fast": 1, "style": "adm", "note": 5}
    problems = {problem.path: problem.message for problem in manifests.resolve(TRAIN, given).problems}
    assert problems == {
        ("epoch",): "is not an option of train; did you mean 'epochs'?",
        ("data",): "is required (file)",
        ("epochs",): "must be at least 1, not 0",
        ("learning_rate",): "must be a number, not '0.1'",
        ("fast",): "must be true or false, not 1",
        ("style",): "must be one of sgd, adam, not 'adm'; did you mean 'adam'?",
        ("note",): "must be a string, not 5",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", True),
        ("epochs", 3.0),
        ("epochs", 1001),
        pytest.param("epochs", 10**5000, id="huge"),
        ("learning_rate", True),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("data", "../secret"),
        ("data", ""),
        ("note", "\ud800"),
        ("note", "a\0b"),
        ("style", ["sgd"]),
        ("data", None),
    ],
)
def test_values_are_never_coerced_into_what_they_are_not(name: str, value: object) -> None:
    (problem,) = manifests.resolve(TRAIN, {"data": "a.npz", name: value}).problems
    assert problem.path == (name,)
    assert len(problem.message) < 200


def test_an_int_will_do_for_a_float_and_becomes_one() -> None:
    value = manifests.resolve(TRAIN, {"data": "a.npz", "learning_rate": 1}).arguments["learning_rate"]
    assert isinstance(value, float)


def test_null_counts_as_not_given() -> None:
    assert manifests.resolve(TRAIN, {"data": "a", "epochs": None}).arguments["epochs"] == 10


def test_a_million_unknown_options_cost_little() -> None:
    given = {f"option_{number}": 1 for number in range(1_000_000)}
    assert len(manifests.resolve(TRAIN, given).problems) <= manifests.MOST_PROBLEMS + 1
