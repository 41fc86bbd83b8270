"""Processes that begin where a server's imports end, forked off one that has them behind it: they are most of a start.

What such a process does from there on is what `python -m graph.serve` does; that entrance itself is what the tests of
the page and of the settings start. Nothing of pytest is imported here, and nothing of the test's environment stays.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from graph import serve

_FORGE = multiprocessing.get_context("forkserver")
_FORGE.set_forkserver_preload(["graph.serving", __name__])


def process(
    target: Callable[..., None], *given: Any, environment: Mapping[str, str], log: Path
) -> BaseProcess:
    """A process that has begun to call a function, in this environment alone; what it prints goes to a file."""
    made = _FORGE.Process(target=_begin, args=(target, given, dict(environment), str(log)), daemon=True)
    made.start()
    return made


def server(arguments: Sequence[str]) -> None:
    """Serve with these arguments of the command line."""
    sys.argv = ["graph.serve", *arguments]
    serve.main()


def _begin(
    target: Callable[..., None], given: Sequence[Any], environment: Mapping[str, str], log: str
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(sink, stream)
    os.close(sink)
    target(*given)
