"""The same numbers as libraries that others keep, where the definition is the same: what no other test compares.

Which estimate is compared with which library, and where: docs/synthesis.md, "Checked against".
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import quantile_test
from sklearn.linear_model import Ridge
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import DescrStatsW

from gateway.statistics.difference import detectable, standard_error, welch
from gateway.statistics.estimate import Mean, Proportion
from gateway.statistics.kaplan_meier import Curve
from gateway.statistics.kernel import kernel_weights
from gateway.statistics.prediction import predicted
from gateway.statistics.random_effects import RandomEffects, median
from gateway.statistics.ratio import Ratio
from gateway.statistics.ridge import Line
from gateway.statistics.synthesis import synthesise
from regional.cohort import Cohort
from regional.moments import FOLDS, Moments, fold_of
from tests.gateway.cohorts import YIELD, neighbours
from tests.gateway.test_adjustment import QUERY, People, synthesis
from tests.gateway.test_estimate import sample

SEEDS = st.integers(0, 2**32)
quick = settings(deadline=None, max_examples=20)


@quick
@given(SEEDS, st.integers(40, 200), st.integers(1, 5))
def test_a_line_rests_on_statsmodels_weighted_least_squares(seed: int, n: int, p: int) -> None:
    """Residual variance, penalty and errors follow from the plain fit, its weights adding up to the effective n."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, (n, p)) @ rng.normal(size=(p, p))
    y, w = x @ rng.normal(size=p) + rng.normal(0, 2, n), rng.uniform(0.5, 2, n)
    line = Line.of(Moments.of(x, y, w))
    assume(line is not None)
    assert line is not None
    n_eff = w.sum() ** 2 / (w @ w)
    scaled = w * n_eff / w.sum()
    mean = np.average(x, axis=0, weights=w)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    z = (x - mean) / spread
    assume(np.linalg.cond(z) < 30)
    theirs = sm.WLS(y, sm.add_constant(z), weights=scaled).fit()
    df = n_eff - p - 1
    assert line.rest == pytest.approx(theirs.ssr / df, rel=1e-9)
    slopes = theirs.params[1:]
    assert line.alpha == pytest.approx(p * theirs.ssr / df / (slopes @ slopes), rel=1e-7)
    inverse = np.linalg.inv(z.T @ (scaled[:, None] * z) + line.alpha * np.eye(p))
    expected = line.rest * inverse @ (z.T @ (scaled[:, None] * z)) @ inverse / np.outer(spread, spread)
    assert line.variance == pytest.approx(expected, rel=1e-7, abs=1e-12 * np.abs(expected).max())


@quick
@given(SEEDS, st.sampled_from(["yield", "dead"]))
def test_the_adjusted_estimate_is_a_kernel_mean_about_scikit_learns_cross_fitted_ridge(seed: int, name: str) -> None:
    """The line at the question, plus the kernel mean of the out-of-fold residuals, of a Ridge per fold."""
    people = People(500, seed % 1000, slope=1.0)
    whole, near = people.whole(), people.nearest(50)
    found = synthesis(near, whole)[name]["actions"]["a"]
    rows = np.flatnonzero(people.action == "a")
    x, weight = people.x[rows][:, :2], people.weight[rows]
    y = np.array([people.outcomes[i][name] for i in rows.tolist()])
    fold = np.array([fold_of(people.ids[i]) for i in rows.tolist()])
    lines = whole.lines("a", name)
    at_query, out_of_fold = np.zeros(len(rows)), np.zeros(len(rows))
    for each in range(FOLDS):
        others, line = fold != each, lines[each]
        assert line is not None
        model = _ridge(x[others], y[others], weight[others], line.alpha)
        at_query[~others] = model(QUERY[None, :2])[0]
        out_of_fold[~others] = model(x[~others])
    arm = [i for i, action in enumerate(near.action) if action == "a"]
    place = {people.ids[row]: i for i, row in enumerate(rows.tolist())}
    of = [place[near.node[i]] for i in arm]
    kernel = kernel_weights(near.distance[arm], near.distance[arm].max(), 0.01) * near.weight[arm]
    expected = np.average(at_query[of] + y[of] - out_of_fold[of], weights=kernel)
    low, high = (0.0, 1.0) if name == "dead" else (-math.inf, math.inf)
    assert found["adjusted"]["estimate"] == pytest.approx(min(max(expected, low), high), rel=1e-9, abs=1e-12)


