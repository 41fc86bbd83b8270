"""What an adapter costs before it is used, and what it says where its library is absent."""

import subprocess
import sys
from pathlib import Path

import pytest

from rungraph import adapters

CLIENT = Path(__file__).parents[3] / "client"
PACKAGES = {
    "KerasCallback": "keras",
    "LightGBMCallback": "lightgbm",
    "LightningLogger": "lightning",
    "LoggedScorer": "scikit-learn",
    "TransformersCallback": "transformers",
    "XGBoostCallback": "xgboost",
    "log_search": "scikit-learn",
}


def python(code: str) -> str:
    """What a process prints that finds the standard library and the client alone."""
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_every_adapter_is_known() -> None:
    assert set(adapters.__all__) == set(PACKAGES) == set(adapters._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        adapters.Other  # noqa: B018


def test_nothing_is_imported_before_it_is_used() -> None:
    assert (
        python("import rungraph.adapters; print('keras' in sys.modules, 'json' in sys.modules)")
        == "False False\n"
    )


@pytest.mark.parametrize("adapter", PACKAGES)
def test_a_library_that_is_absent_is_named(adapter: str) -> None:
    code = f"try:\n from rungraph.adapters import {adapter}\nexcept ImportError as error:\n print(error)"
    assert f"pip install {PACKAGES[adapter]}" in python(code)
