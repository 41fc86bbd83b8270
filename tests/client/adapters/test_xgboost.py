"""XGBoost."""

from typing import Any

import numpy as np
import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")
PARAMETERS = {"objective": "reg:squarederror", "eval_metric": ["rmse", "mae"], "nthread": 1}


@pytest.fixture
def data() -> Any:
    x = np.arange(200, dtype=float).reshape(-1, 2)
    return library("xgboost").DMatrix(x, x.sum(axis=1))


def test_a_round_is_a_step(data: Any, logged: Logged) -> None:
    xgboost = library("xgboost")
    from rungraph.adapters import XGBoostCallback

    kept: dict[str, Any] = {}
    given = {"evals": [(data, "train"), (data, "held")], "evals_result": kept, "verbose_eval": False}
    xgboost.train(PARAMETERS, data, 6, callbacks=[XGBoostCallback()], **given)
    found = logged.series()
    assert set(found) == {"train/rmse", "train/mae", "held/rmse", "held/mae"}
    assert found["held/mae"] == (list(range(6)), kept["held"]["mae"])


def test_cross_validation_logs_mean_and_deviation(data: Any, logged: Logged) -> None:
    xgboost = library("xgboost")
    from rungraph.adapters import XGBoostCallback

    kept = xgboost.cv(PARAMETERS, data, 4, nfold=3, as_pandas=False, callbacks=[XGBoostCallback(logged.run)])
    found = logged.series()
    assert found["test/rmse"] == (list(range(4)), list(kept["test-rmse-mean"]))
    assert found["test/rmse/std"][1] == list(kept["test-rmse-std"])


def test_a_cancelled_run_keeps_the_rounds_it_has(data: Any, logged: Logged) -> None:
    xgboost = library("xgboost")
    from rungraph.adapters import XGBoostCallback

    logged.cancel()
    model = xgboost.train(
        PARAMETERS, data, 50, evals=[(data, "train")], verbose_eval=False, callbacks=[XGBoostCallback()]
    )
    assert model.num_boosted_rounds() == 1
