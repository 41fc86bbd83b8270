"""Bad inputs: each gets a clear, typed refusal that leads to the mistake, and the server goes on.

What modules and jobs do wrong is in test_bad_modules.py and test_bad_jobs.py.
"""

import base64
from typing import Any

import pytest
import pytest_asyncio

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

Names = dict[str, str]
Errors = list[tuple[str, str, str]]

OPTIONS = {
    "n": {"type": "int", "min": 1, "max": 9, "default": 1},
    "kind": ["a", "b"],
}
DEEP: Any = {}
for _ in range(100):
    DEEP = {"x": [DEEP]}
NOTHING = "0" * 26


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def names(server: Server) -> Names:
    """Ids of one thing of each kind, to put where they belong and where they do not."""
    version = await server.install({"f": {"code": "pass", "options": OPTIONS}}, name="ml")
    pipeline = await server.draw("ml/f", name="taken")
    run = await server.finish((await server.start(pipeline, idempotencyKey="key"))["id"])
    return {
        "version": version["id"],
        "module": version["module"]["id"],
        "pipeline": pipeline,
        "run": run["id"],
        "job": run["jobs"][0]["id"],
        "ready": await server.upload("ready.txt"),
        "coming": await server.announce("coming.txt", 7),
    }


def filled(value: Any, names: Names) -> Any:
    """The value with `$name` replaced by the id of that name, and `$no name` by one of nothing."""
    if isinstance(value, str) and value.startswith("$no "):
        return f"{value[4:]}_{NOTHING}"
    if isinstance(value, str) and value.startswith("$"):
        return names[value[1:]]
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    return {key: filled(part, names) for key, part in value.items()} if isinstance(value, dict) else value


def started(**input: Any) -> tuple[str, dict[str, Any]]:
    return "startRun", {"pipeline": "$pipeline", **input}


def drawn(*steps: dict[str, Any], **input: Any) -> tuple[str, dict[str, Any]]:
    return "createPipeline", {"name": "new", "steps": list(steps), **input}


def argued(**arguments: Any) -> tuple[str, dict[str, Any]]:
    return started(arguments=[{"step": "f", "arguments": arguments}])


def logged(**input: Any) -> tuple[str, dict[str, Any]]:
    return "logMetrics", {"producer": "p", "number": 1, "job": "$job", **input}


def announced(**input: Any) -> tuple[str, dict[str, Any]]:
    return "createUpload", {"name": "x", "sizeBytes": 1, **input}


F = {"name": "a", "function": "ml/f"}
G = {"name": "b", "function": "ml/f"}
POINT = {"name": "loss", "value": 1.0}

