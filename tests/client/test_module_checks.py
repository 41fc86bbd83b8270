"""`rungraph module check` and `init`."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits
from tests.client.conftest import Command
from tests.client.peer import Peer

PLACE = {"file": "mlsploit_module.yaml", "line": 3, "column": 1, "path": "tagline"}
OPTION: dict[str, Any] = {"required": True, "default": None, "minimum": None, "maximum": None, "values": None}
FUNCTION: dict[str, Any] = {
    "name": "greet",
    "description": "Greets.",
    "command": ["python", "a.py"],
    "workers": 1,
    "timeoutSeconds": None,
    "retries": 0,
    "createsFiles": False,
    "modifiesFiles": None,
    "options": [
        {**OPTION, "name": "whom", "type": "STR", "doc": "who"},
        {**OPTION, "name": "n", "type": "INT", "required": False, "default": 3, "minimum": 1, "doc": ""},
        {**OPTION, "name": "style", "type": "ENUM", "values": ["a", "b"], "doc": ""},
    ],
    "accepts": [{"types": ["txt", "md"], "requiredTags": ["lang"], "tags": {"ftype": "x"}}],
    "outputTags": [{"name": "hits", "type": "int"}],
    "resources": {"cpus": None, "memoryBytes": None, "gpus": 0},
}
FOUND: dict[str, Any] = {
    "installable": True,
    "message": None,
    "commit": "0123456789abcdef",
    "format": "MLSPLOIT",
    "name": "hello",
    "title": "Hello",
    "tagline": "Greets whoever",
    "description": "",
    "needsContainer": True,
    "problems": [],
    "notes": [{**PLACE, "rule": "too-long", "message": "is longer than 50 characters; kept"}],
    "functions": [FUNCTION],
}


def test_a_module_is_explained_line_by_line(peer: Peer, command: Command) -> None:
    peer.fields["checkModule"] = lambda input: {"check": FOUND, "errors": []}
    result = command("module", "check", "https://h/hello.git", "--ref", "v1")
    assert result.exit_code == exits.OK
    assert peer.operations[-1][1] == {"input": {"source": "https://h/hello.git", "ref": "v1"}}
    assert result.stdout.splitlines() == [
        "hello (mlsploit_module.yaml at commit 0123456789ab)  Hello: Greets whoever",
        "  greet  Greets.",
        "    whom: str, required  who",
        "    n: int, default 3, min 1",
        "    style: a | b, required",
        "    takes .txt or .md tagged ftype=x, lang",
        "    puts tags hits (int)",
        "    creates no files",
        "    runs python a.py",
        "note: mlsploit_module.yaml:3:1 tagline too-long is longer than 50 characters; kept",
        "it can be installed; it states no command, so only a backend of containers can run it",
    ]


def test_what_is_wrong_is_told_and_the_code_says_so(peer: Peer, command: Command) -> None:
    nothing: dict[str, Any] = {
        "installable": False,
        "format": None,
        "name": None,
        "functions": [],
        "notes": [],
    }
    problem = {**PLACE, "rule": "type", "message": "is wrong"}
    found = {**FOUND, **nothing, "problems": [problem], "message": "it has 1 mistake"}
    peer.fields["checkModule"] = {"check": found, "errors": []}
    result = command("module", "check", "hello")
    assert (result.exit_code, result.stdout.splitlines()) == (
        exits.FAILED,
        ["mlsploit_module.yaml:3:1 tagline type is wrong", "it cannot be installed: it has 1 mistake"],
    )
    result = command("module", "check", "hello", "--json")
    assert (result.exit_code, json.loads(result.stdout)["problems"]) == (exits.FAILED, [problem])


def test_a_module_to_begin_with_is_written_over_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Text tools"
    result = command("module", "init", str(folder))
    assert (result.exit_code, result.stdout.splitlines()) == (
        exits.OK,
        [str(folder / "rungraph.yaml"), str(folder / "main.py")],
    )
    assert "\nname: text-tools\n" in (folder / "rungraph.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    for named, typed in (
        ("hello", "./hello"),
        ("./two", "./two"),
        ("x y", "'./x y'"),
        (str(tmp_path / "z"), ""),
    ):
        told = command("module", "init", named).stderr
        assert told.splitlines()[-1] == f"next: rungraph module add {typed or named}"
    monkeypatch.chdir(folder)
    result = command("module", "init")
    assert (result.exit_code, "has a rungraph.yaml already" in result.stderr) == (exits.USAGE, True)
    assert command("module", "init", str(tmp_path / "123")).exit_code == exits.USAGE
    assert json.loads(command("module", "init", str(tmp_path / "1"), "--name", "one", "--json").stdout)
