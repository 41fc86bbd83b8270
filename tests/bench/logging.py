"""`rungraph.log`: what a call costs training code, and how fast points arrive that are logged without a pause."""

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from rungraph.points import Intake, Point, Wrong
from tests.bench.rows import Row, median
from tests.bench.server import Server, serving

CALLS = 100_000
CLIENT = Path(__file__).parents[2] / "client"
TIGHT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import rungraph
with rungraph.run("bench") as run:
    run.flush()
    began = time.perf_counter()
    for step in range(int(sys.argv[2])):
        rungraph.log({"loss": 0.5}, step=step)
    logged = time.perf_counter() - began
    assert run.flush(120)
    print(logged, time.perf_counter() - began)
"""


async def rows() -> list[Row]:
    """Everything about logging from training code."""
    one, ten = {"loss": 0.5}, {f"m{n}": 0.5 for n in range(10)}
    found = [
        Row(
            "rungraph.log, one metric a call, CPU",
            _intake(one),
            "µs",
            1,
            _raw(one),
            "a tuple a point into a deque",
        ),
        Row("rungraph.log, ten metrics a call, CPU", _intake(ten), "µs", 4, _raw(ten), "the same"),
        Row("import rungraph, CPU", _import() * 1e3, "ms", 30, None, ""),
    ]
    async with serving() as server:
        logged, arrived = _tight(server)
    label = f"{CALLS:,} calls in a tight loop"
    return [
        *found,
        Row(f"{label}, a call, threads and all", logged / CALLS * 1e6, "µs", 10, None, ""),
        Row(f"{label}, until acknowledged", CALLS / arrived, "points/s", 100_000, None, "", more=True),
    ]


def _intake(metrics: dict[str, float]) -> float:
    def complain(about: str, wrong: Wrong) -> None:
        raise wrong

    intake = Intake(complain, most=sys.maxsize)
    return _microseconds(lambda step: intake.add(metrics, step), intake.waiting)


def _raw(metrics: dict[str, float]) -> float:
    waiting: deque[Point] = deque()

    def add(step: int) -> None:
        for name, value in metrics.items():
            waiting.append((name, value, step, 0))

    return _microseconds(add, waiting)


def _microseconds(add: Callable[[int], None], waiting: deque[Point]) -> float:
    """Of a call, the median of some rounds."""
    rounds = []
    for _ in range(9):
        waiting.clear()
        began = time.process_time()
        for step in range(CALLS // 5):
            add(step)
        rounds.append((time.process_time() - began) / (CALLS // 5) * 1e6)
    return median(rounds)


def _import() -> float:
    code = "import time; b = time.process_time(); import rungraph; print(time.process_time() - b)"
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{code}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return median(
        [float(subprocess.run(command, capture_output=True, env=environment).stdout) for _ in range(5)]
    )


def _tight(server: Server) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as home:
        ended = subprocess.run(
            [sys.executable, "-S", "-E", "-c", TIGHT, str(CLIENT), str(CALLS)],
            env={"RUNGRAPH_HOME": home, "RUNGRAPH_URL": server.url, "RUNGRAPH_TOKEN": server.token},
            capture_output=True,
            text=True,
            check=True,
        )
    logged, arrived = map(float, ended.stdout.split())
    return logged, arrived
