"""The states of runs and jobs as the schema names them: registered once, before anything that shows them."""

from db.states import JobState, RunState
from graph import enums

__all__ = ["JobState", "RunState"]

enums.show(
    RunState,
    "The state of a run, derived from its jobs.",
    QUEUED="No job was launched yet.",
    RUNNING="A job was launched, and not all have ended.",
    CANCELLING="Its cancellation was asked for; a job has not ended yet.",
    SUCCEEDED="Every job SUCCEEDED, or was SKIPPED without a failure.",
    FAILED="A job FAILED.",
    CANCELLED="It was cancelled before every job had ended.",
)
enums.show(
    JobState,
    "The state of a job.",
    WAITING="For the jobs it needs or awaits.",
    QUEUED="For room on its backend, or for its next attempt.",
    STARTING="An attempt is being launched.",
    RUNNING="Its attempt is at work.",
    CANCELLING="It is being stopped.",
    SUCCEEDED="Its last attempt COMPLETED, or it took its outputs from another job.",
    FAILED="It ended otherwise, and no retry is left; `reason` tells how.",
    CANCELLED="It was cancelled.",
    SKIPPED="It was never launched: what it needs did not succeed, its condition did not hold, or "
    "the run fails fast.",
)
