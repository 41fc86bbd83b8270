"""`rungraph schedule`: runs that start by themselves, by the clock, for files that arrive, or after other runs."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rungraph import requests, triggers, values
from rungraph.api import Client
from rungraph.errors import ApiError, BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time, printable

app = typer.Typer(help="Let runs start by themselves.", no_args_is_help=True)

FIELDS = f"""id name description state nextAt catchUp overlap jitterSeconds startsAt endsAt failures lastError
  lastFiredAt createdAt pipeline {{ id name }} {triggers.FIELDS}"""
WHOLE = f"{FIELDS} run {{ {requests.FIELDS} }}"
ERRORS = "errors { code message path retryable }"

FIND = f"""query Schedule($id: ID, $name: String, $count: Int!) {{
  schedule(id: $id, name: $name) {{ {WHOLE} next(count: $count)
    fires(first: 10) {{ nodes {{ id outcome dueAt firedAt message run {{ id state }} }} }} }}
}}"""
SCHEDULES = f"""query Schedules($first: Int, $after: String) {{
  schedules(first: $first, after: $after) {{
    nodes {{ {FIELDS} lastFire {{ outcome firedAt message run {{ id state }} }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
PAUSE = f"""mutation PauseSchedule($input: PauseScheduleInput!) {{
  pauseSchedule(input: $input) {{ schedule {{ {WHOLE} }} {ERRORS} }}
}}"""
RESUME = f"""mutation ResumeSchedule($input: ResumeScheduleInput!) {{
  resumeSchedule(input: $input) {{ schedule {{ {WHOLE} }} {ERRORS} }}
}}"""
DELETE = f"""mutation DeleteSchedule($input: DeleteScheduleInput!) {{
  deleteSchedule(input: $input) {{ id {ERRORS} }}
}}"""
RUN = f"""mutation RunSchedule($input: RunScheduleInput!) {{
  runSchedule(input: $input) {{ run {{ id name state }} {ERRORS} }}
}}"""
PREVIEW = """query PreviewSchedule($cron: String!, $timeZone: String!, $count: Int!) {
  previewSchedule(cron: $cron, timeZone: $timeZone, count: $count)
}"""


ScheduleWord = Annotated[str, typer.Argument(metavar="SCHEDULE", help="A schedule's name or id.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the schedules, newest first."""
    perform(ctx, _list)


@app.command("show")
def show_(ctx: typer.Context, schedule: ScheduleWord) -> None:
    """Show a schedule with its next times and its last fires."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, schedule, 3)
        if output.as_json:
            output.document(found)
            return
        output.write(f"{found['id']} {found['name']} {found['state']}")
        output.write(f"starts {_pipeline(found)} {when(found['trigger'])}")
        if words := requests.words(found["run"]):
            output.write(printable(f"with {words}"))
        for moment in found["next"]:
            output.write(f"next {local_time(moment)}")
        if found["lastError"]:
            output.write(f"last error: {found['lastError']}")
        output.table(("FIRED", "OUTCOME", "RUN", "WHY"), map(_fire, found["fires"]["nodes"]))

    perform(ctx, action)


@app.command("next")
def next_(
    ctx: typer.Context,
    schedule: Annotated[str, typer.Argument(metavar="SCHEDULE", help="A name or id; none with --cron.")] = "",
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10,
    cron: Annotated[str, typer.Option(help="Of this expression, instead of a schedule's.")] = "",
    zone: Annotated[str, typer.Option(help="The cron's IANA time zone.")] = "UTC",
) -> None:
    """Tell the next times of a schedule, or of a cron expression that is tried."""

    async def action(client: Client, output: Output) -> None:
        if bool(schedule) is bool(cron):
            raise BadUsage("give a schedule, or --cron")
        if cron:
            asked = {"cron": cron, "timeZone": zone, "count": count}
            moments = (await client.execute(PREVIEW, asked))["previewSchedule"]
        else:
            moments = (await get(client, schedule, count))["next"]
        if output.as_json:
            output.document(moments)
        else:
            for moment in moments:
                output.write(local_time(moment))

    perform(ctx, action)


@app.command("pause")
def pause_(ctx: typer.Context, schedule: ScheduleWord) -> None:
    """Let a schedule fire no more until it is resumed."""
    perform(ctx, lambda client, output: _change(client, output, schedule, PAUSE, "pauseSchedule"))


@app.command("resume")
def resume_(ctx: typer.Context, schedule: ScheduleWord) -> None:
    """Let a paused or failing schedule fire from now on."""
    perform(ctx, lambda client, output: _change(client, output, schedule, RESUME, "resumeSchedule"))


@app.command("delete")
def delete_(ctx: typer.Context, schedule: ScheduleWord) -> None:
    """Delete a schedule with its history; its runs stay."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, schedule)
        answer = await client.execute(DELETE, {"input": {"id": found["id"]}})
        gone = answer["deleteSchedule"]["id"]
        output.document({"id": gone}) if output.as_json else output.write(f"{gone} deleted")

    perform(ctx, action)


@app.command("run")
def run_(
    ctx: typer.Context,
    schedule: ScheduleWord,
    key: Annotated[str, typer.Option(help="The same key gives the same run again.")] = "",
) -> None:
    """Start a schedule's run now."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, schedule)
        wanted = {"id": found["id"], **({"idempotencyKey": key} if key else {})}
        run = (await client.execute(RUN, {"input": wanted}))["runSchedule"]["run"]
        output.document(run) if output.as_json else output.write(f"{run['id']} {run['state']}")

    perform(ctx, action)


async def get(client: Client, word: str, count: int = 1) -> dict[str, Any]:
    """The schedule of an id or a name, with its next times; raises ApiError NOT_FOUND."""
    variables = {"id" if values.is_id("schedule", word) else "name": word, "count": count}
    found: dict[str, Any] | None = (await client.execute(FIND, variables))["schedule"]
    if found is None:
        raise ApiError("NOT_FOUND", f"there is no schedule “{word}”: see `rungraph schedule list`")
    return found


def when(trigger: dict[str, Any]) -> str:
    """What a schedule waits for, in words."""
    match trigger["__typename"]:
        case "CronTrigger":
            return f"at {trigger['expression']} ({trigger['timeZone']})"
        case "IntervalTrigger":
            return f"every {trigger['everySeconds']:g} s"
        case "FileTrigger":
            return f"for files {trigger['name']}"
        case _:
            return f"after {_pipeline(trigger)} {'|'.join(trigger['states'])}"


async def _change(client: Client, output: Output, word: str, mutation: str, field: str) -> None:
    found = await get(client, word)
    answer = await client.execute(mutation, {"input": {"id": found["id"]}}, repeatable=True)
    show(output, answer[field]["schedule"])


async def _list(client: Client, output: Output) -> None:
    found = [schedule async for schedule in walk(client, SCHEDULES, {}, ("schedules",))]
    if output.as_json:
        output.document(found)
    else:
        output.table(("SCHEDULE", "STATE", "PIPELINE", "WHEN", "NEXT", "LAST", "ID"), map(_row, found))


def show(output: Output, schedule: dict[str, Any]) -> None:
    if output.as_json:
        output.document(schedule)
    else:
        upcoming = f" next {local_time(schedule['nextAt'])}" if schedule["nextAt"] else ""
        output.write(f"{schedule['id']} {schedule['name']} {schedule['state']}{upcoming}")


def _row(schedule: dict[str, Any]) -> Sequence[str]:
    last = schedule["lastFire"]
    upcoming = local_time(schedule["nextAt"]) if schedule["nextAt"] else ""
    told = "" if last is None else last["message"] or (last["run"] or {}).get("state", last["outcome"])
    about = schedule["name"], schedule["state"], _pipeline(schedule), when(schedule["trigger"])
    return *about, upcoming, told, schedule["id"]


def _fire(fire: dict[str, Any]) -> Sequence[str]:
    fired = local_time(fire["firedAt"]) if fire["firedAt"] else ""
    run = f"{fire['run']['id']} {fire['run']['state']}" if fire["run"] else ""
    return fired, fire["outcome"], run, fire["message"] or ""


def _pipeline(found: dict[str, Any]) -> str:
    return str(found["pipeline"]["name"]) if found["pipeline"] else "a deleted pipeline"
