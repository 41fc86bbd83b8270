"""Metrics: printed or reported, exact to the last bit, with what JSON cannot hold."""

import json
from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
SERIES = """query ($runs: [ID!]!, $names: [String!]!) { series(runs: $runs, names: $names) {
  name rank attempt count steps times values nonFinite { index kind } seq run { id } job { step } } }"""
DRAWN = """query ($runs: [ID!]!, $most: Int, $range: SeriesRange, $x: SeriesX, $workers: [Int!],
  $attempts: [Int!], $aggregate: WorkerAggregate) {
  series(runs: $runs, names: ["wave"], maxPoints: $most, range: $range, x: $x, workers: $workers,
      attempts: $attempts, aggregate: $aggregate) {
    count total bucket truncated ranks x steps times values seq nonFinite { index kind } } }"""
HEADLINES = """query ($id: ID!, $names: [String!]) { run(id: $id) {
  metrics(names: $names) { name last lastStep min minStep max maxStep } } }"""
REPORTING = """import json, os, urllib.request
def log(job=None, number=1, **more):
    query = 'mutation ($i: LogMetricsInput!) { logMetrics(input: $i) { seq duplicate errors { code path } } }'
    given = {'producer': 'p', 'number': number, 'job': job, 'points': [{'name': 'loss', 'value': 0.1 + 0.2, 'step': 7}], **more}
    body = json.dumps({'query': query, 'variables': {'i': given}}).encode()
    headers = {'Authorization': 'Bearer ' + os.environ['RUNGRAPH_TOKEN'], 'Content-Type': 'application/json'}
    request = urllib.request.Request(os.environ['RUNGRAPH_URL'] + '/graphql', body, headers)
    print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read().decode())
"""  # noqa: E501


async def reported(server: Server, code: str) -> tuple[Any, list[Any]]:
    """The run of a job that reports, and the payloads it got."""
    run = await server.play({"command": ["python", "-c", REPORTING + code]})
    lines = [line["text"] for line in run["jobs"][0]["logs"]["nodes"]]
    return run, [json.loads(line)["data"]["logMetrics"] for line in lines if line.startswith('{"data"')]


async def test_printed_metrics_come_back_exactly(server: Server) -> None:
    printed = ['{"metric": {"loss": NaN}, "step": 0}', '{"metric": {"loss": Infinity}, "step": 1}']
    printed += [
        '{"metric": {"loss": 0.30000000000000004, "n": 3}, "step": 2}',
        '{"metric": {"loss": -Infinity}, "step": 3}',
    ]
    run = await server.play(f"for line in {printed!r}: print(line)")
    assert run["jobs"][0]["logs"]["nodes"] == []
    loss, n = await server.ask(SERIES, runs=[run["id"]], names=["loss", "n"])
    assert (loss["steps"], loss["values"], loss["count"]) == ([0, 1, 2, 3], [None, None, 0.1 + 0.2, None], 4)
    kinds = [(one["index"], one["kind"]) for one in loss["nonFinite"]]
    assert kinds == [(0, "NAN"), (1, "POSITIVE_INFINITY"), (3, "NEGATIVE_INFINITY")]
    assert (n["values"], n["run"], n["job"], n["rank"]) == ([3.0], {"id": run["id"]}, {"step": "step"}, 0)
    assert len(loss["times"]) == 4
    headlines = (await server.ask(HEADLINES, id=run["id"], names=["loss"]))["metrics"]
    finite = 0.1 + 0.2
    assert [(h["min"], h["max"], h["last"], h["lastStep"]) for h in headlines] == [
        (finite, finite, finite, 2)
    ]


async def test_a_job_reports_with_its_own_token_and_a_repeat_changes_nothing(server: Server) -> None:
    run, (first, again, later) = await reported(server, "log(); log(); log(number=2)")
    assert (first["duplicate"], again["duplicate"], later["duplicate"]) == (False, True, False)
    assert first["seq"] == again["seq"] < later["seq"]
    (loss,) = await server.ask(SERIES, runs=[run["id"]], names=["loss"])
    assert (loss["steps"], loss["values"]) == ([7, 7], [0.1 + 0.2] * 2)


async def test_a_long_series_is_drawn_with_few_points_and_a_stretch_of_it_exactly(server: Server) -> None:
    code = """
import json, math
for n in range(1000):
    value = math.nan if n == 500 else -9.0 if n == 123 else 9.0 if n == 777 else math.sin(n)
    print(json.dumps({"metric": {"wave": value}, "step": n}))"""
    run = await server.play(code)
    (drawn,) = await server.ask(DRAWN, runs=[run["id"]], most=100)
    assert drawn["count"] == len(drawn["values"]) <= 100 and (drawn["total"], drawn["truncated"]) == (
        1000,
        False,
    )
    assert {-9.0, 9.0, None} <= set(drawn["values"]) and drawn["bucket"] >= 30
    assert (drawn["steps"][-1], drawn["x"]) == (999, drawn["steps"]) and len(drawn["nonFinite"]) == 1
    assert (await server.ask(DRAWN, runs=[run["id"]], most=100)) == [drawn]
    (near,) = await server.ask(DRAWN, runs=[run["id"]], most=100, range={"from": 490, "to": 510})
    assert (near["steps"], near["bucket"], near["total"]) == (list(range(490, 511)), 1, 21)
    assert near["nonFinite"] == [{"index": 10, "kind": "NAN"}]
    (timed,) = await server.ask(DRAWN, runs=[run["id"]], x="RELATIVE_TIME")
    start = timed["times"][0] - timed["x"][0]
    assert timed["x"] == [time - start for time in timed["times"]]
    (mean,) = await server.ask(DRAWN, runs=[run["id"]], most=10, aggregate="MEAN", workers=[0], attempts=[1])
    assert (mean["ranks"], mean["total"]) == ([0], 1000) and mean["count"] <= 10
    assert await server.ask(DRAWN, runs=[run["id"]], attempts=[2]) == []


