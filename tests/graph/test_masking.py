"""What whoever asked is told of a fault of the database's, and whether asking again is safe."""

from typing import Any

import pytest
from graphql import GraphQLError
from sqlalchemy.exc import DBAPIError, DisconnectionError

from graph import errors


class Told(Exception):
    """A driver's error, with PostgreSQL's code."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


AWAY = DisconnectionError("away")
UNDONE = DBAPIError("UPDATE", {}, Told("55P03"))
FAULT = DBAPIError("SELECT", {}, Told("22012"))


@pytest.mark.parametrize(
    ("fault", "is_read", "code"),
    [
        (AWAY, True, "UNAVAILABLE"),
        (AWAY, False, "INTERNAL"),  # it may have been carried out
        (UNDONE, True, "UNAVAILABLE"),
        (UNDONE, False, "UNAVAILABLE"),
        (FAULT, True, "INTERNAL"),
        (FAULT, False, "INTERNAL"),
    ],
)
def test_asking_again_is_offered_where_nothing_has_happened(
    fault: Exception, is_read: bool, code: str
) -> None:
    (told,) = errors.masked([GraphQLError("it failed", original_error=fault)], "request", lambda: is_read)
    extensions: dict[str, Any] = told.extensions or {}
    assert extensions["code"] == code
    assert extensions.get("retryable", False) is (code == "UNAVAILABLE")
    assert "it failed" not in told.message
