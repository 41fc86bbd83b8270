"""Tables of metrics and whole runs over plain HTTP."""

import csv
import io
import json
import math
import zipfile
from typing import Any

import numpy as np
import pytest

from db.points import Points
from graph import archives, export_formats
from graph.export_formats import COLUMNS, ExportFormat
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODE = """
import json, os
for step in range(5):
    print(json.dumps({"metric": {"loss": 1 / (step + 1), "acc,1": step / 10}, "step": step}))
print('{"metric": {"loss": NaN}, "step": 5}')
print('{"metric": {"loss": -Infinity}, "step": 6}')
print("é done")
with open(os.environ["RUNGRAPH_OUTPUT"] + "/model.bin", "wb") as file:
    file.write(bytes(range(256)) * 100)
"""
LOSSES = [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, math.nan, -math.inf]
URLS = """query ($id: ID!) { run(id: $id) { archiveUrl metricsUrl parquet: metricsUrl(format: PARQUET)
  jobs { logUrl } } }"""


async def _get(server: Server, path: str, *parameters: tuple[str, str]) -> Any:
    return await server.http.get(
        path, params=list(parameters) or None, headers={"Authorization": server.bearer}
    )


def _rows(kind: ExportFormat, content: bytes) -> list[dict[str, Any]]:
    """The rows of a table, whatever it was written as."""
    if kind is ExportFormat.CSV:
        return [
            {**row, "step": int(row["step"]), "value": float(row["value"]), "rank": int(row["rank"])}
            for row in csv.DictReader(io.StringIO(content.decode(), newline=""))
        ]
    if kind is ExportFormat.JSONL:
        kinds = {"NAN": math.nan, "POSITIVE_INFINITY": math.inf, "NEGATIVE_INFINITY": -math.inf}
        rows = [json.loads(line) for line in content.splitlines()]
        return [row | {"value": kinds[row["nonFinite"]]} if row["value"] is None else row for row in rows]
    if kind is ExportFormat.ARROW:
        read = pytest.importorskip("pyarrow.ipc").open_stream(content).read_all()
    else:
        read = pytest.importorskip("pyarrow.parquet").read_table(io.BytesIO(content))
    found: list[dict[str, Any]] = read.to_pylist()
    return found


@pytest.mark.parametrize("kind", ExportFormat)
async def test_every_point_is_in_the_table_of_a_run(server: Server, kind: ExportFormat) -> None:
    run = await server.play(CODE)
    answer = await _get(server, f"/runs/{run['id']}/metrics.{kind.value}")
    assert answer.status_code == 200
    assert f'{run["id"]}-metrics.{kind.value}"' in answer.headers["content-disposition"]
    rows = _rows(kind, answer.content)
    assert set(COLUMNS) <= rows[0].keys()
    losses = [row for row in rows if row["metric"] == "loss"]
    assert [row["step"] for row in losses] == list(range(7))
    assert [repr(row["value"]) for row in losses] == [repr(value) for value in LOSSES]
    assert {(row["run"], row["job"], row["rank"]) for row in rows} == {(run["id"], "step", 0)}
    assert len([row for row in rows if row["metric"] == "acc,1"]) == 5


async def test_several_runs_and_chosen_names_make_one_table(server: Server) -> None:
    runs = [(await server.play(CODE))["id"] for _ in range(2)]
    asked = [("run", run) for run in runs]
    rows = _rows(ExportFormat.CSV, (await _get(server, "/metrics.csv", *asked, ("name", "acc,1"))).content)
    assert [(row["run"], row["metric"]) for row in rows] == [
        (run, "acc,1") for run in sorted(runs) for _ in range(5)
    ]
    assert (await _get(server, "/metrics.csv", *asked, ("rank", "7"))).text == ",".join(COLUMNS) + "\r\n"
    every = await _get(server, "/metrics.csv", *asked, ("attempt", "all"))
    assert len(_rows(ExportFormat.CSV, every.content)) == 24


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/metrics.csv", 413, "name 1 to 500 runs"),
        ("/metrics.csv?run=run_00000000000000000000000000", 404, "there is no run run_0"),
        ("/metrics.csv?run=nonsense", 404, ""),
        ("/metrics.xls?run=run_00000000000000000000000000", 404, "metrics come as csv"),
        ("/metrics.csv?run=run_00000000000000000000000000&colour=red", 422, "colour is no parameter"),
        ("/metrics.csv?run=run_00000000000000000000000000&rank=x", 422, "rank is a whole number"),
        ("/runs/run_00000000000000000000000000/archive.zip", 404, ""),
    ],
)
async def test_what_cannot_be_exported_says_why(server: Server, path: str, status: int, words: str) -> None:
    answer = await _get(server, path)
    assert answer.status_code == status and words in answer.json()["errors"][0]["message"]


