"""`rungraph run start --dry-run`: what a run would do, in words, and nothing is started.

A file that is given by its path is uploaded all the same: the plan is that of its content. Mistakes are an answer
here and no refusal, so they are asked for under another name than the one by which the client knows refusals.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rungraph import exits
from rungraph.api import Client
from rungraph.errors import UserError
from rungraph.output import Output
from rungraph.wording import duration, number, printable, size

VALIDATE = """query ValidateRun($input: StartRunInput!) {
  validateRun(input: $input) {
    valid
    mistakes: errors { code message path retryable }
    run { id state }
    revision { number pipeline { id name } }
    jobs {
      label step matrix arguments needs awaits when workers timeoutSeconds retries
      retry { reason times memoryFactor mostMemoryBytes }
      cache prepared rejection badInput
      function { address version { id number } }
      resources { cpus memoryBytes gpus }
      inputs { jobs files prefix names count }
      reuses { id step run { id } }
    }
  }
}"""

_MOST = 5


async def show(client: Client, output: Output, wanted: dict[str, Any]) -> int:
    """Tells what startRun would do; the exit code says whether it would."""
    found = (await client.execute(VALIDATE, {"input": wanted}))["validateRun"]
    if output.as_json:
        output.document({"errors" if name == "mistakes" else name: part for name, part in found.items()})
        return exits.OK if found["valid"] else exits.FAILED
    for mistake in found["mistakes"]:
        told = UserError(mistake["code"], mistake["message"], tuple(mistake["path"]))
        output.say(printable(str(told)))
    if not found["valid"]:
        return exits.FAILED
    if found["run"]:
        output.write(f"this key has started {found['run']['id']}, which is {found['run']['state']}")
        return exits.OK
    pipeline, count = found["revision"]["pipeline"]["name"], len(found["jobs"])
    jobs = "1 job" if count == 1 else f"{count:,} jobs"
    output.write(f"{printable(pipeline)}, revision {found['revision']['number']}: {jobs}")
    for job in found["jobs"]:
        output.write("")
        for line in _told(job):
            output.write(printable(line))
    return exits.OK


def _told(job: dict[str, Any]) -> Iterator[str]:
    """A planned job, line by line."""
    function = job["function"]
    yield f"{job['label']}: {function['address']}, version {function['version']['number']}"
    if job["arguments"]:
        given = (f"{name}={_value(value)}" for name, value in job["arguments"].items())
        yield f"  arguments  {' '.join(given)}"
    if job["needs"]:
        yield f"  after      {_listed(job['needs'])}"
    if job["awaits"]:
        yield f"  when ended {_listed(job['awaits'])}"
    if job["when"]:
        yield f"  only if    {job['when']}"
    for one in job["inputs"]:
        yield f"  reads      {_input(one)}"
    yield f"  asks for   {_resources(job)}"
    if told := "; ".join(_retries(job)):
        yield f"  retries    {told}"
    if job["reuses"]:
        yield f"  reuses     {job['reuses']['step']} of {job['reuses']['run']['id']}"
    elif job["cache"]:
        yield "  reuses     what has been done before, if there is any"
    if not job["prepared"]:
        yield "  waits      for its module, which is not ready on the backend"
    if job["rejection"]:
        yield f"  cannot run: {job['rejection']}"
    if job["badInput"]:
        yield f"  cannot run: {job['badInput']}"


def _input(one: dict[str, Any]) -> str:
    prefixed = ", named by their job" if one["prefix"] else ""
    if one["jobs"] is not None:
        return f"{one['files']} of {_listed(one['jobs'])}{prefixed}"
    what = "of the run's files" if one["files"] == "*" else f"{one['files']} of the run's files"
    return f"{what}: {_listed(one['names'], one['count']) or 'none'}"


def _resources(job: dict[str, Any]) -> str:
    asked = job["resources"]
    parts = [
        _cores(asked["cpus"]),
        size(asked["memoryBytes"]),
        f"{asked['gpus']} GPU{'s' * (asked['gpus'] > 1)}" if asked["gpus"] else "",
    ]
    each = ", ".join(part for part in parts if part) or "the backend's default"
    whole = each if job["workers"] == 1 else f"{job['workers']} workers, each {each}"
    limits = f"; at most {duration(job['timeoutSeconds'])}" if job["timeoutSeconds"] else ""
    return f"{whole}{limits}"


def _retries(job: dict[str, Any]) -> Iterator[str]:
    """How often another attempt follows: by the function, then after the ends that have a rule."""
    if job["retries"]:
        yield str(job["retries"])
    for rule in job["retry"]:
        most = f", up to {size(rule['mostMemoryBytes'])}" if rule["mostMemoryBytes"] else ""
        factor = number(rule["memoryFactor"])
        more = f", each with {factor} times the memory{most}" if rule["memoryFactor"] != 1 else ""
        yield f"after {rule['reason']} {rule['times']}{more}"


def _listed(names: Sequence[str], count: int | None = None) -> str:
    """The first of them, and how many more there are."""
    more = (len(names) if count is None else count) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more:,} more" if more > 0 else "")


def _value(value: Any) -> str:
    return "–" if value is None else str(value)


def _cores(count: float | None) -> str:
    if count is None:
        return ""
    return "1 core" if count == 1 else f"{number(count)} cores"
