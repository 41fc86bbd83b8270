"""A setting that cannot be meant ends the start with a line that names it."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("RUNGRAPH_SLOTS", "many", "integer"),
        ("RUNGRAPH_CPUS", "0", "greater than 0"),
        ("RUNGRAPH_DATABASE_URL", "mysql://nowhere", "must begin with sqlite: or postgresql:"),
        ("RUNGRAPH_LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(name: str, value: str, why: str) -> None:
    command = [sys.executable, "-m", "graph.serve", "--port", "1"]
    ended = subprocess.run(
        command, env={**os.environ, name: value}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert name in ended.stderr and why in ended.stderr
