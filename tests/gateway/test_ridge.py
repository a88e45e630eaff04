"""Lines from second moments: the same as scikit-learn's and statsmodels' from the nodes themselves."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import Ridge

from gateway.statistics.ridge import Line
from regional.moments import Moments


def data(seed: int, n: int = 400, p: int = 4, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(20, 3, (n, p)) @ rng.normal(size=(p, p))
    return x, x @ rng.normal(size=p) + rng.normal(0, noise, n), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("noise", [0.01, 30.0])
def test_slopes_are_scikit_learns_with_the_same_penalty(weighted: bool, noise: float) -> None:
    x, y, w = data(1, noise=noise)
    w = w if weighted else np.ones_like(w)
    line = Line.of(Moments.of(x, y, w))
    assert line is not None
    scaled = w * (w.sum() / (w @ w))  # adds up to the effective n
    mean = np.average(x, axis=0, weights=w)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    model = Ridge(alpha=line.alpha).fit((x - mean) / spread, y, sample_weight=scaled)
    assert line.slopes == pytest.approx(model.coef_ / spread, rel=1e-9)


def test_the_penalty_and_the_errors_are_those_of_the_unpenalised_line() -> None:
    x, y, w = data(2)
    ones = np.ones_like(w)
    line = Line.of(Moments.of(x, y, ones))
    assert line is not None
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    plain = sm.OLS(y, sm.add_constant(z)).fit()
    assert line.rest == pytest.approx(plain.mse_resid, rel=1e-9)
    slopes = plain.params[1:]
    assert line.alpha == pytest.approx(4 * plain.mse_resid / (slopes @ slopes), rel=1e-9)
    tight, outcome, _ = data(2, noise=1e-4)  # hardly any penalty: the errors are those of statsmodels
    found = Line.of(Moments.of(tight, outcome, ones))
    least = sm.OLS(outcome, sm.add_constant(tight)).fit()
    assert found is not None
    assert np.diag(found.variance) == pytest.approx(least.bse[1:] ** 2, rel=1e-3)


def test_columns_that_say_nothing_have_no_slope() -> None:
    x, y, w = data(3)
    same = np.column_stack([x, np.full(len(x), 7.25), x[:, 0]])
    line = Line.of(Moments.of(same, y, w))
    assert line is not None
    assert line.slopes[4] == 0.0
    assert np.isfinite(line.slopes).all()
    assert line.slopes[0] == pytest.approx(line.slopes[5], rel=1e-6)  # told twice: half of it each
    flat = Line.of(Moments.of(x, np.full(len(x), 3.0), w))
    assert flat is not None
    assert not flat.slopes.any()
    nothing = Line.of(Moments.of(x[:, :0], y, w))
    assert nothing is not None
    assert nothing.slopes.shape == (0,)


def test_there_is_no_line_through_too_few() -> None:
    x, y, _ = data(4, n=24)
    assert Line.of(Moments.of(x, y, np.ones(24))) is None
    x, y, _ = data(4, n=25)
    assert Line.of(Moments.of(x, y, np.ones(25))) is not None
