"""scikit-learn's searches."""

from typing import Any

import numpy as np
import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")
GRID = {"max_depth": [1, 2, 3], "criterion": ["gini", "entropy"]}


@pytest.fixture
def searched() -> Any:
    """Fit a search of a kind."""
    library("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.tree import DecisionTreeClassifier

    def fit(kind: str, **given: Any) -> Any:
        search = getattr(library("sklearn.model_selection"), kind)
        return search(DecisionTreeClassifier(random_state=0), GRID, cv=3, **given).fit(
            *load_iris(return_X_y=True)
        )

    return fit


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("GridSearchCV", {"return_train_score": True}),
        ("RandomizedSearchCV", {"n_iter": 4, "random_state": 0}),
        ("HalvingGridSearchCV", {"random_state": 0, "min_resources": 30}),
    ],
)
def test_a_candidate_is_a_step(searched: Any, logged: Logged, kind: str, given: dict[str, Any]) -> None:
    from rungraph.adapters import log_search

    search = log_search(searched(kind, **given))
    found, kept = logged.series(), search.cv_results_
    count = len(kept["params"])
    assert found["search/mean_test_score"] == (list(range(count)), list(kept["mean_test_score"]))
    assert found["search/param/max_depth"][1] == [one["max_depth"] for one in kept["params"]]
    assert "search/param/criterion" not in found
    assert found["search/best_score"] == ([search.best_index_], [search.best_score_])
    assert ("search/n_resources" in found) is kind.startswith("Halving")
    assert ("search/mean_train_score" in found) is ("mean_train_score" in kept)


def test_several_metrics_are_logged_each(searched: Any, logged: Logged) -> None:
    from rungraph.adapters import log_search

    log_search(searched("GridSearchCV", scoring=["accuracy", "f1_macro"], refit=False))
    assert {"search/mean_test_accuracy", "search/mean_test_f1_macro"} <= set(logged.series())


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_score_is_logged_as_it_is_found_also_in_other_processes(
    searched: Any, logged: Logged, jobs: int
) -> None:
    from rungraph.adapters import LoggedScorer

    search = searched("GridSearchCV", scoring=LoggedScorer("accuracy"), n_jobs=jobs)
    expected = sorted(float(v) for n in range(3) for v in search.cv_results_[f"split{n}_test_score"])
    if jobs > 1:
        library("joblib").externals.loky.get_reusable_executor().shutdown(wait=True)
    np.testing.assert_allclose(sorted(logged.series()["search/score"][1]), expected)
