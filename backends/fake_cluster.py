"""The folder that stands for the fake backend's cluster, shared by as many servers as there are.

    jobs/<name>/   spec.json, input/; asks.json: what was asked of it since; output/ once somebody looked
    launched       a line for each launch that took effect: a name stands there once
    changes        grows with every ask and removal, so that who watches need look at one file alone
    away           until when nobody reaches the cluster

Every effect is one rename or made under a lock, so that it happens once, whoever asks and however often.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends import base, folders, scripts
from backends.histories import Asks, History, Notes

SPEC, ASKS = "spec.json", "asks.json"
AGAIN_SECONDS = 0.2


class Cluster:
    """What is known of the attempts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._jobs = self.folder / "jobs"
        self._histories: dict[str, tuple[tuple[int, ...], History]] = {}
        self._away = str(self.folder / "away")
        self._until: tuple[tuple[int, int], float] = (0, 0), 0.0
        """Until when the cluster is away, and of which state of the file that was read."""

    def make(self) -> None:
        """Have the folder be there."""
        try:
            for name in ("jobs", "new", "trash"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise base.BackendUnavailable(f"{self.folder} cannot be used: {error}") from error

    def reach(self) -> None:
        """Raise BackendUnavailable while the cluster is away."""
        try:
            found = os.stat(self._away)  # noqa: PTH116 - whatever is asked of the cluster begins here
            if (state := (found.st_ino, found.st_mtime_ns)) != self._until[0]:
                self._until = state, float((self.folder / "away").read_text())
        except FileNotFoundError:
            return
        if (left := self._until[1] - time.time()) > 0:
            raise base.BackendUnavailable("the cluster is away", retry_in_seconds=min(left, AGAIN_SECONDS))

    def leave(self, seconds: float) -> None:
        """Have nobody reach the cluster for so long; its jobs go on. 0 brings it back."""
        new = self.folder / f"away.{secrets.token_hex(4)}"
        new.write_text(str(time.time() + seconds))
        new.rename(self.folder / "away")

    def launch(
        self, spec: base.JobSpec, steps: Sequence[str], environment: Mapping[str, str], speed: float
    ) -> None:
        """Have the attempt be there, unless it is."""
        folder = self._jobs / spec.name
        if folder.is_dir():
            return
        new = self._new(spec.name)
        record = {
            "at": time.time(),
            "speed": speed,
            "steps": steps,
            "workers": spec.workers,
            "environment": dict(environment),
            "document": spec.input_document.decode(),
        }
        try:
            folders.fill(new, record, spec, output=False)
            new.rename(folder)
            with (self.folder / "launched").open("a") as launched:
                launched.write(f"{spec.name}\n")
        except OSError as error:
            if not folder.is_dir():  # else another launch of this name was faster
                raise base.BackendUnavailable(f"{folder} cannot be written: {error}") from error
        finally:
            folders.discard(new)

    def launched(self) -> list[str]:
        """The name of every attempt that was launched, as often as it was."""
        try:
            return (self.folder / "launched").read_text().splitlines()
        except FileNotFoundError:
            return []

    def held(self) -> list[str]:
        """The attempts that are there."""
        return sorted(path.name for path in self._jobs.iterdir())

    def history(self, name: str) -> History | None:
        """How an attempt stands, by its notes as they are now; None if there is none."""
        folder = self._jobs / name
        kept = self._histories.get(name)
        try:
            version = _version(folder)
            if kept is not None and kept[0] == version:
                return kept[1]
            same = kept is not None and kept[0][0] == version[0]
            notes = kept[1].notes if kept and same else _notes(name, json.loads((folder / SPEC).read_text()))
            history = History(notes, _asks(folder))
        except FileNotFoundError:
            self._histories.pop(name, None)
            return None
        self._histories[name] = version, history
        return history

    def outputs(self, name: str) -> Path:
        """The folder of what an ended attempt wrote."""
        folder, history = self._jobs / name, self.history(name)
        if history is None or (folder / "output").is_dir():
            return folder / "output"
        new = self._new(name)
        new.mkdir()
        for each in history.wrote():
            if each.copied is None:
                (new / each.name).write_bytes(each.content)
            else:
                shutil.copyfile(folder / "input" / each.copied, new / each.name)
        try:
            new.rename(folder / "output")
        except OSError:
            folders.discard(new)  # another server was faster
        return folder / "output"

    def spool(self, name: str) -> Path:
        """Where nobody leaves anything."""
        return self._jobs / name / "spool"

    def ask(self, name: str, change: Callable[[Asks], None]) -> None:
        """Note what is asked of an attempt; of one that is not there nothing is."""
        folder = self._jobs / name
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            asks = _asks(folder)
            change(asks)
            (folder / f"{ASKS}.new").write_text(json.dumps(asdict(asks)))
            (folder / f"{ASKS}.new").rename(folder / ASKS)
        except FileNotFoundError:
            return  # removed meanwhile
        finally:
            os.close(descriptor)
        self._change()

    def strike(self, name: str, reason: base.EndReason, words: str = "struck") -> None:
        """End an attempt as fate does: PREEMPTED, LOST, OUT_OF_MEMORY."""
        self.ask(name, lambda asks: asks.strikes.append((time.time(), reason.value, words)))

    def remove(self, name: str) -> None:
        """Forget an attempt."""
        self._histories.pop(name, None)
        trash = self.folder / "trash" / f"{name}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            (self._jobs / name).rename(trash)
            folders.discard(trash)
            self._change()

    def changes(self) -> int:
        """A number that grows with whatever is asked or removed."""
        try:
            return (self.folder / "changes").stat().st_size
        except FileNotFoundError:
            return 0

    def _change(self) -> None:
        with (self.folder / "changes").open("ab") as changes:
            changes.write(b".")

    def _new(self, name: str) -> Path:
        return self.folder / "new" / f"{name}.{secrets.token_hex(4)}"


def _notes(name: str, record: Mapping[str, Any]) -> Notes:
    steps, workers = record["steps"], range(record["workers"])
    environments = ({**record["environment"], "RANK": str(rank)} for rank in workers)
    givens = [scripts.Given(rank, each, record["document"]) for rank, each in enumerate(environments)]
    plays = tuple(scripts.play(steps, given) for given in givens)
    return Notes(name, record["at"], record["speed"], scripts.before(steps), plays)


def _version(folder: Path) -> tuple[int, ...]:
    """Another one for another attempt and after every ask, which makes its file longer."""
    path = str(folder)  # each look at each attempt begins here, and pathlib takes half of its time
    made = os.stat(path).st_ino  # noqa: PTH116
    try:
        asks = os.stat(f"{path}/{ASKS}")  # noqa: PTH116
    except FileNotFoundError:
        return (made,)
    return made, asks.st_ino, asks.st_size


def _asks(folder: Path) -> Asks:
    try:
        return Asks.of(json.loads((folder / ASKS).read_text()))
    except FileNotFoundError:
        return Asks()
