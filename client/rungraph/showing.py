"""`rungraph run show` and `rungraph pipeline show`: one of them on a screen, as it is now."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

from rungraph import pipelines
from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.runs import RunId
from rungraph.wording import duration, local_time, number, printable, size

LAST_RUNS = 5

RUN = """query ShownRun($run: ID!) {
  run(id: $run) {
    id name state suspended archived external priority failFast notes
    createdAt startedAt endedAt durationSeconds expectedSecondsLeft
    pipeline { id name } revision { number }
    tags { name value }
    fire { dueAt schedule { id name } } retryOf { id } basedOn { id } parent { id }
    waitingFor { code message }
    files { id name sizeBytes }
    datasets { parts version { number dataset { id name } } }
    sources { name url }
    jobs {
      id step state reason message exitCode workers arguments startedAt endedAt durationSeconds
      function { address }
      attempts { number reason message exitCode startedAt endedAt }
      reusedFrom { id run { id } }
      outputs { id name sizeBytes }
    }
    metrics { name last min max lastStep }
  }
}"""

PIPELINE = f"""query ShownPipeline($id: ID, $name: String) {{
  pipeline(id: $id, name: $name) {{
    id name description createdAt
    revision {{ id number createdAt steps {{ name address arguments needs cache matrix when }} }}
    runs(first: {LAST_RUNS}) {{ nodes {{ id name state createdAt durationSeconds }} }}
  }}
}}"""


def add_to(runs: typer.Typer, chains: typer.Typer) -> None:
    """Add a `show` to the verbs of `rungraph run` and of `rungraph pipeline`."""
    runs.command("show")(run_)
    chains.command("show")(pipeline_)


def run_(ctx: typer.Context, run: RunId) -> None:
    """Show a run: how it stands, what it was given, its steps, metrics and outputs."""

    async def action(client: Client, output: Output) -> None:
        found = (await client.execute(RUN, {"run": run}))["run"]
        if found is None:
            raise ApiError("NOT_FOUND", f"there is no run “{run}”: see `rungraph run list`")
        if output.as_json:
            output.document(found)
        else:
            _show_run(output, found)

    perform(ctx, action)


def pipeline_(
    ctx: typer.Context,
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's name or id.")],
) -> None:
    """Show a pipeline: its steps as they are now, and its last runs."""

    async def action(client: Client, output: Output) -> None:
        found = await pipelines.get(client, pipeline, PIPELINE)
        if output.as_json:
            output.document(found)
        else:
            _show_pipeline(output, found)

    perform(ctx, action)


def _show_run(output: Output, run: dict[str, Any]) -> None:
    words = [word for word in ("suspended", "archived", "external") if run[word]]
    output.write(f"{run['id']} {printable(run['name'])}: {', '.join([run['state'], *words])}")
    for name, value in _facts(run):
        output.write(f"  {name}: {printable(value)}")
    for line in run["notes"].splitlines():
        output.write(f"  │ {printable(line)}")
    _paragraph(
        output, ("STEP", "STATE", "TIME", "ATTEMPTS", "WHY", "FUNCTION", "ARGUMENTS"), map(_job, run["jobs"])
    )
    attempts = [
        _attempt(job, each) for job in run["jobs"] if len(job["attempts"]) > 1 for each in job["attempts"]
    ]
    _paragraph(output, ("STEP", "ATTEMPT", "BEGAN", "ENDED", "WHY"), attempts)
    metrics = [
        (each["name"], *(number(each[of]) for of in ("last", "min", "max")), str(each["lastStep"]))
        for each in run["metrics"]
    ]
    _paragraph(output, ("METRIC", "LAST", "MIN", "MAX", "AT STEP"), metrics)
    _paragraph(output, ("INPUT", "NAME", "SIZE"), map(_file, run["files"]))
    made = [(*_file(file), job["step"]) for job in run["jobs"] for file in job["outputs"]]
    _paragraph(output, ("OUTPUT", "NAME", "SIZE", "STEP"), made)


def _facts(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a run beside its state, in words; nothing of what is not so."""
    pipeline, revision, fire = run["pipeline"], run["revision"], run["fire"]
    if pipeline:
        yield (
            "pipeline",
            f"{pipeline['name']}, revision {revision['number']}" if revision else pipeline["name"],
        )
    took = f", took {duration(run['durationSeconds'])}" if run["endedAt"] else ""
    yield "created", local_time(run["createdAt"])
    if run["startedAt"]:
        yield "started", f"{local_time(run['startedAt'])}{took}"
    if run["expectedSecondsLeft"] is not None:
        yield "expected to take", f"{duration(run['expectedSecondsLeft'])} more"
    if run["waitingFor"]:
        yield "waits", run["waitingFor"]["message"]
    if fire:
        yield "started by", f"the schedule {fire['schedule']['name']}, due {local_time(fire['dueAt'])}"
    for field, words in (("retryOf", "retry of"), ("basedOn", "made from"), ("parent", "part of")):
        if run[field]:
            yield words, run[field]["id"]
    if run["priority"] or run["failFast"]:
        yield "priority", f"{run['priority']}{', stops at the first failure' if run['failFast'] else ''}"
    if run["tags"]:
        yield (
            "tags",
            ", ".join(
                f"{tag['name']}={tag['value']}" if tag["value"] else tag["name"] for tag in run["tags"]
            ),
        )
    for use in run["datasets"]:
        version = use["version"]
        yield "dataset", f"{version['dataset']['name']}@{version['number']}:{','.join(use['parts'])}"
    for source in run["sources"]:
        yield "source", f"{source['name']} ({source['url']})"


