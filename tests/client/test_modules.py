"""`rungraph module`: installing with its log, and what went wrong."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer

PROBLEM = {
    "file": "rungraph.yaml",
    "line": 12,
    "column": 7,
    "path": "functions.train.options.rate",
    "rule": "default-in-bounds",
    "message": "2.0 is above the maximum 1.0",
}


@pytest.fixture
def installing(peer: Peer) -> list[dict[str, Any]]:
    """Has the peer install modules, with two lines of log; what it is asked to install."""
    inputs: list[dict[str, Any]] = []

    def install(input: dict[str, Any]) -> dict[str, Any]:
        inputs.append({key: value for key, value in input.items() if value is not False})
        return {"version": objects.version("FETCHING"), "errors": []}

    peer.fields["installModule"] = install
    lines = [("LinesAdded", {"step": None, "lines": [objects.line(word)]}) for word in ("fetched", "built")]
    peer.feeds["moduleVersion"] = objects.events(*lines, first=1)
    return inputs


def test_adding_shows_the_log_and_what_came_of_it(
    peer: Peer,
    command: Command,
    installing: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    peer.fields["node"] = objects.version("READY")
    result = command("module", "add", "digits")
    assert result.exit_code == exits.OK
    assert installing == [{"source": str(tmp_path / "digits")}]
    shown = ["fetched", "built", "digits version 2 READY", "  digits/train  Learns."]
    assert result.stdout.splitlines() == shown


def test_a_url_is_given_to_the_server_as_it_is(
    peer: Peer, command: Command, installing: list[dict[str, Any]]
) -> None:
    command("module", "add", "git+https://host/repo@v1", "--no-wait")
    assert installing == [{"source": "git+https://host/repo@v1"}]


def test_branch_folder_and_name_are_given_to_the_server(
    command: Command, installing: list[dict[str, Any]]
) -> None:
    options = ("--ref", "v1", "--folder", "a/b", "--name", "text", "--submodules")
    command("module", "add", "git@host:repo.git", *options, "--no-wait")
    given = {"source": "git@host:repo.git", "ref": "v1", "folder": "a/b", "name": "text", "submodules": True}
    assert installing == [given]


def test_a_home_is_expanded(
    command: Command, installing: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command("module", "add", "~/digits", "--no-wait")
    assert installing == [{"source": str(tmp_path / "digits")}]


def test_an_archive_is_uploaded(
    peer: Peer, command: Command, installing: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "digits.zip").write_bytes(b"PK")
    peer.fields |= objects.uploading()
    command("module", "add", str(tmp_path / "digits.zip"), "--no-wait")
    assert installing == [{"source": objects.FILE}]
    assert list(peer.uploaded.values()) == [b"PK"]


def test_a_folder_is_packed_when_asked(
    peer: Peer, command: Command, installing: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "digits"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "a.pyc").touch()
    (folder / "rungraph.yaml").write_text("name: digits")
    (folder / "link").symlink_to("rungraph.yaml")
    peer.fields |= objects.uploading()
    command("module", "add", str(folder), "--upload", "--no-wait")
    assert installing == [{"source": objects.FILE}]
    (content,) = peer.uploaded.values()
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        assert {member.name: member.isreg() for member in packed} == {"link": True, "rungraph.yaml": True}


@pytest.mark.usefixtures("installing")
def test_a_folder_that_leads_out_is_not_packed(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    result = command("module", "add", str(folder), "--upload", "--no-wait")
    assert (result.exit_code, "out: a module holds" in result.stderr) == (exits.USAGE, True)


def test_content_that_was_installed_before_is_shown_as_the_version_it_is(
    peer: Peer, command: Command, installing: list[dict[str, Any]]
) -> None:
    new = objects.version("READY", id="new", number=None, sameAs={"id": "v"})
    peer.fields["node"] = lambda id: new if id == "new" else objects.version("READY")
    peer.fields["installModule"] = lambda input: {"version": new, "errors": []}
    result = command("module", "add", "digits")
    assert (result.exit_code, result.stdout.splitlines()[2:3]) == (
        exits.OK,
        ["digits version 2 READY, unchanged"],
    )


@pytest.mark.usefixtures("installing")
def test_a_failure_names_file_line_column_path_and_rule(peer: Peer, command: Command) -> None:
    peer.fields["node"] = objects.version("FAILED", problems=[PROBLEM], message="1 problem", functions=[])
    result = command("module", "add", "digits")
    assert result.exit_code == exits.FAILED
    expected = (
        "rungraph.yaml:12:7 functions.train.options.rate default-in-bounds 2.0 is above the maximum 1.0"
    )
    assert result.stdout.splitlines()[2:] == [expected, "digits version 2 FAILED: 1 problem"]


@pytest.mark.usefixtures("installing")
def test_a_failed_preparation_is_a_failure(peer: Peer, command: Command) -> None:
    failed = {"backend": {"name": "local"}, "state": "FAILED", "message": "no such package"}
    peer.fields["node"] = objects.version("READY", preparations=[failed])
    result = command("module", "add", "digits")
    assert (result.exit_code, "local: no such package" in result.stdout) == (exits.FAILED, True)
    assert "digits version 2 FAILED: it could not be prepared" in result.stdout.splitlines()


@pytest.mark.usefixtures("installing")
@pytest.mark.parametrize(("state", "code"), [("READY", exits.OK), ("FAILED", exits.FAILED)])
def test_adding_as_json_is_one_document(peer: Peer, command: Command, state: str, code: int) -> None:
    peer.fields["node"] = objects.version(state, problems=[PROBLEM])
    result = command("module", "add", "digits", "--json")
    assert (result.exit_code, json.loads(result.stdout)["problems"]) == (code, [PROBLEM])
    assert "fetched" in result.stderr


@pytest.mark.usefixtures("installing")
def test_without_waiting_it_is_only_begun(command: Command) -> None:
    assert command("module", "add", "digits", "--no-wait").stdout == "v FETCHING\n"
    assert json.loads(command("module", "add", "digits", "--no-wait", "--json").stdout)["id"] == "v"


def test_a_list_shows_active_versions(peer: Peer, command: Command) -> None:
    module = {"id": "m", "name": "digits", "description": "", "createdAt": objects.AT}
    peer.fields["modules"] = objects.connection(
        [{**module, "activeVersion": objects.version("READY")}, {**module, "activeVersion": None}]
    )
    rows = [line.split("\t") for line in command("module", "list").stdout.splitlines()]
    assert [row[:3] for row in rows] == [["digits", "2", "digits/train"], ["digits", "none", ""]]
    assert len(json.loads(command("module", "list", "--json").stdout)) == 2