@pytest.mark.parametrize(
    "asked", ["times", "...T", "... on Series { at: times }", "values x", "steps ...T @include(if: true)"]
)
async def test_times_are_there_however_they_are_asked_for(server: Server, asked: str) -> None:
    run = await server.play('print(\'{"metric": {"loss": 1.5}, "step": 3}\')')
    query = f"""query ($runs: [ID!]!) {{ series(runs: $runs, names: ["loss"], x: TIME) {{ {asked} }} }}
      {"fragment T on Series { times }" if "...T" in asked else ""}"""
    (loss,) = await server.ask(query, runs=[run["id"]])
    (found,) = next(loss[name] for name in ("times", "at", "x") if name in loss)
    assert found > 1_700_000_000_000_000


async def test_what_cannot_be_drawn_is_refused_with_a_reason(server: Server) -> None:
    run = await server.play("print()")
    for wrong, code in (({"most": 3}, "INVALID"), ({"range": {"from": 2, "to": 1}}, "INVALID")):
        answer = (await server.post(DRAWN, {"runs": [run["id"]], **wrong})).json()
        assert answer["errors"][0]["extensions"]["code"] == code


async def test_a_job_may_not_report_for_one_that_it_does_not_see(server: Server) -> None:
    other = await server.start(await server.pipeline({"step": SLEEP}))
    await server.until(other["id"], "JobChanged", jobState="RUNNING")
    query = "query ($id: ID!) { run(id: $id) { jobs { id } } }"
    job = (await server.ask(query, id=other["id"]))["jobs"][0]["id"]
    _, (payload,) = await reported(server, f"log({job!r})")
    assert payload == {
        "seq": None,
        "duplicate": False,
        "errors": [{"code": "NOT_FOUND", "path": ["input", "job"]}],
    }
    await server.change("cancelRun", "run { id }", id=other["id"], graceSeconds=0)
    await server.finish(other["id"])


async def test_a_column_is_reported_with_its_holes(server: Server) -> None:
    column = {
        "name": "acc",
        "values": [1, None, 3],
        "nonFinite": [{"index": 1, "kind": "NAN"}],
        "times": [10, 20, 30],
    }
    run, (payload,) = await reported(server, f"log(points=[], series=[{column!r}])")
    assert payload["errors"] == []
    (acc,) = await server.ask(SERIES, runs=[run["id"]], names=["acc"])
    assert (acc["steps"], acc["times"], acc["values"]) == ([0, 1, 2], [10, 20, 30], [1.0, None, 3.0])
    assert acc["seq"] == payload["seq"]


async def test_the_token_of_a_job_that_has_ended_is_nobodys(server: Server) -> None:
    run = await server.play("import os; print(os.environ['RUNGRAPH_TOKEN'])")
    token = run["jobs"][0]["logs"]["nodes"][0]["text"]
    assert (await server.post("{ viewer { kind } }", Authorization=f"Bearer {token}")).status_code == 401


async def test_a_job_tells_its_own_headlines_where_the_run_has_those_of_the_last(server: Server) -> None:
    code = "import json\nfor n, v in enumerate({}): print(json.dumps({{'metric': {{'loss': v}}, 'step': n}}))"
    quiet = "pass"
    many = f"[float((n * 7) % 1000) for n in range(5000)] + [{float('nan')!r}]".replace("nan", "float('nan')")
    pipeline = await server.pipeline(
        {"first": code.format("[3.0, 1.0, 2.0]"), "second": code.format(many), "third": quiet}
    )
    run = await server.finish((await server.start(pipeline))["id"])
    asked = """query ($id: ID!, $names: [String!]) { run(id: $id) {
      jobs { step metrics(names: $names) { name last lastStep min minStep max maxStep } } } }"""
    first, second, third = (await server.ask(asked, id=run["id"]))["jobs"]
    told = {"name": "loss", "last": 2.0, "lastStep": 2, "min": 1.0, "minStep": 1, "max": 3.0, "maxStep": 0}
    assert first["metrics"] == [told]
    (loss,) = second["metrics"]
    assert (loss["last"], loss["lastStep"], loss["min"], loss["max"]) == (None, 5000, 0.0, 999.0)
    assert (loss["minStep"] * 7 % 1000, loss["maxStep"] * 7 % 1000) == (0, 999)
    assert third["metrics"] == []
    none = (await server.ask(asked, id=run["id"], names=["other"]))["jobs"]
    assert [job["metrics"] for job in none] == [[], [], []]
