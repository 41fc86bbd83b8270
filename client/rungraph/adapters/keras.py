"""Keras: `model.fit(…, callbacks=[KerasCallback()])`, with any of its backends."""

from typing import Any

from rungraph.adapters.choosing import missing, numbers, run_of
from rungraph.log import Run

try:
    from keras.callbacks import Callback
except ImportError as error:
    raise missing("KerasCallback", "keras", error) from error


class KerasCallback(Callback):
    """Logs what an epoch measured, by epoch, and every `every`th batch as `batch/…`, by batch, if that is wanted.

    A run that somebody cancels stops training after the batch.
    """

    def __init__(self, run: Run | None = None, *, every: int | None = None) -> None:
        super().__init__()
        self._run = run
        self._every = every
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """One batch more."""
        run = run_of(self._run)
        if self._every and self._batches % self._every == 0:
            run.log(numbers(logs, "batch/"), step=self._batches)
        self._batches += 1
        if run.cancel_requested:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """An epoch with its validation."""
        run_of(self._run).log(numbers(logs), step=epoch)
