"""Every GraphQL document of the client fits the committed schema."""

import importlib
import pkgutil
import re

import pytest
from graphql import parse, validate

import rungraph
from tests.client.peer import SCHEMA


def documents() -> dict[str, str]:
    """The client's documents by module and name."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(rungraph.__path__, "rungraph."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, str) and re.match(r"(query|mutation|subscription)\b.*\{", value):
                found[f"{module.name}.{name}"] = value
    return found


@pytest.mark.parametrize("document", documents().values(), ids=documents().keys())
def test_a_document_fits_the_schema(document: str) -> None:
    assert validate(SCHEMA, parse(document)) == []


def test_there_are_documents_to_check() -> None:
    assert len(documents()) >= 15
