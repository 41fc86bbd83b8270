"""The states of runs and jobs as the schema names them: registered once, before anything that shows them."""

from db.states import EndReason, JobState, RunState
from graph import enums

__all__ = ["EndReason", "JobState", "RunState"]

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
enums.show(
    EndReason,
    "Why an attempt, and the job with its last one, ended.",
    COMPLETED="Every worker exited with 0.",
    EXIT_CODE="A worker exited with another code, or by a signal.",
    OUT_OF_MEMORY="It was killed for using more memory than there was.",
    TIMED_OUT="It took longer than its function allows.",
    PREEMPTED="Its place was taken away.",
    IMAGE_UNAVAILABLE="Its container image cannot be had.",
    LAUNCH_REJECTED="Its backend refused to launch it.",
    BAD_INPUT="What it was to be given is not there or cannot be used.",
    BAD_OUTPUT="What it left cannot be taken as its outputs.",
    LOST="Its backend no longer knows it, or who reports it fell silent.",
    CANCELLED="It was cancelled.",
)
