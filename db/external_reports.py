"""What code outside reports of an external run, beside metrics (reporting.py): lines, heartbeats, files, its end.

Every report is heard (externals.hear). A batch of lines is kept at most once, as one of points is.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, select, update

from db import batches, errors, externals, feeds, files, lines, logs, reporting, texts, viewers
from db.attempts import Worker
from db.database import Transaction
from db.externals import Ending
from db.files import File, FileKind, FileState
from db.jobs import Direction, Job, JobFile
from db.lines import Line
from db.states import TERMINAL_JOB, EndReason, JobState
from db.viewers import Viewer

MOST_LINES = 10_000
MOST_BYTES = 8 << 20
LINE_BYTES = 64 << 10
MOST_FILES = 1000
_REASONS = {
    JobState.SUCCEEDED: EndReason.COMPLETED,
    JobState.FAILED: EndReason.EXIT_CODE,
    JobState.CANCELLED: EndReason.CANCELLED,
}


async def heartbeat(session: Transaction, viewer: Viewer, job_id: bytes) -> bool:
    """Say that the reporter lives; returns whether it is asked to stop. Raises Conflict once the run has ended."""
    _, held = await _heard(session, viewer, job_id)
    return held.cancel_requested_at is not None


async def log_lines(
    session: Transaction, viewer: Viewer, job_id: bytes, producer: str, number: int, given: Sequence[Line]
) -> tuple[int, bool]:
    """Add lines to the log; returns their number in the run's feed, and whether it was a repeat."""
    _require_lines(producer, given)
    head, held = await _heard(session, viewer, job_id)
    kept_as = f"lines of {producer}"  # a producer counts its batches of lines and of points by themselves
    committed = await batches.repeated(session, held.attempt_id, kept_as, number)
    if committed is not None:
        return committed, True
    ours = Worker.attempt_id == held.attempt_id
    before = (await session.execute(select(Worker.lines, Worker.log_bytes).where(ours))).one()
    chunks = lines.pack(lines.blocks_of(_single(given)))
    size = before.log_bytes + sum(chunk.size for chunk in chunks)
    in_all = before.lines + sum(chunk.lines for chunk in chunks)
    await session.execute(update(Worker).where(ours).values(lines=in_all, log_bytes=size))
    printer = logs.Printer(job_id, 1, 0, before.lines, before.log_bytes)
    await logs.append(session, head, chunks, printer)
    await logs.trim(session, head.id, printer, size, logs.Limit())
    await batches.remember(session, held.attempt_id, kept_as, number, head.seq)
    return head.seq, False


async def add_outputs(session: Transaction, viewer: Viewer, job_id: bytes, keys: Sequence[bytes]) -> None:
    """List uploaded files as outputs of the job, after those it has; one that is listed stays where it is.

    Who may only report may not: it could make any file of the project its own.
    """
    if viewer.kind is viewers.Kind.JOB:
        raise errors.Forbidden(
            "a job's token lists no files: use one of somebody who may upload", path=("job",)
        )
    if len(keys) > MOST_FILES:
        raise errors.Invalid(f"at most {MOST_FILES} files at once", path=("files",))
    _, held = await _heard(session, viewer, job_id)
    found = {file.id: file for file in await files.find_files(session, viewer, keys)}
    for index, key in enumerate(keys):
        if key not in found:
            raise errors.NotFound("there is no such file", path=("files", str(index)))
        if found[key].state is not FileState.READY:
            message = f"{found[key].name}: its upload is not complete"
            raise errors.Conflict(message, path=("files", str(index)))
    of_job = (JobFile.job_id == job_id) & (JobFile.direction == Direction.OUTPUT)
    listed = {row.file_id for row in (await session.execute(select(JobFile.file_id).where(of_job))).all()}
    last = await session.scalar(select(func.max(JobFile.position)).where(of_job))
    new = [key for key in dict.fromkeys(keys) if key not in listed]
    first = 0 if last is None else last + 1
    rows: list[dict[str, Any]] = [
        {"job_id": job_id, "direction": Direction.OUTPUT, "position": first + index, "file_id": key}
        for index, key in enumerate(new)
    ]
    if rows:
        await session.execute(insert(JobFile), rows)
        made_by = {"kind": FileKind.OUTPUT, "run_id": held.run_id, "job_id": job_id}
        nobodys = (File.id.in_(new)) & File.job_id.is_(None)
        await session.execute(update(File).where(nobodys).values(made_by))


