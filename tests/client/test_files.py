"""`rungraph file`: contents there and back."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


def offer(peer: Peer, name: str) -> dict[str, Any]:
    """Has the peer hold a file of that name."""
    peer.contents["a"] = b"content"
    sha256 = hashlib.sha256(b"content").hexdigest()
    file = {"id": objects.FILE, "name": name, "state": "READY", "sizeBytes": 7, "sha256": sha256}
    peer.fields["file"] = {**file, "mediaType": "text/plain", "url": "/contents/a"}
    return file


def test_files_are_put_and_their_ids_told(peer: Peer, command: Command, tmp_path: Path) -> None:
    file = {**offer(peer, "a.txt"), "mediaType": "text/plain"}
    peer.fields["createUpload"] = {"file": file, "upload": {"url": "/contents/a"}, "errors": []}
    peer.fields["completeUpload"] = {"file": file, "errors": []}
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    assert command("file", "put", str(path)).stdout == f"{objects.FILE}\ta.txt\t7 B\n"
    told = json.loads(command("file", "put", str(path), str(path), "--json").stdout)
    assert [entry["id"] for entry in told] == [objects.FILE, objects.FILE]


def test_what_has_no_size_is_not_put_as_an_empty_file(peer: Peer, command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.txt").write_bytes(b"content")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        result = command("file", "put", str(tmp_path / "a.txt"), str(path))
        assert (result.exit_code, f"{path}: it is no regular file" in result.stderr) == (exits.USAGE, True)
    assert peer.operations == []


@pytest.mark.parametrize("name", ["a.txt", "../a.txt", "/etc/a.txt"])
def test_a_file_gets_its_own_name_and_stays_in_the_folder(
    peer: Peer, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    offer(peer, name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert command("file", "get", objects.FILE).stdout == "a.txt\n"
    assert (folder / "a.txt").read_bytes() == b"content"


def test_a_file_goes_where_it_is_told(peer: Peer, command: Command, tmp_path: Path) -> None:
    offer(peer, "a.txt")
    into = json.loads(command("file", "get", objects.FILE, "-o", str(tmp_path), "--json").stdout)
    assert into["path"] == str(tmp_path / "a.txt")
    command("file", "get", objects.FILE, "-o", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"content"


def test_a_corrupted_download_fails_and_leaves_nothing(peer: Peer, command: Command, tmp_path: Path) -> None:
    offer(peer, "a.txt")
    peer.contents["a"] = b"CONTENT"
    result = command("file", "get", objects.FILE, "-o", str(tmp_path / "b"))
    assert (result.exit_code, list(tmp_path.glob("b*"))) == (exits.FAILED, [])


def test_a_folder_that_is_not_there_is_told(peer: Peer, command: Command, tmp_path: Path) -> None:
    offer(peer, "a.txt")
    result = command("file", "get", objects.FILE, "-o", str(tmp_path / "no" / "b"))
    assert (result.exit_code, "No such file or directory" in result.stderr) == (exits.FAILED, True)


def test_an_unknown_file_is_not_found(peer: Peer, command: Command) -> None:
    peer.fields["file"] = None
    assert command("file", "get", objects.FILE).exit_code == exits.NOT_FOUND


def test_files_are_listed_by_what_is_chosen(peer: Peer, command: Command) -> None:
    asked: list[dict[str, Any]] = []
    file = {"id": objects.FILE, "name": "m.pt", "kind": "OUTPUT", "state": "READY", "sizeBytes": 2048}

    def page(**arguments: Any) -> dict[str, Any]:
        asked.append(arguments["filter"])
        return objects.connection(
            [{**file, "tags": {}, "createdAt": objects.AT, "job": objects.job("train")}]
        )

    peer.fields["files"] = page
    result = command("file", "list", "--run", objects.RUN, "--kind", "output", "--tag", "n=3", "--tag", "w=x")
    assert result.stdout == f"{objects.FILE}\tm.pt\tOUTPUT\t2.0 KiB\ttrain\n"
    assert asked == [{"run": objects.RUN, "kind": "OUTPUT", "tags": {"n": 3, "w": "x"}}]
    assert command("--json", "file", "list").exit_code == exits.OK
