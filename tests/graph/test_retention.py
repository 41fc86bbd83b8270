"""Retention through the API: who comes back too late is told so, and curves say that they are thinned."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from backends.aging import Aging
from db import columns, ids
from db.runs import Run
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRINTS = """
import json
for n in range(200): print(json.dumps({"metric": {"loss": float(n)}, "step": n}))
print("a line")"""
SERIES = """query ($runs: [ID!]!) { series(runs: $runs, names: ["loss"]) {
  count total bucket truncated values } }"""
GAPS = "query ($id: ID!) { run(id: $id) { jobs { logGaps { fromLine toLine } logs(last: 5) { nodes { text } } } } }"
FOLLOW = """subscription ($id: ID!) { run(id: $id, after: 0) {
  __typename ... on FeedEvent { seq } ... on FeedTruncated { resumeFrom } } }"""

OF_KINDS = """subscription ($id: ID!, $kinds: [RunEventKind!]) { run(id: $id, after: 0, include: $kinds) {
  __typename ... on FeedEvent { seq } ... on LinesDropped { gap { fromLine toLine } } } }"""


async def keep(server: Server, **days: Any) -> Any:
    return await server.change("setRetention", "project { name metricsDays logsDays }", **days)


async def test_what_is_old_is_thinned_and_who_resumes_before_it_is_told(server: Server) -> None:
    run = await server.play(PRINTS)
    kept = await keep(server, metricsDays=30, logsDays=7)
    assert kept == {"project": {"name": "default", "metricsDays": 30, "logsDays": 7}, "errors": []}
    database = server.around.database
    ended = update(Run).where(Run.id == ids.decode("run", run["id"]))
    async with database.begin() as session:
        await session.execute(ended.values(ended_at=columns.now() - timedelta(days=31)))
    await Aging(database).step()
    (loss,) = await server.ask(SERIES, runs=[run["id"]])
    assert (loss["truncated"], loss["total"], loss["bucket"]) == (True, 200, 64)
    assert {0.0, 63.0, 64.0, 199.0} <= set(loss["values"]) and loss["count"] == len(loss["values"]) < 20
    (job,) = (await server.ask(GAPS, id=run["id"]))["jobs"]
    assert job == {"logGaps": [{"fromLine": 1, "toLine": 1}], "logs": {"nodes": []}}
    told = [event["run"] async for event in server.client.subscribe(FOLLOW, {"id": run["id"]})]
    seq = told[0]["seq"]
    assert told[0] == {"__typename": "FeedTruncated", "seq": seq, "resumeFrom": seq + 1}
    assert told[-1] == {"__typename": "FeedEnded", "seq": seq}
    assert {event["__typename"] for event in told[1:-1]} <= {"Cursor"}
    assert (await keep(server, metricsDays=None, logsDays=None))["project"]["logsDays"] is None


async def test_who_wants_no_points_is_told_of_no_gap_when_lines_are_gone(server: Server) -> None:
    run = await server.play(PRINTS)
    await keep(server, metricsDays=30, logsDays=7)
    database = server.around.database
    ended = update(Run).where(Run.id == ids.decode("run", run["id"]))
    for days, gone in ((8, "LinesDropped"), (31, "FeedTruncated")):
        async with database.begin() as session:
            await session.execute(ended.values(ended_at=columns.now() - timedelta(days=days)))
        await Aging(database).step()
        for kinds in (["STATES"], ["STATES", "POINTS"], ["LINES"], ["STATES", "POINTS", "LINES"]):
            variables = {"id": run["id"], "kinds": kinds}
            told = [event["run"] async for event in server.client.subscribe(OF_KINDS, variables)]
            names = [event["__typename"] for event in told]
            is_cut = gone == "FeedTruncated" and "POINTS" in kinds
            assert ("FeedTruncated" in names) is is_cut and names[-1] == "FeedEnded"
            assert ("LinesDropped" in names) is ("LINES" in kinds and not is_cut)
            assert ("JobChanged" in names) is ("STATES" in kinds and not is_cut)
            assert ("PointsAdded" in names) is ("POINTS" in kinds and not is_cut)
            gaps = [event["gap"] for event in told if event["__typename"] == "LinesDropped"]
            assert gaps in ([], [{"fromLine": 1, "toLine": 1}])


async def test_days_that_are_none_are_refused_where_they_stand(server: Server) -> None:
    refused = await keep(server, logsDays=0)
    assert refused["project"] is None
    assert [(e["code"], e["path"]) for e in refused["errors"]] == [("INVALID", ["input", "logsDays"])]
