"""Editing runs: name, notes, tags, and whether a run is archived. What was executed never changes.

Whoever follows the run is told. Two people who edit at once do not overwrite each other where they ask for
that: an edit that names the `edition` it was made from is refused once there is another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, update

from db import columns, errors, feeds, labels, limits, runs, viewers
from db.database import Transaction
from db.errors import Problem
from db.runs import Run, RunTag
from db.states import TERMINAL_RUN
from db.viewers import Viewer


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to change; None leaves as it is. Tags: `replaced` takes the place of all, then set and removed."""

    name: str | None = None
    notes: str | None = None
    archived: bool | None = None
    tags_replaced: labels.Tags | None = None
    tags_set: labels.Tags = ()
    tags_removed: Sequence[str] = ()
    edition: int | None = None


async def edit(session: Transaction, viewer: Viewer, run_id: bytes, asked: Edit) -> bool:
    """Change a run as asked; False when it was so already. Raises NotFound, Forbidden, Invalid or Conflict."""
    _require_sound(asked)
    found = await runs.get(session, viewer, run_id)
    viewers.require_writer(viewer, found.project_id)
    head = await feeds.lock(session, found.feed_id)
    run = await runs.get(session, viewer, run_id)
    if asked.edition not in (None, run.edition):
        message = (
            f"the run was edited meanwhile: this edit was made from {asked.edition}, it is {run.edition}"
        )
        raise errors.Conflict(message, path=("edition",))
    values = {
        name: value
        for name in ("name", "notes", "archived")
        if (value := getattr(asked, name)) not in (None, getattr(run, name))
    }
    edited = [*values, *(["tags"] if await _change_tags(session, run_id, run.project_id, asked) else [])]
    if not edited:
        return False
    changed = update(Run).where(Run.id == run_id, Run.edition == run.edition)
    assert await session.change(changed.values(edition=run.edition + 1, **values)) == 1, (
        "under its feed's lock"
    )
    head.emit(feeds.Subject.RUN, run_id, columns.now(), state=run.state, edited=edited)
    if run.state in TERMINAL_RUN:
        head.end()
    return True


def _require_sound(asked: Edit) -> None:
    problems: list[Problem] = [
        *labels.name_problems(asked.name, "name"),
        *labels.notes_problems(asked.notes, "notes"),
        *labels.tag_problems(asked.tags_replaced or (), "tags", "replace"),
        *labels.tag_problems(asked.tags_set, "tags", "set"),
    ]
    both = {name for name, _ in asked.tags_set} & set(asked.tags_removed)
    if both:
        problems.append(Problem(("tags", "remove"), f"{', '.join(sorted(both))}: set and removed at once"))
    if problems:
        raise errors.Invalid(problems=problems)


async def _change_tags(session: Transaction, run_id: bytes, project_id: bytes, asked: Edit) -> bool:
    """Bring a run's tags to what is asked; whether that changed any."""
    if asked.tags_replaced is None and not asked.tags_set and not asked.tags_removed:
        return False
    before = {tag.name: tag.value for tag in await runs.tags_of(session, [run_id])}
    after = before if asked.tags_replaced is None else dict(asked.tags_replaced)
    after = {**after, **dict(asked.tags_set)}
    after = {name: value for name, value in after.items() if name not in asked.tags_removed}
    if len(after) > labels.MOST_TAGS:
        raise errors.Invalid(f"a run has at most {labels.MOST_TAGS} tags", path=("tags",))
    gone = [name for name, value in before.items() if after.get(name) != value]
    owner = {"run_id": run_id, "project_id": project_id}
    new = [{**owner, "name": n, "value": v} for n, v in after.items() if before.get(n) != v]
    if gone:
        await session.execute(delete(RunTag).where(RunTag.run_id == run_id, RunTag.name.in_(gone)))
    if new:
        await session.execute(insert(RunTag), new)
    if gone or new:
        await limits.sort(session, [run_id])
    return bool(gone or new)