def _ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float) -> Any:
    mean = np.average(x, axis=0, weights=weight)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    scaled = weight * weight.sum() / (weight @ weight)
    model = Ridge(alpha=alpha, solver="cholesky").fit((x - mean) / spread, y, sample_weight=scaled)
    return lambda at: model.predict((at - mean) / spread)


@quick
@given(SEEDS, st.integers(2, 30), st.floats(0.0, 4.0))
def test_given_tau2_the_pooled_difference_is_statsmodels(seed: int, k: int, tau: float) -> None:
    """Mean, weights, and Hartung and Knapp's interval where it is the wider one."""
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.2, 3.0, k)
    estimate = rng.normal(1.0, np.sqrt(variance + tau**2))
    found = RandomEffects.of(estimate, variance)
    theirs = combine_effects(estimate, variance + found.tau2, use_t=True)
    assert found.value == pytest.approx(theirs.mean_effect_fe, rel=1e-9, abs=1e-12)
    assert found.weight == pytest.approx(theirs.weights_rel_fe, rel=1e-9)
    assert found.se == pytest.approx(theirs.sd_eff_w_fe * math.sqrt(max(1.0, theirs.scale_hksj_fe)), rel=1e-9)
    if theirs.scale_hksj_fe >= 1.0:
        assert found.interval() == pytest.approx(theirs.conf_int()[2], rel=1e-9, abs=1e-12)
    apart = combine_effects(estimate, variance)
    assert found.q_p == pytest.approx(apart.test_homogeneity().pvalue, rel=1e-9, abs=1e-300)
    assert found.i2 == pytest.approx(max(0.0, apart.i2), rel=1e-9, abs=1e-12)


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=25, unique=True), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_the_median_is_scipys(values: list[float], level: float) -> None:
    low, high = quantile_test(values, p=0.5).confidence_interval(level)
    middle, around = median(np.array(values), level)
    assert middle == np.median(values)
    if math.isfinite(low) and math.isfinite(high):
        assert around == (low, high)
    else:
        assert around is None


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=39, max_size=90, unique=True))
def test_the_interval_of_one_more_value_is_numpys_weibull_quantiles(values: list[float]) -> None:
    """Without weights the i-th of n values stands at i / (n + 1)."""
    around = predicted(sample(np.array(values), np.ones(len(values))), 0.95)
    assert around == pytest.approx(np.quantile(values, [0.025, 0.975], method="weibull"), rel=1e-9, abs=1e-9)


@quick
@given(SEEDS, st.integers(10, 38))
def test_of_few_it_is_statsmodels_interval_for_an_observation(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).normal(50, 9, n)
    theirs = sm.OLS(values, np.ones(n)).fit().get_prediction([1.0]).conf_int(obs=True)[0]
    assert predicted(sample(values, np.ones(n)), 0.95) == pytest.approx(tuple(theirs), rel=1e-9)


@quick
@given(SEEDS, st.booleans())
def test_greenwoods_variance_is_statsmodels(seed: int, late: bool) -> None:
    """Also where nodes came under observation late."""
    rng = np.random.default_rng(seed)
    entry = rng.integers(0, 5, 80) if late else np.zeros(80, int)
    duration, event = entry + rng.integers(1, 60, 80), rng.random(80) < 0.6
    curve = Curve.of(duration.astype(float), event, np.ones(80), entry.astype(float))
    theirs = SurvfuncRight(duration.astype(float), event.astype(float), entry=entry.astype(float) if late else None)
    for time, survival, error in zip(theirs.surv_times, theirs.surv_prob, theirs.surv_prob_se, strict=True):
        upto = curve.times <= time
        assert curve.at(time) == pytest.approx(survival, rel=1e-9, abs=1e-12)
        if survival > 0:
            assert survival * math.sqrt(curve.increments[upto].sum()) == pytest.approx(error, rel=1e-9)


