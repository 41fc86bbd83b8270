"""A deep page costs as many statements whether it has few runs or many."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import Engine, event

from db.database import Alone
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEEP = """query ($first: Int, $pipeline: ID) { runs(first: $first, filter: {pipeline: $pipeline}) { nodes {
  id state seq waitingFor { code } tags { name value } metrics { name last } files { id name } timeline { seq }
  project { name } pipeline { name } revision { number steps { name function { name } } }
  jobs { id needs inputs { id } outputs { id job { step } } function { name address module { name } version { number } }
    attempts { number workers { rank phase } } } } } }"""


_ours: ContextVar[bool] = ContextVar("_ours", default=False)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that this test's own requests execute meanwhile; the supervisor has a context of its own."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _ours.get():
            seen.append(statement)

    async def fetch(session: Alone, text: str, values: Any) -> Any:
        note(None, None, text)
        return await usual(session, text, values)

    mine, usual = _ours.set(True), Alone._fetch
    event.listen(Engine, "before_cursor_execute", note)
    with pytest.MonkeyPatch.context() as spying:
        spying.setattr(Alone, "_fetch", fetch)
        yield seen
    event.remove(Engine, "before_cursor_execute", note)
    _ours.reset(mine)


async def statements(server: Server, pipeline: str, count: int) -> int:
    """How many a page of this many runs costs; now and then the token is looked up again beside it."""
    costs: list[int] = []
    for _ in range(3):
        with counted() as seen:
            page = await server.ask(DEEP, first=count, pipeline=pipeline)
        assert len(page["nodes"]) == count
        costs.append(len(seen))
    return min(costs)


async def test_a_page_of_twenty_runs_costs_what_a_page_of_two_costs(server: Server) -> None:
    writing = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/a', 'w'); print('{\"metric\": {\"x\": 1}}')"
    pipeline = await server.pipeline({"one": writing, "two": "pass"})
    file = await server.upload("in.txt")
    runs = [await server.start(pipeline, files=[file], tags=[{"name": "a"}]) for _ in range(21)]
    for run in runs:
        await server.finish(run["id"])
    few, many = await statements(server, pipeline, 2), await statements(server, pipeline, 20)
    assert 10 < few == many < 40


async def test_waiting_runs_are_explained_together(serve: Serve) -> None:
    async with serve(slots=1) as server:
        pipeline = await server.pipeline({"one": "import time; print('up', flush=True); time.sleep(600)"})
        runs = [await server.start(pipeline) for _ in range(21)]
        await server.until(runs[0]["id"], "LinesAdded")
        few, many = await statements(server, pipeline, 2), await statements(server, pipeline, 20)
        for run in reversed(runs):
            await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
        await server.finish(runs[0]["id"])
        assert 10 < few <= many <= few + 1, "one of the twenty runs, and has workers"
