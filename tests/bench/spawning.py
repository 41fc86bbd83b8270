"""The limit where jobs are processes: as many of them, at the same pace, started by nobody but this.

`python -m tests.bench.spawning COUNT SECONDS NICE FOLDER`. It gives way as jobs do, and does nothing else.
"""

import os
import signal
import sys
import time
from pathlib import Path

from backends.workers import give_way
from tests.bench.server import STAMP


def main(count: int, seconds: float, nice: int, folder: Path) -> None:
    """Start `count` processes in so many seconds; they end by themselves."""
    (script := folder / "stamp.py").write_text(STAMP)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    os.nice(nice)
    give_way(nice)
    interpreter = os.path.realpath(sys.executable)
    nothing = [(os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (0, 1)]
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * seconds / count - time.monotonic()))
        command = [interpreter, "-S", "-E", str(script)]
        os.posix_spawn(interpreter, command, {"RUNGRAPH_OUTPUT": str(folder)}, file_actions=nothing)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
