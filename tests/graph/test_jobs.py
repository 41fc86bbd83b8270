"""Jobs, their attempts and workers, and what they are told."""

import json

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_job_knows_its_input_its_arguments_and_itself(server: Server) -> None:
    code = """import os; e = os.environ
print(open(e['RUNGRAPH_INPUT'] + '/input.json').read())
print(e['RUNGRAPH_RUN_ID'], e['RUNGRAPH_JOB_ID'], e['RUNGRAPH_ATTEMPT'])"""
    module = (await server.install({"f": {"code": code, "options": {"n": 1, "s": "x"}}}))["module"]["name"]
    pipeline = await server.draw({"name": "a", "function": f"{module}/f", "arguments": {"n": 2}})
    file = await server.upload("in.txt", tags={"t": 1})
    run = await server.start(pipeline, files=[file], arguments=[{"step": "a", "arguments": {"s": "y"}}])
    (job,) = (await server.finish(run["id"]))["jobs"]
    document, told = [line["text"] for line in job["logs"]["nodes"]]
    assert json.loads(document) == {
        **{
            "name": "f",
            "options": {"n": 2, "s": "y"},
            "num_files": 1,
            "files": ["in.txt"],
            "tags": [{"t": 1}],
        },
        **{"run_id": run["id"], "job_id": job["id"], "attempt": 1, "datasets": [], "sources": []},
    }
    assert told == f"{run['id']} {job['id']} 1"
    assert job["arguments"] == {"n": 2, "s": "y"}


async def test_a_job_of_several_workers_shows_each(server: Server) -> None:
    (job,) = (await server.play({"code": "import os; print(os.environ['RANK'])", "workers": 3}))["jobs"]
    (attempt,) = job["attempts"]
    assert [(w["rank"], w["phase"], w["exitCode"]) for w in attempt["workers"]] == [
        (n, "SUCCEEDED", 0) for n in range(3)
    ]
    assert sorted((line["rank"], line["text"]) for line in job["logs"]["nodes"]) == [
        (0, "0"),
        (1, "1"),
        (2, "2"),
    ]


async def test_a_job_is_found_with_its_run_its_function_and_its_needs(server: Server) -> None:
    run = await server.start(await server.pipeline({"one": "pass", "two": "pass"}))
    job = (await server.finish(run["id"]))["jobs"][1]
    query = """query ($id: ID!) { job(id: $id) {
      step position needs run { id } function { name } durationSeconds queuedAt output } }"""
    found = await server.ask(query, id=job["id"])
    assert (found["step"], found["position"], found["needs"], found["output"]) == ("two", 1, ["one"], None)
    assert (found["run"], found["function"]) == ({"id": run["id"]}, {"name": "two"})
    assert found["durationSeconds"] > 0


async def test_what_a_step_makes_is_what_the_next_one_reads(server: Server) -> None:
    make = "import os; open(os.environ['RUNGRAPH_OUTPUT'] + '/made.txt', 'w').write('from one')"
    read = "import os; print(open(os.environ['RUNGRAPH_INPUT'] + '/made.txt').read())"
    run = await server.start(await server.pipeline({"one": make, "two": read}))
    one, two = (await server.finish(run["id"]))["jobs"]
    assert [file["id"] for file in one["outputs"]] == [file["id"] for file in two["inputs"]]
    assert two["logs"]["nodes"][0]["text"] == "from one"


async def test_a_failed_attempt_is_followed_by_another(server: Server) -> None:
    code = "import os; raise SystemExit(0 if os.environ['RUNGRAPH_ATTEMPT'] == '2' else 4)"
    (job,) = (await server.play({"code": code, "retries": 1}))["jobs"]
    assert (job["state"], job["exitCode"]) == ("SUCCEEDED", 0)
    assert [(a["number"], a["reason"], a["exitCode"]) for a in job["attempts"]] == [
        (1, "EXIT_CODE", 4),
        (2, "COMPLETED", 0),
    ]


async def test_a_jobs_token_reads_its_inputs_and_nothing_else(server: Server) -> None:
    code = """import os, json, urllib.request
def get(path, body=None):
    headers = {'Authorization': 'Bearer ' + os.environ['RUNGRAPH_TOKEN'], 'Content-Type': 'application/json'}
    request = urllib.request.Request(os.environ['RUNGRAPH_URL'] + path, body and json.dumps(body).encode(), headers)
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()
name = json.load(open(os.environ['RUNGRAPH_INPUT'] + '/input.json'))['options']
print(get('/files/' + name['mine']).decode())
try: get('/files/' + name['other'])
except urllib.error.HTTPError as error: print(error.code)
print(get('/graphql', {'query': '{ viewer { kind } modules { nodes { id } } runs { nodes { id } } '
  'backends { name } pipelines { nodes { id } } }'}).decode())
print(get('/graphql', {'query': 'mutation { createLoginLink(input: {}) { errors { code } } '
  'createPipeline(input: {name: "x", steps: []}) { errors { code } } '
  'installModule(input: {source: "/x"}) { errors { code } } }'}).decode())"""
    mine, other = await server.upload("a.txt", b"mine"), await server.upload("b.txt", b"other")
    module = (
        await server.install(
            {"f": {"command": ["python", "-c", code], "options": {"mine": "str", "other": "str"}}}
        )
    )["module"]
    step = {"name": "f", "function": f"{module['name']}/f", "arguments": {"mine": mine, "other": other}}
    run = await server.start(await server.draw(step), files=[mine])
    (job,) = (await server.finish(run["id"]))["jobs"]
    content, status, seen, changed = [line["text"] for line in job["logs"]["nodes"]]
    data = json.loads(seen)["data"]
    assert (content, status, data["viewer"]["kind"]) == ("mine", "404", "JOB")
    assert (data["modules"], data["pipelines"]) == ({"nodes": []}, {"nodes": []})
    assert [node["id"] for node in data["runs"]["nodes"]] == [run["id"]]
    codes = [payload["errors"][0]["code"] for payload in json.loads(changed)["data"].values()]
    assert codes == ["FORBIDDEN"] * 3
