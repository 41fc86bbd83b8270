"""Which image of Python a module gets."""

import pytest

from backends.base import PreparationFailed
from backends.pythons import image

BASE = "mirror.example/python:3.11-slim"


@pytest.mark.parametrize(
    ("python", "tag"),
    [
        (None, "3.11"),
        ("3", "3.11"),
        ("3.11", "3.11"),
        ("3.12", "3.12"),
        ("3.12.4", "3.12.4"),
        (">=3.10", "3.11"),
        (">=3.11.2, <3.12", "3.11"),
        (">=3.12", "3.14"),
        ("<3.11", "3.10"),
        ("<=3.10", "3.10"),
        (">3.11,<=3.13", "3.13"),
        ("==3.12", "3.12"),
        ("~=3.10", "3.11"),
        ("~= 3.12.1", "3.12"),
        ("!=3.11, <3.13", "3.12"),
    ],
)
def test_the_base_where_it_will_do_else_its_like(python: str | None, tag: str) -> None:
    assert image(BASE, python) == f"mirror.example/python:{tag}-slim"


def test_a_python_that_cannot_be_is_refused() -> None:
    with pytest.raises(PreparationFailed, match="no image for Python <3"):
        image(BASE, "<3")


def test_a_base_of_another_kind_says_nothing_of_its_python() -> None:
    assert image("ubuntu:24.04", None) == "ubuntu:24.04"
    with pytest.raises(PreparationFailed, match=r"asks for Python 3\.12, and ubuntu:24\.04"):
        image("ubuntu:24.04", "3.12")
