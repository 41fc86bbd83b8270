"""LightGBM."""

from typing import Any

import numpy as np
import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")
PARAMETERS = {
    "objective": "regression",
    "metric": ["l2", "l1"],
    "verbose": -1,
    "num_threads": 1,
    "min_data_in_leaf": 2,
}


@pytest.fixture
def data() -> Any:
    lightgbm = library("lightgbm")
    x = np.arange(200, dtype=float).reshape(-1, 2)
    return lambda: lightgbm.Dataset(x, x.sum(axis=1), free_raw_data=False)


def test_a_tree_is_a_step_beside_early_stopping(data: Any, logged: Logged) -> None:
    lightgbm = library("lightgbm")
    from rungraph.adapters import LightGBMCallback

    kept: dict[str, Any] = {}
    callbacks = [
        LightGBMCallback(),
        lightgbm.record_evaluation(kept),
        lightgbm.early_stopping(5, verbose=False),
    ]
    train = data()
    lightgbm.train(
        PARAMETERS, train, 7, valid_sets=[train, data()], valid_names=["train", "held"], callbacks=callbacks
    )
    found = logged.series()
    assert set(found) == {"train/l2", "train/l1", "held/l2", "held/l1"}
    assert found["held/l2"] == (list(range(7)), kept["held"]["l2"])


def test_cross_validation_logs_mean_and_deviation(data: Any, logged: Logged) -> None:
    lightgbm = library("lightgbm")
    from rungraph.adapters import LightGBMCallback

    kept = lightgbm.cv(
        PARAMETERS, data(), 4, nfold=3, stratified=False, callbacks=[LightGBMCallback(logged.run)]
    )
    found = logged.series()
    (mean,) = [name for name in kept if name.endswith("l2-mean")]
    (own,) = [name for name in found if name.endswith("/l2")]
    assert found[own] == (list(range(4)), kept[mean])
    assert found[f"{own}/std"][1] == kept[mean.replace("-mean", "-stdv")]


def test_a_cancelled_run_keeps_the_trees_it_has(data: Any, logged: Logged) -> None:
    lightgbm = library("lightgbm")
    from rungraph.adapters import LightGBMCallback

    logged.cancel()
    train = data()
    model = lightgbm.train(PARAMETERS, train, 50, valid_sets=[train], callbacks=[LightGBMCallback()])
    assert model.num_trees() == 1 and len(logged.series()["training/l2"][1]) == 1
