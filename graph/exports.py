"""Metrics of runs as a table over plain HTTP, and a run as a whole; under the API's permissions.

GET /runs/{id}/metrics.{csv,jsonl,arrow,parquet}, /metrics.{…}?run=…&run=…, and /runs/{id}/archive.zip. What is sent is
made while it is taken: a client costs the memory of one piece, however much it fetches. What breaks off does so
visibly: the answer then lacks its end.
"""

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from db import errors, exports, runs, texts
from db.curves import Wanted
from db.viewers import Viewer
from graph import archives, export_formats, nodes
from graph.content import PRIVATE, Streamed, guarded
from graph.export_formats import ExportFormat
from graph.surroundings import Surroundings

MOST_RUNS = 500
MOST_SERIES = 100_000
_PARAMETERS = frozenset(("run", "name", "rank", "attempt"))


@guarded
async def metrics(request: Request, around: Surroundings, viewer: Viewer) -> Response:
    """The points of metrics of one run, or of those that `run` names."""
    given = request.query_params
    try:
        kind = ExportFormat(request.path_params["format"])
    except ValueError:
        known = ", ".join(each.value for each in ExportFormat)
        raise errors.NotFound(f"metrics come as {known}") from None
    if unknown := sorted(set(given) - _PARAMETERS):
        raise errors.Invalid(f"{unknown[0]} is no parameter here: there are {', '.join(sorted(_PARAMETERS))}")
    ids = [request.path_params["id"]] if "id" in request.path_params else given.getlist("run")
    if not 1 <= len(ids) <= MOST_RUNS:
        raise errors.LimitExceeded(f"name 1 to {MOST_RUNS} runs, `?run=…&run=…`")
    keys = [nodes.key("run", each, "run") for each in ids]
    wanted = _wanted(keys, given)
    async with around.database.read() as session:
        seen = {run.id for run in await runs.find_runs(session, viewer, keys)}
    if missing := [each for each, key in zip(ids, keys, strict=True) if key not in seen]:
        raise errors.NotFound(f"there is no run {missing[0]}")
    writer = export_formats.writer(kind)
    found = await exports.found(around.database, viewer, wanted, every=not given.getlist("name"))
    if len(found) > MOST_SERIES:
        raise errors.LimitExceeded(
            f"{len(found):,} series, at most {MOST_SERIES:,}: name some, or fewer runs"
        )
    name = f"{ids[0] if len(ids) == 1 else 'runs'}-metrics.{kind.value}"
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=export_formats.MEDIA_TYPES[kind])
    sent = archives.table(writer, exports.parts(around.database, found))
    return Streamed(sent, headers=headers, media_type=export_formats.MEDIA_TYPES[kind])


@guarded
async def archive(request: Request, around: Surroundings, viewer: Viewer) -> Response:
    """Everything of a run, as a zip file."""
    run_id = nodes.key("run", request.path_params["id"], "id")
    async with around.database.read() as session:
        await runs.get(session, viewer, run_id)
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{request.path_params["id"]}.zip"'}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/zip")
    parts = archives.Archive(request, around, viewer, run_id)
    return Streamed(parts.stream(), headers=headers, media_type="application/zip")


def _wanted(runs: list[bytes], given: QueryParams) -> Wanted:
    names = given.getlist("name")
    if any(not texts.is_storable(name) for name in names):
        raise errors.Invalid("name: that is no text")
    attempts = given.getlist("attempt")
    return Wanted(
        runs=runs,
        names=names,
        ranks=_numbers(given.getlist("rank"), "rank"),
        attempts=None if attempts == ["all"] else _numbers(attempts, "attempt"),
        latest=not attempts,
    )


def _numbers(given: list[str], name: str) -> frozenset[int] | None:
    for text in given:
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise errors.Invalid(f"{name} is a whole number, not {text[:40]!r}")
    return frozenset(map(int, given)) or None
