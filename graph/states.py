"""The states of runs and jobs as the schema names them: registered once, before anything that shows them."""

import strawberry

from db.states import JobState, RunState

__all__ = ["JobState", "RunState"]

strawberry.enum(RunState, description="The state of a run, derived from its jobs.")
strawberry.enum(JobState, description="The state of a job.")
