"""scikit-learn's searches: each candidate when the search is done, and each score as it is found.

search = GridSearchCV(model, grid, scoring=LoggedScorer("accuracy"), n_jobs=4)
log_search(search.fit(X, y))
"""

from collections.abc import Callable
from typing import Any

from rungraph.adapters.choosing import missing, run_of
from rungraph.log import Run

try:
    from sklearn.metrics import check_scoring
except ImportError as error:
    raise missing("log_search", "scikit-learn", error) from error

_RESULTS = ("mean_", "std_", "rank_")


def log_search(search: Any, run: Run | None = None, *, prefix: str = "search/") -> Any:
    """Log what a fitted search found: each candidate's scores, times, ranks and numeric parameters, by candidate.

    Works with GridSearchCV, RandomizedSearchCV and the halving searches, whose `iter` and `n_resources` are logged
    too. Returns the search.
    """
    chosen = run_of(run)
    found = search.cv_results_
    names = [name for name in found if name.startswith(_RESULTS) or name in ("iter", "n_resources")]
    for at, parameters in enumerate(found["params"]):
        point = {f"{prefix}{name}": found[name][at] for name in names}
        point |= {
            f"{prefix}param/{name}": value
            for name, value in parameters.items()
            if isinstance(value, (int, float)) or hasattr(value, "dtype")
        }
        chosen.log(point, step=at)
    if hasattr(search, "best_score_"):
        best = {f"{prefix}best_score": search.best_score_, f"{prefix}best_index": search.best_index_}
        chosen.log(best, step=int(search.best_index_))
    return search


class LoggedScorer:
    """A scorer that logs what it finds, also in joblib's processes, to which it goes with its run.

    `scoring` is what a search takes for one metric: a name, a scorer, or None for the estimator's own.
    """

    def __init__(
        self,
        scoring: str | Callable[..., float] | None = None,
        run: Run | None = None,
        *,
        name: str = "search/score",
    ) -> None:
        self.scoring = scoring
        self.name = name
        self._run = run_of(run)

    def __call__(self, estimator: Any, *data: Any, **given: Any) -> float:
        """The score of one fit."""
        score = float(check_scoring(estimator, self.scoring)(estimator, *data, **given))
        self._run.log({self.name: score})
        return score
