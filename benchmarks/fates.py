"""What might have happened to real nodes: outcomes drawn from a model of the real ones, so that the truth is known.

`trees` (gradient-boosted, stopped where a quarter of the nodes, held back, gain no more) depend on the situation
in steps; `smooth` is a penalised line in all axes and their squares; of yes or no, logistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.crowd import Crowd
from registry.likeness.schema import Outcome

SEED: Final = 21
ENOUGH: Final = 100  # nodes of an action, to fit a model to
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Fates:
    """A real crowd whose outcome is drawn: mean (n, a) by node and action; spread: a number's standard deviation."""

    name: str
    crowd: Crowd
    outcome: Outcome
    actions: tuple[str, ...]
    mean: Float64s
    spread: float

    @classmethod
    def of(cls, name: str, outcome: str, truth: str) -> Fates:
        """truth: "trees" or "smooth"."""
        crowd = Crowd.real(name)
        values = crowd.of(outcome)
        known = np.flatnonzero(np.isfinite(values))
        crowd, values = crowd.part(known), values[known]
        kind = crowd.schema.outcomes[outcome]
        actions = tuple(a for a in crowd.schema.actions if (crowd.action == a).sum() >= ENOUGH)
        mean = np.zeros((len(values), len(actions)))
        for place, action in enumerate(actions):
            rows = crowd.action == action
            mean[:, place] = _fitted(truth, kind.kind == "binary", crowd.points, values, rows)
        own = mean[np.arange(len(values)), [actions.index(a) if a in actions else 0 for a in crowd.action]]
        return cls(f"{name} ({truth})", crowd, kind, actions, mean, float(np.std(values - own)))

    def draw(self, seed: int) -> Crowd:
        """What might have happened: yes or no; a skewed number (gamma, shape 4)."""
        random = np.random.default_rng(seed)
        column = [self.actions.index(a) if a in self.actions else 0 for a in self.crowd.action]
        mean = self.mean[np.arange(len(self.mean)), column]
        if self.outcome.kind == "binary":
            values = (random.random(len(mean)) < mean).astype(float)
        else:
            values = mean + self.spread * (random.gamma(4.0, 1.0, len(mean)) - 4.0) / 2.0
        return self.crowd.with_outcomes(tuple({self.outcome.name: value} for value in values.tolist()))


def _fitted(truth: str, binary: bool, points: Float64s, values: Float64s, rows: npt.NDArray[np.bool_]) -> Float64s:
    """(n,) the mean outcome of each node, by a model of those at `rows`."""
    if truth == "trees":
        boosted = {"n_estimators": 120, "max_depth": 3, "learning_rate": 0.06, "subsample": 0.7, "random_state": SEED}
        boosted |= {"n_iter_no_change": 5, "validation_fraction": 0.25}
        model = (GradientBoostingClassifier if binary else GradientBoostingRegressor)(**boosted)
    else:
        penalties = np.logspace(-4, 1, 8) if binary else np.logspace(-1, 4, 12)
        line = LogisticRegressionCV(Cs=penalties, max_iter=300) if binary else RidgeCV(alphas=penalties)
        model = make_pipeline(FunctionTransformer(_squared), StandardScaler(), line)
    model.fit(points[rows], values[rows])
    found: Float64s = model.predict_proba(points)[:, 1] if binary else model.predict(points)
    return found


def _squared(points: Float64s) -> Float64s:
    return np.hstack([points, points**2])
