"""`rungraph run export` and `run archive`: into a file that is whole, or a pipe."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import Response, StreamingResponse

from rungraph import exits
from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer, error_response


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_metrics_are_written_to_a_file_of_the_runs_name(peer: Peer, command: Command, folder: Path) -> None:
    peer.contents["csv"] = b"run,step\n"
    result = command("run", "export", objects.RUN, "--name", "loss", "--every-attempt")
    assert result.stdout == f"{objects.RUN}-metrics.csv\n"
    assert (folder / f"{objects.RUN}-metrics.csv").read_bytes() == b"run,step\n"
    assert peer.exported == [[("run", objects.RUN), ("name", "loss"), ("attempt", "all")]]


def test_the_file_s_name_says_the_format(peer: Peer, command: Command, folder: Path) -> None:
    peer.contents["parquet"] = b"PAR1"
    told = json.loads(command("run", "export", objects.RUN, "-o", "all.parquet", "--json").stdout)
    assert (
        told == {"path": "all.parquet", "sizeBytes": 4} and (folder / "all.parquet").read_bytes() == b"PAR1"
    )


@pytest.mark.parametrize("name", ["all.foo", "all.csv.gz"])
def test_an_ending_that_names_no_format_is_refused(peer: Peer, command: Command, name: str) -> None:
    result = command("run", "export", objects.RUN, "-o", name)
    assert result.exit_code == exits.USAGE and peer.exported == []
    assert name in result.stderr and all(each in result.stderr for each in (".csv", ".jsonl", ".parquet"))


def test_a_format_that_is_given_goes_into_a_file_of_any_name(
    peer: Peer, command: Command, folder: Path
) -> None:
    peer.contents["jsonl"] = b"{}\n"
    command("run", "export", objects.RUN, "-o", "all.foo", "--format", "jsonl")
    assert (folder / "all.foo").read_bytes() == b"{}\n"


def test_a_file_that_ends_as_another_format_is_refused(peer: Peer, command: Command, folder: Path) -> None:
    result = command("run", "export", objects.RUN, "-o", "all.csv", "--format", "parquet")
    assert result.exit_code == exits.USAGE and peer.exported == [] and list(folder.glob("all*")) == []
    assert all(each in result.stderr for each in ("all.csv ends as a csv", "parquet"))


def test_a_pipe_gets_the_bytes_alone(peer: Peer, command: Command, folder: Path) -> None:
    peer.contents["jsonl"] = b"{}\n"
    assert command("run", "export", objects.RUN, "-o", "-", "--format", "jsonl").stdout == "{}\n"
    assert list(folder.glob("*.jsonl")) == []


def test_a_run_is_archived(peer: Peer, command: Command, folder: Path) -> None:
    peer.contents[objects.RUN] = b"PK"
    command("run", "archive", objects.RUN)
    assert (folder / f"{objects.RUN}.zip").read_bytes() == b"PK"


def test_what_is_refused_leaves_no_file(peer: Peer, command: Command, folder: Path) -> None:
    peer.file_faults.append(lambda request: error_response(404, "NOT_FOUND", "there is no run x"))
    result = command("run", "archive", objects.RUN)
    assert (
        result.exit_code == exits.NOT_FOUND
        and "there is no run x" in result.stderr
        and "{" not in result.stderr
    )
    assert list(folder.iterdir()) == [folder / "home"]


def test_what_breaks_off_leaves_no_file(peer: Peer, command: Command, folder: Path) -> None:
    def broken(request: object) -> Response:
        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionResetError

        return StreamingResponse(half())

    peer.file_faults.append(broken)
    result = command("run", "archive", objects.RUN)
    assert result.exit_code != 0 and list(folder.iterdir()) == [folder / "home"]


def test_a_folder_that_is_not_there_is_said_before_anything_is_fetched(peer: Peer, command: Command) -> None:
    result = command("run", "archive", objects.RUN, "-o", "nowhere/run.zip")
    assert result.exit_code == 2 and "there is no folder" in result.stderr and peer.exported == []
