"""What .ci/run makes of a suite that fails: a few tests are tried once more, one that broke off is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAILS_ONCE = """
from pathlib import Path

def test_which_fails_the_first_time():
    seen = Path("seen")
    had, _ = seen.exists(), seen.touch()
    assert had
"""
PASSES = "\ndef test_which_passes():\n    pass\n"
BREAKS_OFF = """
import pytest

def test_which_ends_all():
    pytest.exit("it cannot go on", returncode=3)
"""
ASKED = 'suite test 60 test; printf "\\n%s %s\\n" "$failed" "${summary[0]}"'
DIES = "\nimport os\n\ndef test_which_dies():\n    os._exit(1)\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "told"),
    [
        (FAILS_ONCE + PASSES, "passed at the second try: test_it.py::test_which_fails_the_first_time"),
        (FAILS_ONCE + BREAKS_OFF, "FAILED with 2"),
        (FAILS_ONCE + DIES, "FAILED with 2"),
        (FAILS_ONCE.replace("assert had", "assert False"), "FAILED with 2"),
        (PASSES, "passed"),
    ],
)
def test_only_a_suite_that_was_gone_through_is_tried_once_more(tests: str, told: str, tmp_path: Path) -> None:
    script = (ROOT / ".ci/run").read_text()
    parts = script[script.index("summary=()") : script.index("report() {")]
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionfinish\n")
    (tmp_path / "test_it.py").write_text(tests)
    (tmp_path / "Makefile").write_text(f"test:\n\t{sys.executable} -m pytest -q -p no:asyncio test_it.py\n")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MAKE"))}
    ran = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{parts}\n{ASKED}"],
        cwd=tmp_path,
        env={**outside, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    last = ran.stdout.splitlines()[-1]
    assert last.endswith(told), ran.stdout + ran.stderr
    assert last.startswith("1" if told.startswith("FAILED") else "0")