@quick
@given(st.floats(5, 1e3), st.floats(5, 1e3), st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(9, 500))
def test_a_ratio_is_the_difference_of_the_logarithms(a: float, b: float, se_a: float, se_b: float, df: float) -> None:
    """Whose Welch interval is statsmodels' (tests/gateway/test_estimate.py)."""
    found = Ratio.of(Mean(a, se_a, df), Mean(b, se_b, 2 * df), 0.98)
    logs = welch(Mean(math.log(a), se_a / a, df), Mean(math.log(b), se_b / b, 2 * df), 0.98)
    assert logs is not None
    assert found.interval == pytest.approx((math.exp(logs.low), math.exp(logs.high)), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(40.0, 60.0), (15.0, 300.0)])
def test_what_could_have_been_seen_is_statsmodels(n: float, m: float) -> None:
    """With the standard error as one of two means of as many nodes; the chance of the wrong side left out."""
    a, b = Proportion(0.3, n), Proportion(0.5, m)
    se = math.hypot(standard_error(a), standard_error(b))
    effect = detectable(a, b, 0.95) / se / math.sqrt(500.0)
    power = NormalIndPower().power(effect, nobs1=1000.0, alpha=0.025, ratio=1.0, alternative="larger")
    assert power == pytest.approx(0.8, rel=1e-9)


@quick
@given(SEEDS, st.integers(4, 12), st.integers(2, 25))
def test_atoms_of_several_say_what_their_persons_would(seed: int, atoms: int, each: int) -> None:
    """Mean and its interval: statsmodels on the persons, each with its own weight and its atom's kernel."""
    rng = np.random.default_rng(seed)
    values, own = rng.normal(60, 9, (atoms, each)), rng.uniform(0.5, 2.0, (atoms, each))
    distance = np.sort(rng.uniform(0.2, 2.0, atoms))
    told = [
        {"yield": Cohort.of(zip(mean.tolist(), w.tolist(), strict=True)).figures()}
        for mean, w in zip(values, own, strict=True)
    ]
    of = replace(
        neighbours(told, distance=distance.tolist(), radius={"a": 2.0}),
        size=np.full(atoms, each),
        weight=own.sum(axis=1),
    )
    found: Any = synthesise(of, {"yield": YIELD}, ("a",), "observational", 0.1)["yield"]
    weight = np.repeat(kernel_weights(distance, 2.0, 0.1), each) * own.ravel()
    n_eff = weight.sum() ** 2 / (weight @ weight)
    theirs = DescrStatsW(values.ravel(), weights=weight * n_eff / weight.sum())
    arm = found["actions"]["a"]
    assert arm["n_eff"] == pytest.approx(n_eff, rel=1e-9)
    if n_eff >= 10:
        assert arm["estimate"] == pytest.approx(theirs.mean, rel=1e-9)
        assert (arm["low"], arm["high"]) == pytest.approx(theirs.tconfint_mean(), rel=1e-7)


def test_the_whole_and_its_adjusted_difference_are_statsmodels_and_scikit_learns() -> None:
    """The mean with its interval; and both actions' Ridge at the mean of the nodes of both (g-formula)."""
    people = People(900, 4, effect=2.0)
    whole = people.whole(3)
    found = synthesis(people.nearest(50), whole)["yield"]
    y = np.array([each["yield"] for each in people.outcomes])
    at, middle = {}, np.average(people.x[:, :2], axis=0, weights=people.weight)
    for action in "ab":
        rows = people.action == action
        w = people.weight[rows]
        theirs = DescrStatsW(y[rows], weights=w * w.sum() / (w @ w))
        told = found["actions"][action]["whole"]
        assert told["estimate"] == pytest.approx(theirs.mean, rel=1e-9)
        assert (told["low"], told["high"]) == pytest.approx(theirs.tconfint_mean(), rel=1e-9)
        line = whole.line(action, "yield")
        assert line is not None
        at[action] = _ridge(people.x[rows][:, :2], y[rows], w, line.alpha)(middle[None])[0]
    [pair] = found["differences"]
    assert pair["whole"]["adjusted"]["estimate"] == pytest.approx(at["a"] - at["b"], rel=1e-9)
