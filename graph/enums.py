"""Enumerations of db as the API shows them: every value is told what it means.

db's enumerations are pure and know nothing of GraphQL; strawberry keeps a value's description inside the class.
So the words stand beside the registration, where a value without any, or words without a value, are refused.
"""

import enum

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition


def show(shown: type[enum.Enum], description: str, *, name: str | None = None, **values: str) -> None:
    """Register an enumeration of db, with a description for each of its values by name."""
    if values.keys() != shown.__members__.keys():
        raise TypeError(f"{shown.__name__} has other values: {values.keys() ^ shown.__members__.keys()}")
    strawberry.enum(shown, name=name, description=description)
    definition: StrawberryEnumDefinition = vars(shown)["__strawberry_definition__"]
    for value in definition.values:
        value.description = values[value.name]
