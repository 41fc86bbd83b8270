"""LightGBM: `lightgbm.train(…, callbacks=[LightGBMCallback()])`, `cv`, and `fit` of its scikit-learn classes."""

from typing import Any

from rungraph.adapters.choosing import missing, run_of
from rungraph.log import Run

try:
    from lightgbm.callback import EarlyStopException
except ImportError as error:
    raise missing("LightGBMCallback", "lightgbm", error) from error


class LightGBMCallback:
    """Logs each validation set's metrics as `set/metric`, by iteration; of `cv` the mean, and `set/metric/std`.

    A run that somebody cancels stops early, with the trees that it has.
    """

    order = 25
    """After LightGBM's own record_evaluation and before its early_stopping, which ends the iteration."""
    before_iteration = False

    def __init__(self, run: Run | None = None) -> None:
        self._run = run

    def __call__(self, env: Any) -> None:
        """After an iteration."""
        run = run_of(self._run)
        found: dict[str, float] = {}
        for name, metric, value, _, *deviation in env.evaluation_result_list or ():
            found[f"{name}/{metric}"] = value
            found |= {f"{name}/{metric}/std": one for one in deviation}
        run.log(found, step=env.iteration)
        if run.cancel_requested:
            raise EarlyStopException(env.iteration, env.evaluation_result_list or [])
