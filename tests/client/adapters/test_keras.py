"""Keras."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")
os.environ.setdefault("KERAS_BACKEND", "torch")


@pytest.fixture
def fit(tmp_path: Path) -> Any:
    """Train a line; the history."""
    library("torch")
    keras = library("keras")
    from rungraph.adapters import KerasCallback

    def fit(**given: Any) -> Any:
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
        x = np.arange(64, dtype=np.float32).reshape(-1, 1) / 64
        callbacks = [KerasCallback(**given)]
        return model.fit(
            x, 2 * x, epochs=3, batch_size=16, validation_split=0.25, verbose=0, callbacks=callbacks
        )

    return fit


def test_an_epoch_is_a_step(fit: Any, logged: Logged) -> None:
    history = fit().history
    found = logged.series()
    assert set(found) == {"loss", "mae", "val_loss", "val_mae"}
    assert all(found[name] == ([0, 1, 2], history[name]) for name in found)


def test_batches_are_logged_where_that_is_wanted(fit: Any, logged: Logged) -> None:
    fit(every=2, run=logged.run)
    assert logged.series()["batch/loss"][0] == [0, 2, 4, 6, 8]


def test_a_cancelled_run_stops_after_its_batch(fit: Any, logged: Logged) -> None:
    logged.cancel()
    fit()
    assert logged.series()["loss"][0] == [0]
