"""Options that several verbs share: fields of a dataclass become options of a verb."""

from dataclasses import dataclass
from inspect import signature
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from rungraph import groups


@dataclass(frozen=True, slots=True)
class Where:
    """Two options."""

    zone: Annotated[str, typer.Option(help="Which.")] = "UTC"
    place: Annotated[list[str] | None, typer.Option("--at", help="Repeatable.")] = None


def test_a_verb_gets_its_group_and_its_own_parameters() -> None:
    seen: list[tuple[str, Where, bool]] = []

    @groups.spread
    def verb(name: str, where: Where, loud: bool = False) -> None:
        seen.append((name, where, loud))

    app = typer.Typer()
    app.command()(verb)
    for words in (["a"], ["b", "--at", "x", "--at", "y", "--zone", "Z", "--loud"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert [(name, where.zone, list(where.place or []), loud) for name, where, loud in seen] == [
        ("a", "UTC", [], False),
        ("b", "Z", ["x", "y"], True),
    ]
    assert [*signature(verb).parameters] == ["name", "zone", "place", "loud"]


def test_two_options_of_one_name_are_a_mistake_in_the_code() -> None:
    def verb(zone: str, where: Where) -> None: ...

    with pytest.raises(ValueError, match="zone"):
        groups.spread(verb)