async def test_nobody_is_given_anything(server: Server) -> None:
    run = await server.play("print()")
    for path in (f"/runs/{run['id']}/archive.zip", f"/runs/{run['id']}/metrics.csv"):
        assert (await server.http.get(path)).status_code == 401


async def test_an_archive_has_everything_of_a_run(server: Server) -> None:
    run = await server.play(CODE)
    told = await server.ask(URLS, id=run["id"])
    assert told["metricsUrl"].endswith(".csv") and told["parquet"].endswith(".parquet")
    answer = await _get(server, told["archiveUrl"])
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [
            "run.json",
            "pipeline.yaml",
            "metrics.csv",
            "jobs/step/logs/1-0.log",
            "jobs/step/outputs/model.bin",
        ]
        described = json.loads(archive.read("run.json"))
        assert described["id"] == run["id"] and described["jobs"][0]["state"] == "SUCCEEDED"
        assert "steps:" in archive.read("pipeline.yaml").decode()
        assert len(_rows(ExportFormat.CSV, archive.read("metrics.csv"))) == 12
        assert archive.read("jobs/step/logs/1-0.log").decode() == "é done\n"
        assert archive.read("jobs/step/outputs/model.bin") == bytes(range(256)) * 100
    log = await _get(server, told["jobs"][0]["logUrl"])
    assert log.text == "é done\n"


@pytest.mark.parametrize("sizes", [[], [0], [1, 1], [5], [3, 4, 1], [0, 9, 2]])
@pytest.mark.parametrize("most", [1, 3, 100])
async def test_parts_are_cut_without_a_point_lost(sizes: list[int], most: int) -> None:
    parts = [
        Points(
            b"", b"", "", 1, 0, str(at), 0, *(np.arange(size, dtype=np.int64),) * 2, np.arange(float(size))
        )
        for at, size in enumerate(sizes)
    ]
    groups = list(export_formats.few(parts, most))
    assert all(sum(len(part.values) for part in group) == most for group in groups[:-1])
    assert [(part.name, value) for group in groups for part in group for value in part.values] == [
        (part.name, value) for part in parts for value in part.values
    ]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("..", "_"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x", "C__x"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("console", "console"),
        ("é" * 200, "é" * 100),
        ("\x7f\x00 ", "__"),
    ],
)
async def test_no_name_in_an_archive_is_a_path_or_a_device(name: str, plain: str) -> None:
    assert archives._plain(name) == plain


READS_ARCHIVE = """
import os, urllib.request
url = f"{os.environ['RUNGRAPH_URL']}/runs/{os.environ['RUNGRAPH_RUN_ID']}/archive.zip"
asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ['RUNGRAPH_TOKEN']}"})
with urllib.request.urlopen(asked) as answer, open(os.environ["RUNGRAPH_OUTPUT"] + "/seen", "wb") as file:
    file.write(answer.read())
"""
WRITES = 'import os; open(os.environ["RUNGRAPH_OUTPUT"] + "/model.bin", "w").write("weights")'


async def test_an_archive_has_for_a_job_only_the_contents_that_it_may_read(server: Server) -> None:
    pipeline = await server.pipeline({"one": WRITES, "two": WRITES, "look": READS_ARCHIVE})
    run = await server.finish((await server.start(pipeline))["id"])
    assert run["state"] == "SUCCEEDED", run
    (seen,) = [file for job in run["jobs"] if job["step"] == "look" for file in job["outputs"]]
    content = (await server.get(seen["url"])).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # What the step before made is its input; what the one before that made is not.
        assert [name for name in archive.namelist() if "outputs" in name] == ["jobs/two/outputs/model.bin"]
