"""What --where and --sort say, and what the API is asked for it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rungraph import conditions
from rungraph.errors import BadUsage

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("loss<0.3", {"metrics": [{"name": "loss", "of": "LAST", "lt": 0.3}]}),
        ("val/loss.min >= 1e-3", {"metrics": [{"name": "val/loss", "of": "MIN", "gte": 0.001}]}),
        ("arg:train.lr=0.1", {"arguments": [{"step": "train", "name": "lr", "eq": 0.1}]}),
        ("arg:rule=adam", {"arguments": [{"name": "rule", "eq": "adam"}]}),
        ("arg:lr>0.5", {"arguments": [{"name": "lr", "gt": 0.5}]}),
        ("tag:team=a b", {"tags": [{"name": "team", "value": "a b"}]}),
        ("tag:best", {"hasTags": ["best"]}),
        ("not tag:best", {"not": {"hasTags": ["best"]}}),
        ("state!=failed", {"not": {"states": ["FAILED"]}}),
        ("state=FAILED, running", {"states": ["FAILED", "RUNNING"]}),
        ("archived=true", {"archived": True}),
        ("user=user_1", {"createdBy": "user_1"}),
        ("created>604800", {"createdAt": {"since": "2026-02-22T00:00:00+00:00"}}),
        ("created>7d", {"createdAt": {"since": "2026-02-22T00:00:00+00:00"}}),
        ("ended < 2026-01-31T12:00:00Z", {"endedAt": {"before": "2026-01-31T12:00:00+00:00"}}),
        (
            "name=a or loss=1",
            {"or": [{"name": "a"}, {"metrics": [{"name": "loss", "of": "LAST", "eq": 1.0}]}]},
        ),
    ],
)
def test_a_condition_is_a_filter(text: str, document: dict[str, Any]) -> None:
    assert conditions.where([text], NOW) == [document]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss",
        "loss<",
        "loss<low",
        "archived=maybe",
        "name<a",
        "created=7d",
        "created>999999999999w",
        "created>soon",
        "tag:a<1",
    ],
)
def test_what_is_no_condition_is_bad_usage(text: str) -> None:
    with pytest.raises(BadUsage):
        conditions.where([text], NOW)


def test_a_state_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(
        BadUsage, match=r"^--where state=failed,done: DONE is no state; they are QUEUED, RUNNING, "
    ):
        conditions.where(["state=failed,done"], NOW)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("", None),
        ("created:asc", {"by": "CREATED", "direction": "ASCENDING"}),
        ("loss.min:asc", {"by": "METRIC", "name": "loss", "of": "MIN", "direction": "ASCENDING"}),
        ("loss", {"by": "METRIC", "name": "loss", "of": "LAST", "direction": "DESCENDING"}),
        ("tag:seed:desc", {"by": "TAG", "name": "seed", "direction": "DESCENDING"}),
        ("arg:train.lr", {"by": "ARGUMENT", "step": "train", "name": "lr", "direction": "DESCENDING"}),
    ],
)
def test_a_sort_is_an_order(text: str, document: dict[str, Any] | None) -> None:
    assert conditions.sort(text) == document


def test_a_column_shows_what_a_run_has() -> None:
    run = {
        "tags": [{"name": "team", "value": "a"}],
        "metrics": [{"name": "loss", "last": 1.0, "min": 0.5, "max": 2.0}],
        "jobs": [{"step": "one", "arguments": {"lr": 1}}, {"step": "two", "arguments": {"lr": 2}}],
    }
    words = ("tag:team", "tag:x", "loss", "loss.min", "nix", "arg:lr", "arg:two.lr", "arg:three.lr")
    found = [conditions.column(run, word) for word in words]
    assert found == ["a", None, 1.0, 0.5, None, 1, 2, None]
