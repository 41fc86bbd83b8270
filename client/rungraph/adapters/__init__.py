"""Adapters of training libraries to `rungraph.log`: one import each, and nothing of a library before that.

    from rungraph.adapters import KerasCallback

Each reports to the run that it is given, or to what `rungraph.log` reports to when it is called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rungraph.adapters.keras import KerasCallback
    from rungraph.adapters.lightgbm import LightGBMCallback
    from rungraph.adapters.lightning import LightningLogger
    from rungraph.adapters.sklearn import LoggedScorer, log_search
    from rungraph.adapters.transformers import TransformersCallback
    from rungraph.adapters.xgboost import XGBoostCallback

__all__ = [
    "KerasCallback",
    "LightGBMCallback",
    "LightningLogger",
    "LoggedScorer",
    "TransformersCallback",
    "XGBoostCallback",
    "log_search",
]

_HOMES = {
    "KerasCallback": "keras",
    "LightGBMCallback": "lightgbm",
    "LightningLogger": "lightning",
    "LoggedScorer": "sklearn",
    "TransformersCallback": "transformers",
    "XGBoostCallback": "xgboost",
    "log_search": "sklearn",
}


def __getattr__(name: str) -> Any:
    """The adapter of this name, with its library; raises ImportError that says what to install."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
