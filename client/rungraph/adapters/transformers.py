"""Hugging Face: `Trainer(…, callbacks=[TransformersCallback()])`."""

from typing import Any

from rungraph.adapters.choosing import missing, numbers, run_of
from rungraph.log import Run

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing("TransformersCallback", "transformers", error) from error


class TransformersCallback(TrainerCallback):
    """Logs what the trainer logs (`logging_steps` says how often), by global step, from the first process.

    A run that somebody cancels stops after the step.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._run = run

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any
    ) -> None:
        """What was measured."""
        if state.is_world_process_zero:
            run_of(self._run).log(numbers(logs), step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """After each step."""
        if run_of(self._run).cancel_requested:
            control.should_training_stop = True
