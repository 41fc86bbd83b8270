"""The courier as init container: fetches what a job is given, and lends it a shell.

Source, client and inputs come from the server's listener, by the job's token; what breaks is tried again, and an
input goes on where it broke off. The job's container then runs `start.sh` with the shell of the courier's image,
its loader and library beside it, so that an image without any runs the same. Standard library alone; Python 3.9 or
newer.
"""
# ruff: noqa: PTH101, PTH103, PTH104, PTH108, PTH110, PTH118, PTH119, PTH120, PTH123, PTH202, PTH211, T201
# It is started where seconds count, and calls little else.

import contextlib
import http.client
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

ATTEMPT = "/rungraph/attempt"  # the Secret
BOX = "/rungraph/box"  # shared with the job
FOLDERS = {name: f"/mnt/{name}" for name in ("source", "input", "client")}
LAST_WORDS = "/dev/termination-log"
REFUSED = 3

CHUNK = 1 << 20
PATIENCE_SECONDS = 900.0  # with a server that is away

Told = dict[str, Any]


class Refused(Exception):
    """What no second try can mend."""


def fetch() -> None:
    """Everything, in the order that lets a mistake be told soonest."""
    told = json.loads(_read("courier.json"))
    os.umask(0)  # the job may run as another user than we
    _lend_shell(os.path.join(BOX, "bin"))
    os.makedirs(os.path.join(BOX, "home"), exist_ok=True)
    for pipe in ("stdout", "stderr", "control"):
        os.mkfifo(os.path.join(BOX, pipe), 0o666)
    with open(os.path.join(FOLDERS["input"], "input.json"), "wb") as file:
        file.write(zlib.decompress(_read("input.json.z")))
    _insist(partial(_fetch_source, told))
    for name in told["inputs"]:
        _insist(partial(_fetch_input, told, name))


def _fetch_source(told: Told) -> None:
    with _ask(told, "/attempt/source.tar") as answer, _tar(answer) as tar:
        for member in tar:
            top, _, rest = member.name.partition("/")
            if top == "complete":
                return
            if rest and top in ("source", "client"):
                _unpack(tar, member, os.path.join(FOLDERS[top], rest))
    raise OSError("the source broke off")


def _tar(answer: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=answer, mode="r|")


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    if member.isdir():
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)  # of a try before
    if member.issym():
        os.symlink(member.linkname, path)
        return
    content = tar.extractfile(member)
    if content is None:
        return
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    os.chmod(path, 0o777 if member.mode & stat.S_IXUSR else 0o666)


def _fetch_input(told: Told, name: str) -> None:
    path = os.path.join(FOLDERS["input"], name)
    have = os.path.getsize(path) if os.path.exists(path) else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _ask(told, f"/attempt/inputs/{urllib.parse.quote(name)}", headers) as answer:
        if answer is None:
            return  # it was all there
        have = have if answer.status == 206 else 0
        with open(path, "ab" if have else "wb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
    length = answer.headers.get("Content-Length")
    if length is not None and os.path.getsize(path) < have + int(length):
        raise OSError(f"{name} broke off")


@contextlib.contextmanager
def _ask(told: Told, path: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
    """The server's answer; None where it has nothing more than we have."""
    request = urllib.request.Request(told["url"] + path)
    for name, value in {"Authorization": f"Bearer {told['token']}", **(headers or {})}.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            yield None
            return
        words = error.read(500).decode(errors="replace")
        if error.code < 500 and error.code not in (408, 429):
            raise Refused(f"{told['url']}{path}: {error.code} {words}") from error
        raise
    with answer:
        yield answer


def _insist(work: Callable[[], None]) -> None:
    """Until it is done, the server refuses, or patience ends; longer pauses each time."""
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            work()
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Refused(f"the server was away for {PATIENCE_SECONDS:.0f} s: {error}") from error
            print("trying again after", repr(error), file=sys.stderr, flush=True)
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 5.0)


def _lend_shell(folder: str) -> None:
    """A shell that runs in any image of this machine's kind: with the loader and library it needs, by path."""
    os.makedirs(folder)
    shell = os.path.realpath("/bin/sh")
    shutil.copy(shell, os.path.join(folder, "sh"))
    needs = subprocess.run(["ldd", shell], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(?:^|\s)(/\S+)", needs):
        name = os.path.basename(path)
        shutil.copy(path, os.path.join(folder, name))
        if name.startswith("ld-"):
            os.rename(os.path.join(folder, name), os.path.join(folder, "loader"))
            if "libc" not in needs.replace(path, ""):
                os.symlink("loader", os.path.join(folder, name))  # musl's loader is its library too


def _read(name: str) -> bytes:
    with open(os.path.join(ATTEMPT, name), "rb") as file:
        return file.read()


if __name__ == "__main__":
    try:
        fetch()
    except Refused as error:
        with open(LAST_WORDS, "w") as file:
            file.write(str(error))
        sys.exit(REFUSED)