REFUSED: dict[str, tuple[tuple[str, dict[str, Any]], Errors]] = {
    "an id of nothing": (started(pipeline="$no pipeline"), [("NOT_FOUND", "pipeline", "no such pipeline")]),
    "an id of the wrong kind": (started(pipeline="$run"), [("NOT_FOUND", "pipeline", "")]),
    "an id that is none": (started(pipeline="pipeline"), [("NOT_FOUND", "pipeline", "")]),
    "a run to cancel that is none": (("cancelRun", {"id": "$no run"}), [("NOT_FOUND", "id", "no such run")]),
    "a run that is a job": (("cancelRun", {"id": "$job"}), [("NOT_FOUND", "id", "")]),
    "a negative grace": (("cancelRun", {"id": "$run", "graceSeconds": -1}), [("INVALID", "graceSeconds", "")]),
    "an endless grace": (("cancelRun", {"id": "$run", "graceSeconds": 1e300}), [("INVALID", "graceSeconds", "")]),
    "an argument too many and one too large": (
        argued(n=10, m=1),
        [("INVALID", "arguments.0.arguments.m", ""), ("INVALID", "arguments.0.arguments.n", "9")],
    ),
    "arguments of wrong types": (
        argued(n="one", kind="c"),
        [("INVALID", "arguments.0.arguments.n", ""), ("INVALID", "arguments.0.arguments.kind", "")],
    ),
    "an argument that is huge": (argued(n=10**300), [("INVALID", "arguments.0.arguments.n", "")]),
    "an argument that is deep": (argued(n=DEEP), [("INVALID", "arguments.0.arguments.n", "")]),
    "arguments that are a list": (
        started(arguments=[{"step": "f", "arguments": [1]}]),
        [("INVALID", "arguments.0.arguments", "object")],
    ),
    "arguments of no step": (
        started(arguments=[{"step": "g", "arguments": {}}]),
        [("INVALID", "arguments.0.step", "'g'")],
    ),
    "arguments of a step twice": (
        started(arguments=[{"step": "f", "arguments": {}}] * 2),
        [("INVALID", "arguments", "twice")],
    ),
    "files that are not there, not complete, and twice": (
        started(files=["$no file", "$coming", "$ready", "$ready"]),
        [("INVALID", "files.0", "no file"), ("INVALID", "files.1", "coming.txt"), ("INVALID", "files.3", "twice")],
    ),
    "a file that is a run": (started(files=["$run"]), [("NOT_FOUND", "files.0", "")]),
    "a priority out of range": (started(priority=1001), [("INVALID", "priority", "1000")]),
    "a tag without a name": (started(tags=[{"name": ""}]), [("INVALID", "tags.0", "name")]),
    "a tag with a NUL": (started(tags=[{"name": "a", "value": "\0"}]), [("INVALID", "tags.0", "")]),
    "too many tags": (started(tags=[{"name": str(n)} for n in range(101)]), [("INVALID", "tags", "100")]),
    "a NUL in a name": (started(name="\0"), [("INVALID", "name", "")]),
    "a NUL in a key": (started(idempotencyKey="\0"), [("INVALID", "idempotencyKey", "")]),
    "an empty key": (started(idempotencyKey=""), [("INVALID", "idempotencyKey", "")]),
    "a key of another input": (started(idempotencyKey="key", priority=1), [("CONFLICT", "idempotencyKey", "another")]),
    "a name that is taken": (drawn(F, name="taken"), [("CONFLICT", "name", "taken")]),
    "no steps": (drawn(), [("INVALID", "steps", "")]),
    "an empty name": (drawn(F, name=""), [("INVALID", "name", "")]),
    "a pipeline with a NUL": (drawn(F, name="a\0"), [("INVALID", "name", "")]),
    "a description with a NUL": (drawn(F, description="\0"), [("INVALID", "description", "")]),
    "steps in a circle": (
        drawn({**F, "needs": ["b"]}, {**G, "needs": ["a"]}),
        [("INVALID", "steps.0.needs", "a → b → a")],
    ),
    "a step that needs itself": (drawn({**F, "needs": ["a"]}), [("INVALID", "steps.0.needs", "a → a")]),
    "a step that needs nothing known": (drawn({**F, "needs": ["z"]}), [("INVALID", "steps.0.needs", "'z'")]),
    "two steps of one name": (drawn(F, F), [("INVALID", "steps.1.name", "")]),
    "an unknown function": (drawn({**F, "function": "ml/g"}), [("INVALID", "steps.0.function", "ml/g")]),
    "an unknown module": (drawn({**F, "function": "nn/f"}), [("INVALID", "steps.0.function", "nn/f")]),
    "a function that is no address": (drawn({**F, "function": "\0"}), [("INVALID", "steps.0.function", "")]),
    "arguments of a step that are wrong": (
        drawn(F, {**G, "arguments": {"n": 0, "nn": 1}}),
        [("INVALID", "steps.1.arguments.nn", "'n'"), ("INVALID", "steps.1.arguments.n", "")],
    ),
    "arguments of a step that are text": (drawn({**F, "arguments": "n"}), [("INVALID", "steps.0.arguments", "")]),
    "a change of no pipeline": (("updatePipeline", {"id": "$no pipeline"}), [("NOT_FOUND", "id", "")]),
    "a change to nothing": (("updatePipeline", {"id": "$pipeline", "steps": []}), [("INVALID", "steps", "")]),
    "a project that is none": (drawn(F, project="$no project"), [("NOT_FOUND", "project", "")]),
    "a project that is a run": (drawn(F, project="$run"), [("NOT_FOUND", "project", "")]),
    "a file with a folder": (announced(name="a/b"), [("INVALID", "name", "")]),
    "a file with a NUL": (announced(name="a\0b"), [("INVALID", "name", "")]),
    "a file of less than nothing": (announced(sizeBytes=-1), [("INVALID", "sizeBytes", "")]),
    "a file that is too large": (announced(sizeBytes=2**50), [("LIMIT_EXCEEDED", "sizeBytes", "")]),
    "tags that are a list": (announced(tags=[1]), [("INVALID", "tags", "")]),
    "tags that are deep": (announced(tags={"a": DEEP}), [("INVALID", "tags.a", "")]),
    "tags with a NUL": (announced(tags={"a\0": "b"}), [("INVALID", "tags.a\0", "")]),
    "a media type with a line break": (announced(mediaType="a/b\r\nX: y"), [("INVALID", "mediaType", "")]),
    "a media type beyond latin": (announced(mediaType="text/☃"), [("INVALID", "mediaType", "")]),
    "an upload without content": (
        ("completeUpload", {"id": "$coming", "sha256": "", "sizeBytes": 7}),
        [("CONFLICT", "id", "PUT")],
    ),
    "a complete upload with another digest": (
        ("completeUpload", {"id": "$ready", "sha256": "0" * 64, "sizeBytes": 7}),
        [("INVALID", "sha256", "")],
    ),
    "a module from nowhere": (("installModule", {"source": ""}), [("INVALID", "source", "")]),
    "a module with a NUL": (("installModule", {"source": "/a\0"}), [("INVALID", "source", "")]),
    "a link out of this server": (("createLoginLink", {"then": "//evil.example"}), [("INVALID", "then", "")]),
    "points of a job that has ended": (logged(points=[POINT]), [("CONFLICT", "job", "")]),
    "points of no job": (logged(job="$no job", points=[POINT]), [("NOT_FOUND", "job", "")]),
    "points of nobody": (logged(job=None, points=[POINT]), [("INVALID", "job", "")]),
    "no points": (logged(), [("INVALID", "points", "")]),
    "points of a metric with a NUL": (
        logged(points=[{"name": "\0", "value": 1}]),
        [("INVALID", "points.0.name", "stored")],
    ),
    "a point without a name": (
        logged(points=[POINT, POINT, {"name": "", "value": 1}]),
        [("INVALID", "points.2.name", "250")],
    ),
    "a point of a series": (
        logged(series=[{"name": "loss", "values": [1]}], points=[POINT]),
        [("INVALID", "points.0.name", "twice")],
    ),
    "points with steps here and there": (logged(points=[POINT, {**POINT, "step": 1}]), [("INVALID", "points", "step")]),
    "a column with a hole": (
        logged(series=[{"name": "x", "values": [1, None]}]),
        [("INVALID", "series.0.values.1", "nonFinite")],
    ),
    "a hole that is none": (
        logged(series=[{"name": "x", "values": [1], "nonFinite": [{"index": 0, "kind": "NAN"}]}]),
        [("INVALID", "series.0.values.0", "")],
    ),
    "a hole outside": (
        logged(series=[{"name": "x", "values": [1], "nonFinite": [{"index": -1, "kind": "NAN"}]}]),
        [("INVALID", "series.0.nonFinite", "")],
    ),
    "columns of unlike lengths": (
        logged(series=[{"name": "x", "values": [1], "steps": [1, 2]}]),
        [("INVALID", "series.0.steps", "")],
    ),
    "a rank that is none": (logged(rank=5, points=[POINT]), [("CONFLICT", "job", "")]),
    "a rank below zero": (logged(rank=-(2**31), points=[POINT]), [("CONFLICT", "job", "")]),
    "a producer with a NUL": (logged(producer="\0", points=[POINT]), [("INVALID", "producer", "")]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_a_mutation_refuses_it_and_says_where_and_why(server: Server, names: Names, what: str) -> None:
    (mutation, input), expected = REFUSED[what]
    payload = await server.change(mutation, "", **filled(input, names))
    told = [(error["code"], ".".join(error["path"][1:]), error["message"]) for error in payload["errors"]]
    assert [(code, path) for code, path, _ in told] == [(code, path) for code, path, _ in expected], told
    for (_, _, message), (_, _, words) in zip(told, expected, strict=True):
        assert words in message
        assert "Traceback" not in message
    assert await server.is_well()


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


PAGE = "{ nodes { id } }"
ASKED: dict[str, tuple[str, str]] = {
    "first and last": (f"{{ runs(first: 1, last: 1) {PAGE} }}", "INVALID"),
    "a page of none": (f"{{ runs(first: 0) {PAGE} }}", "INVALID"),
    "a page too long": (f"{{ modules(last: 101) {PAGE} }}", "INVALID"),
    "a page of less than none": (f"{{ pipelines(first: -1) {PAGE} }}", "INVALID"),
    "a cursor in the wrong direction": (f'{{ runs(first: 1, before: "{cursor("1")}") {PAGE} }}', "INVALID"),
    "a cursor that is none": (f'{{ runs(first: 1, after: "é!") {PAGE} }}', "INVALID"),
    "an empty cursor": (f'{{ runs(first: 1, after: "") {PAGE} }}', "INVALID"),
    "a number where an id is": (f'{{ runs(first: 1, after: "{cursor("7")}") {PAGE} }}', "INVALID"),
    "a pair where an id is": (f'{{ pipelines(first: 1, after: "{cursor("[1,2]")}") {PAGE} }}', "INVALID"),
    "a short id": (
        f'{{ functions(first: 1, after: "{cursor(chr(34) + "ff" + chr(34))}") {PAGE} }}',
        "INVALID",
    ),
    "a filter that is no pipeline": (f'{{ runs(filter: {{pipeline: "x"}}) {PAGE} }}', "NOT_FOUND"),
    "a filter that is no module": (f'{{ functions(filter: {{module: "x"}}) {PAGE} }}', "NOT_FOUND"),
    "a tag that cannot be": (rf'{{ runs(filter: {{tags: [{{name: "\u0000"}}]}}) {PAGE} }}', "INVALID"),
    "a time whose zone leads before all times": (
        f'{{ runs(filter: {{endedAt: {{before: "0001-01-01T00:00:00+14:00"}}}}) {PAGE} }}',
        "INVALID",
    ),
    "a time whose zone leads beyond all times": (
        '{ previewSchedule(cron: "0 0 * * *", since: "9999-12-31T23:59:59-14:00") }',
        "INVALID",
    ),
    "too many ids": ("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", "LIMIT_EXCEEDED"),
    "too many series": ("query ($ids: [ID!]!) { series(runs: $ids, names: []) { name } }", "LIMIT_EXCEEDED"),
}
OF_JOB = "query ($job: ID!) {{ job(id: $job) {{ logs({}) {{ nodes {{ text }} }} }} }}"
OF_MODULE = "query ($module: ID!) {{ module(id: $module) {{ versions({}) {{ nodes {{ id }} }} }} }}"
NESTED: dict[str, str] = {
    "an id where a line is": OF_JOB.format(f'first: 1, after: "{cursor(chr(34) + "0" * 32 + chr(34))}"'),
    "a number where a line is": OF_JOB.format(f'last: 1, before: "{cursor("1")}"'),
    "a line far out": OF_JOB.format(f'first: 1, after: "{cursor(f"[{10**30},0]")}"'),
    "an id where a number is": OF_MODULE.format(f'first: 1, after: "{cursor(chr(34) + "0" * 32 + chr(34))}"'),
    "a number far out": OF_MODULE.format(f'first: 1, after: "{cursor(str(2**63))}"'),
}


@pytest.mark.parametrize("what", [*ASKED, *NESTED])
async def test_a_query_refuses_it_with_a_code(server: Server, names: Names, what: str) -> None:
    query, code = ASKED.get(what) or (NESTED[what], "INVALID")
    answer = await server.post(query, {**names, "ids": ["x"] * 101} if "$" in query else None)
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == code, error
    assert await server.is_well()


NULLS = {
    "nothing": '{ run(id: "run_00000000000000000000000000") { id } }',
    "another kind": '{ run(id: "job_00000000000000000000000000") { id } }',
    "no id": '{ job(id: "") { id } }',
    "an id beyond 128 bits": '{ file(id: "file_zzzzzzzzzzzzzzzzzzzzzzzzzz") { id } }',
    "a node of no kind": '{ node(id: "thing_00000000000000000000000000") { id } }',
    "a worker far out": '{ node(id: "worker_7zzzzzzzzzzzzzzzzzzzzzzzzz") { id } }',
    "a NUL in an id": r'{ node(id: "run_\u0000") { id } }',
    "a module of a name with a NUL": r'{ module(name: "\u0000") { id } }',
    "a pipeline of a name with a NUL": r'{ pipeline(name: "\u0000") { id } }',
}


@pytest.mark.parametrize("what", NULLS)
async def test_a_query_answers_null_for_what_there_is_not(server: Server, what: str) -> None:
    assert await server.ask(NULLS[what]) is None


async def test_words_that_cannot_be_stored_find_nothing(server: Server, names: Names) -> None:
    query = r"""query ($run: ID!) { series(runs: [$run, "x"], names: ["\u0000"]) { name }
      run(id: $run) { metrics(names: ["\u0000"]) { name } job(step: "\u0000") { id } } }"""
    found = await server.ask(query, run=names["run"])
    assert found == {"series": [], "run": {"metrics": [], "job": None}}


async def test_documents_that_are_deep_or_circular_are_invalid(server: Server) -> None:
    deep = (
        'mutation { createUpload(input: {name: "x", sizeBytes: 1, tags: '
        + "[" * 1500
        + "]" * 1500
        + "}) { errors { code } } }"
    )
    circle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"
    for query in (deep, circle, "{" * 2000):
        answer = await server.post(query)
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, "INVALID")
    variables = (
        b'{"query": "query ($v: JSON) { __typename }", "variables": {"v": '
        + b"[" * 5000
        + b"]" * 5000
        + b"}}"
    )
    headers = {"Authorization": server.bearer, "Content-Type": "application/json"}
    assert (await server.http.post("/graphql", content=variables, headers=headers)).status_code == 400
    assert await server.is_well()
