"""A setting that cannot be meant ends the start with a line that names it."""

import os
import subprocess
import sys

import pytest

from graph import serving
from graph.settings import misspelt


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("RUNGRAPH_SLOTS", "many", "integer"),
        ("RUNGRAPH_CPUS", "0", "greater than 0"),
        ("RUNGRAPH_DATABASE_URL", "mysql://nowhere", "must begin with sqlite: or postgresql:"),
        ("RUNGRAPH_BROADCAST_URL", "kafka://nowhere", "must begin with one of memory:, redis:"),
        ("RUNGRAPH_LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        serving.serve("127.0.0.1", 1)
    (told,) = str(ended.value).splitlines()
    assert name in told and why in told


def test_a_start_with_a_wrong_setting_ends_with_one_line() -> None:
    command = [sys.executable, "-m", "graph.serve", "--port", "1"]
    wrong = {**os.environ, "RUNGRAPH_SLOTS": "many"}
    ended = subprocess.run(command, env=wrong, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "RUNGRAPH_SLOTS" in ended.stderr


def test_a_variable_that_is_nearly_a_setting_is_told_with_the_one_that_is_meant() -> None:
    others = [
        "URL",
        "TOKEN",
        "INPUT",
        "OUTPUT",
        "JOB_ID",
        "ATTEMPT",
        "SPOOL",
        "OFFLINE",
        "TEST_REQUIRE",
        "HOME",
    ]
    given = [
        "PATH",
        "SLOTS",
        "RUNGRAPH_SLOT",
        "RUNGRAPH_DATABASE_ULR",
        *(f"RUNGRAPH_{name}" for name in others),
    ]
    assert list(misspelt(given)) == [
        ("RUNGRAPH_DATABASE_ULR", "RUNGRAPH_DATABASE_URL"),
        ("RUNGRAPH_SLOT", "RUNGRAPH_SLOTS"),
    ]