def _job(job: dict[str, Any]) -> Sequence[str]:
    why = f"reused from {job['reusedFrom']['run']['id']}" if job["reusedFrom"] else _why(job)
    function = job["function"]["address"] if job["function"] else ""
    times = job["state"], duration(job["durationSeconds"]), str(len(job["attempts"]))
    return job["step"], *times, why, function, _compact(job["arguments"])


def _attempt(job: dict[str, Any], attempt: dict[str, Any]) -> Sequence[str]:
    times = local_time(attempt["startedAt"]), local_time(attempt["endedAt"])
    return job["step"], str(attempt["number"]), *times, _why(attempt)


def _why(ended: dict[str, Any]) -> str:
    """How a job or an attempt ended, in words; nothing of one that ended well or goes on."""
    why = "" if ended["reason"] in (None, "COMPLETED") else ended["reason"]
    if ended["exitCode"]:
        why += f", exited with {ended['exitCode']}"
    if ended["message"]:
        why += f": {ended['message']}"
    return why.removeprefix(": ")


def _file(file: dict[str, Any]) -> tuple[str, str, str]:
    return file["id"], file["name"], size(file["sizeBytes"])


def _show_pipeline(output: Output, pipeline: dict[str, Any]) -> None:
    revision = pipeline["revision"]
    changed = f"revision {revision['number']} of {local_time(revision['createdAt'])}"
    output.write(f"{pipeline['id']} {printable(pipeline['name'])}: {changed}")
    if pipeline["description"]:
        output.write(f"  {printable(pipeline['description'])}")
    _paragraph(output, ("STEP", "FUNCTION", "NEEDS", "ARGUMENTS", "ALSO"), map(_step, revision["steps"]))
    runs = [
        (run["id"], run["name"], run["state"], local_time(run["createdAt"]), duration(run["durationSeconds"]))
        for run in pipeline["runs"]["nodes"]
    ]
    _paragraph(output, ("RUN", "NAME", "STATE", "CREATED", "TIME"), runs)


def _step(step: dict[str, Any]) -> Sequence[str]:
    also = [
        *(["cached"] if step["cache"] else []),
        *([f"varies {_compact(step['matrix'])}"] if step["matrix"] else []),
        *([f"when {_compact(step['when'])}"] if step["when"] else []),
    ]
    return (
        step["name"],
        step["address"],
        ", ".join(step["needs"]),
        _compact(step["arguments"]),
        ", ".join(also),
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _paragraph(output: Output, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if found := list(rows):
        output.write("")
        output.table(columns, found)
