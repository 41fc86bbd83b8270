"""XGBoost: `xgboost.train(…, callbacks=[XGBoostCallback()])`, `cv`, and its scikit-learn classes."""

from typing import Any

from rungraph.adapters.choosing import missing, run_of
from rungraph.log import Run

try:
    from xgboost.callback import TrainingCallback
except ImportError as error:
    raise missing("XGBoostCallback", "xgboost", error) from error


class XGBoostCallback(TrainingCallback):
    """Logs each evaluation set's metrics as `set/metric`, by round; of `cv` the mean, and `set/metric/std`.

    A run that somebody cancels stops early, with the rounds that it has.
    """

    def __init__(self, run: Run | None = None) -> None:
        super().__init__()
        self._run = run

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, dict[str, list[Any]]]) -> bool:
        """After a round; True ends the training."""
        run = run_of(self._run)
        found: dict[str, float] = {}
        for name, metrics in evals_log.items():
            for metric, values in metrics.items():
                last = values[-1]
                if isinstance(last, tuple):  # cv: mean and standard deviation over the folds
                    found[f"{name}/{metric}"], found[f"{name}/{metric}/std"] = last
                else:
                    found[f"{name}/{metric}"] = last
        run.log(found, step=epoch)
        return run.cancel_requested
