"""Differences: each changed property with what it was and is, and nothing where nothing changed."""

from hypothesis import given

from db import differences
from db.differences import Change, Difference
from db.manifests import Function, Manifest, Option, OptionType, Resources
from tests.db.test_manifests import manifests_of

BEFORE = Manifest(
    "ml",
    requirements=("numpy",),
    functions=(
        Function(
            "train",
            command=("python", "train.py"),
            options=(
                Option("epochs", OptionType.INT, default=3, maximum=9, doc="passes"),
                Option("rate", OptionType.FLOAT, default=0.1),
                Option("gone", OptionType.STR),
            ),
        ),
        Function("old"),
        Function("same", command=("a",)),
    ),
)
AFTER = Manifest(
    "ml",
    requirements=("numpy", "scipy"),
    functions=(
        Function("new"),
        Function("same", command=("a",)),
        Function(
            "train",
            command=("python", "-m", "train"),
            resources=Resources(gpus=1),
            options=(
                Option("epochs", OptionType.FLOAT, default=3.0, maximum=20, doc="passes over the data"),
                Option("rate", OptionType.FLOAT, default=0.1),
                Option("seed", OptionType.INT, required=True),
            ),
        ),
    ),
)


def test_everything_that_changed_is_told_by_name() -> None:
    found = differences.between(BEFORE, AFTER)
    assert found.changes == (Change("requirements", ["numpy"], ["numpy", "scipy"]),)
    assert (found.added, found.removed) == (("new",), ("old",))
    (train,) = found.changed
    assert (train.name, train.added, train.removed) == ("train", ("seed",), ("gone",))
    assert {change.field for change in train.changes} == {"command", "resources"}
    assert train.changed == (
        Difference(
            "epochs",
            (
                Change("type", "int", "float"),
                Change("default", 3, 3.0),
                Change("maximum", 9, 20),
                Change("doc", "passes", "passes over the data"),
            ),
        ),
    )


@given(manifests_of)
def test_nothing_differs_from_itself(manifest: Manifest) -> None:
    assert not differences.between(manifest, manifest)


@given(manifests_of, manifests_of)
def test_what_came_one_way_went_the_other(one: Manifest, two: Manifest) -> None:
    there, back = differences.between(one, two), differences.between(two, one)
    assert (set(there.added), set(there.removed)) == (set(back.removed), set(back.added))
    assert {change.field for change in there.changes} == {change.field for change in back.changes}
