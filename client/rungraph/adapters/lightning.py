"""PyTorch Lightning: `Trainer(logger=LightningLogger())`, as `lightning` or as `pytorch_lightning`."""

import sys
from collections.abc import Mapping
from typing import Any

from rungraph.adapters.choosing import missing, numbers, run_of
from rungraph.log import Run

try:
    # Both may be installed, and each knows only its own loggers: the one that the caller has imported counts.
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        from pytorch_lightning.loggers import Logger
    else:
        try:
            from lightning.pytorch.loggers import Logger
        except ImportError:
            from pytorch_lightning.loggers import Logger
    from lightning_utilities.core.rank_zero import rank_zero_only
except ImportError as error:
    raise missing("LightningLogger", "lightning", error) from error


class LightningLogger(Logger):
    """Logs what modules log, by global step, from rank 0.

    Hyperparameters are not kept: those of a job are its arguments, which the server has.
    """

    def __init__(self, run: Run | None = None, *, prefix: str = "") -> None:
        super().__init__()
        self._run = run
        self._prefix = prefix

    @property
    def name(self) -> str:
        """Of the folder for checkpoints, where Lightning makes one after it."""
        return "rungraph"

    @property
    def version(self) -> str | None:
        """The run's id, where it is known."""
        return run_of(self._run).id

    @property
    def experiment(self) -> Run:
        """The run, to log to directly."""
        return run_of(self._run)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """What was measured."""
        run_of(self._run).log(numbers(metrics, self._prefix), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **given: Any) -> None:
        """Not kept."""
