"""What jobs print, paged both ways."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { job(id: $id) {
  logs(first: $first, after: $after, last: $last, before: $before) { edges { cursor node { text stream time } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


async def test_lines_are_paged_forward_and_backward(server: Server) -> None:
    code = "import sys\nfor n in range(25): print(n, flush=True)\nprint('é', file=sys.stderr)"
    (job,) = (await server.play(code))["jobs"]
    forward: list[str] = []
    backward: list[str] = []
    at: str | None = None
    while at is not None or not forward:
        page = (await server.ask(PAGE, id=job["id"], first=10, after=at))["logs"]
        forward += [edge["node"]["text"] for edge in page["edges"]]
        at = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    while at is not None or not backward:
        page = (await server.ask(PAGE, id=job["id"], last=10, before=at))["logs"]
        backward = [edge["node"]["text"] for edge in page["edges"]] + backward
        at = page["pageInfo"]["startCursor"] if page["pageInfo"]["hasPreviousPage"] else None
    assert forward == backward
    assert sorted(forward, key=lambda text: (len(text), text)) == sorted(
        [*map(str, range(25)), "é"], key=lambda text: (len(text), text)
    )


async def test_a_line_says_where_it_came_from(server: Server) -> None:
    (job,) = (
        await server.play("import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)")
    )["jobs"]
    told = {(line["text"], line["stream"], line["rank"], line["attempt"]) for line in job["logs"]["nodes"]}
    assert told == {("out", "STDOUT", 0, 1), ("err", "STDERR", 0, 1)}


async def test_a_job_that_prints_nothing_has_an_empty_page(server: Server) -> None:
    (job,) = (await server.play("pass"))["jobs"]
    page = (await server.ask(PAGE, id=job["id"], first=1))["logs"]
    information = {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}
    assert page == {"edges": [], "pageInfo": information}
