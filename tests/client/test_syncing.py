"""`rungraph run sync`: what processes left is sent, whatever else lies beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from rungraph import exits, points
from rungraph.spool import Spool
from tests.client.conftest import Command
from tests.client.peer import TOKEN, Peer


def leave(peer: Peer, folder: Path) -> None:
    """What a process leaves that ended before its one batch was sent."""
    spool = Spool(folder, pytest.fail)
    batch = points.Batch()
    assert batch.takes(("loss", 0.5, 1, 1_700_000_000_000_000))
    assert spool.append(points.pack(batch))
    spool.close()
    about = {"url": peer.url, "token": TOKEN, "rank": 0, "create": None, "heartbeatSeconds": None}
    (folder / "run.json").write_text(json.dumps({**about, "ending": None}))


@pytest.mark.parametrize("torn", ["", '{"url": "http'])
def test_what_a_power_cut_left_unreadable_keeps_nothing_else_from_being_sent(
    peer: Peer, command: Command, tmp_path: Path, torn: str
) -> None:
    came: list[Any] = []

    def take(input: dict[str, Any]) -> dict[str, Any]:
        came.append(input["number"])
        return {"seq": 1, "errors": []}

    peer.fields["logMetrics"] = take
    for name in ("a", "b", "c"):
        leave(peer, tmp_path / name)
    (tmp_path / "b" / "run.json").write_text(torn)
    result = command("run", "sync", str(tmp_path))
    assert (result.exit_code, came) == (exits.FAILED, [1, 1])
    assert f"{tmp_path}/b/run.json cannot be read" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in "abc") == ["b"]
    assert list((tmp_path / "b").glob("*.batches")), "it is kept for who can say whose it is"
