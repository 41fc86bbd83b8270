"""What jobs leave unsent: sent elsewhere, or lost in words that name the attempt."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from backends import leftovers
from rungraph import points
from rungraph.spool import Spool
from tests.backends.standins import answering

CLIENT = Path(__file__).parents[2] / "client"
NOWHERE = "http://127.0.0.1:9"


def left(folder: Path, batches: int = 1) -> int:
    """Leave so many batches, as a killed process does; their size."""
    spool = Spool(folder / "worker-0", pytest.fail)
    for _ in range(batches):
        batch = points.Batch()
        assert batch.takes(("loss", 0.5, 1, 1_700_000_000_000_000))
        assert spool.append(points.pack(batch))
    spool.close()
    return sum(path.stat().st_size for path in folder.glob("*/*.batches"))


async def test_what_cannot_be_sent_in_time_is_lost_in_words_that_name_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.5)
    size = left(tmp_path)
    with capture_logs() as logged:
        said = await leftovers.send("job-1", tmp_path, CLIENT, NOWHERE, "token")
    why = f"{NOWHERE} has not taken them within 0.5 s"
    assert said == f"{size} bytes of points that it had not sent are lost: {why}"
    (told,) = logged
    assert (told["log_level"], told["attempt"], told["bytes"], told["told"]) == ("error", "job-1", size, why)


async def test_without_the_client_nothing_is_sent_and_that_is_told(tmp_path: Path) -> None:
    assert await leftovers.send("job-1", tmp_path, None, NOWHERE, "token") is None  # nothing is there
    left(tmp_path)
    said = await leftovers.send("job-1", tmp_path, None, NOWHERE, "token")
    assert said is not None and said.endswith("are lost: the server runs without the client")


@pytest.mark.parametrize("refusing", [0, 2])
async def test_of_what_has_arrived_nothing_is_lost(tmp_path: Path, refusing: int) -> None:
    came: list[int] = []
    busy = [503] * refusing

    async def report(request: Request) -> Response:
        if busy:
            return Response(status_code=busy.pop())
        came.append((await request.json())["variables"]["input"]["number"])
        return JSONResponse({"data": {"logMetrics": {"seq": 1, "errors": []}}})

    left(tmp_path, 3)
    app = Starlette(routes=[Route("/graphql", report, methods=["POST"])])
    async with answering(app) as port:
        said = await leftovers.send("job-1", tmp_path, CLIENT, f"http://127.0.0.1:{port}", "token")
    assert (said, came) == (None, [1, 2, 3])


async def test_what_is_refused_for_good_is_lost_in_the_words_of_the_refusal(tmp_path: Path) -> None:
    async def refuse(_: Request) -> Response:
        error = {"message": "the token is revoked", "extensions": {"code": "UNAUTHENTICATED"}}
        return JSONResponse({"errors": [error]}, 401)

    size = left(tmp_path, 3)
    app = Starlette(routes=[Route("/graphql", refuse, methods=["POST"])])
    async with answering(app) as port:
        said = await leftovers.send("job-1", tmp_path, CLIENT, f"http://127.0.0.1:{port}", "token")
    assert said is not None and said.startswith(f"{size} bytes of points that it had not sent are lost")
    assert "the token is revoked" in said