async def finish(
    session: Transaction,
    viewer: Viewer,
    job_id: bytes,
    state: JobState,
    *,
    message: str | None = None,
    exit_code: int | None = None,
) -> bytes:
    """End the run as its reporter says, and return its id; CANCELLED, whatever it says, where that was asked for.

    A repeat changes nothing; another end than the one it has is a Conflict.
    """
    if state not in _REASONS:
        raise errors.Invalid("a run ends SUCCEEDED, FAILED or CANCELLED", path=("state",))
    if message is not None and (len(message) > 10_000 or not texts.is_storable(message)):
        raise errors.Invalid("a message has at most 10,000 characters", path=("message",))
    before = await externals.find(session, job_id)
    if before is not None and before.state in TERMINAL_JOB and before.reason is not EndReason.LOST:
        await _require_reporter(session, viewer, job_id)
        if before.state not in (state, JobState.CANCELLED):
            raise errors.Conflict(f"the run has ended {before.state.value}", path=("state",))
        run_id: bytes = before.run_id
        return run_id
    head, held = await _heard(session, viewer, job_id)
    at = await externals.clock(session)
    ends = JobState.CANCELLED if held.cancel_requested_at is not None else state
    await externals.end(session, head, held, Ending(ends, _REASONS[ends], message, exit_code), at)
    ended: bytes = held.run_id
    return ended


async def _heard(session: Transaction, viewer: Viewer, job_id: bytes) -> tuple[feeds.Head, Any]:
    """The locked feed and the External of a run that goes on, also again; its reporter has been heard."""
    head = await feeds.lock(session, await _require_reporter(session, viewer, job_id))
    if await externals.find(session, job_id) is None:
        message = "this job is launched here: what it prints is its log, and its exit code its end"
        raise errors.Invalid(message, path=("job",))
    if not await externals.hear(session, head, job_id):
        held = await externals.find(session, job_id)
        raise errors.Conflict(f"the run has ended {held.state.value}", path=("job",))
    return head, await externals.find(session, job_id)


async def _require_reporter(session: Transaction, viewer: Viewer, job_id: bytes) -> int:
    """The id of the feed of a job that the viewer may report for."""
    query = select(Job.feed_id, Job.run_id, Job.project_id).where(Job.id == job_id)
    found = (await session.execute(query)).first()
    if found is None:
        raise reporting.missing(job_id)
    reporting.require_reporter(viewer, job_id, found.run_id, found.project_id)
    feed_id: int = found.feed_id
    return feed_id


def _require_lines(producer: str, given: Sequence[Line]) -> None:
    if not 1 <= len(producer) <= 100 or texts.refusal(producer):
        raise errors.Invalid("a producer's name has 1 to 100 characters", path=("producer",))
    if not given:
        raise errors.Invalid("there are no lines in this batch", path=("lines",))
    if len(given) > MOST_LINES or sum(len(line.text) for line in given) > MOST_BYTES:
        raise errors.LimitExceeded(
            f"a batch has at most {MOST_LINES} lines and {MOST_BYTES >> 20} MiB", path=("lines",)
        )
    for index, line in enumerate(given):
        if len(line.text) > LINE_BYTES:
            message = f"a line has at most {LINE_BYTES} characters"
            raise errors.Invalid(message, path=("lines", str(index), "text"))


def _single(given: Sequence[Line]) -> list[Line]:
    """The lines, those cut that are several."""
    return [line._replace(text=text) for line in given for text in line.text.split("\n")]
