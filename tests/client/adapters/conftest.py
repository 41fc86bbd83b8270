"""A run at the peer, whose batches are known, and libraries that may be absent."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rungraph import reporter, targets
from rungraph.log import Run
from tests.client import objects
from tests.client.peer import TOKEN, Peer
from tests.client.test_sender import Json, keeping
from tests.conftest import absent


def library(name: str) -> Any:
    """A library, or a skip where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent("adapters", str(error))


class Logged:
    """A run, and what has arrived of it."""

    def __init__(self, run: Run, kept: list[Json], peer: Peer) -> None:
        self.run = run
        self.peer = peer
        self._kept = kept

    def series(self) -> dict[str, tuple[list[int | None], list[float]]]:
        """Steps and values of each metric, once all have arrived."""
        assert self.run.flush(30)
        found: dict[str, tuple[list[int | None], list[float]]] = {}
        for batch in self._kept:
            for one in batch["series"]:
                steps, values = found.setdefault(one["name"], ([], []))
                steps += one.get("steps") or [None] * len(one["values"])
                values += one["values"]
        return found

    def cancel(self) -> None:
        """Somebody asked it to stop, and it has heard."""
        self.run._reporter.sender.cancel_requested = True


@pytest.fixture
def logged(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """A run that is active."""
    import rungraph

    monkeypatch.setattr(sys.modules["rungraph.log"], "_current", None)
    monkeypatch.setattr(targets, "_of_environment", None)
    for name in ("RUNGRAPH_JOB_ID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    made = {"run": objects.run(), "job": objects.job("main"), "token": TOKEN, "errors": []}
    ended = {"run": objects.run(), "errors": []}
    peer.fields |= {"createRun": made, "finishRun": ended}
    kept = keeping(peer)
    with rungraph.run("training", url=peer.url, token=TOKEN, strict=True) as run:
        yield Logged(run, kept, peer)
    reporter._reporters.clear()
