"""Random effects over networks: against statsmodels, a published analysis, and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from statsmodels.stats.meta_analysis import combine_effects

from gateway.statistics.random_effects import RandomEffects, median

# Thirteen trials of the BCG vaccine (Colditz et al., JAMA 271, 1994): ill and well, vaccinated and not.
BCG = [
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
]  # fmt: skip


def test_a_published_analysis() -> None:
    """The log risk ratios by REML: mu -0.7145 (0.1798), tau^2 0.3132, I^2 92.1% (Viechtbauer, J. Stat. Softw. 36, 2010:
    there from tau^2; here from Q: 92.1% as well).
    """
    ratios = np.array([np.log(a / (a + b) / (c / (c + d))) for a, b, c, d in BCG])
    variances = np.array([1 / a - 1 / (a + b) + 1 / c - 1 / (c + d) for a, b, c, d in BCG])
    found = RandomEffects.of(ratios, variances)
    assert found.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert found.value == pytest.approx(-0.7145, abs=5e-5)
    assert 1 / np.sqrt((1 / (variances + found.tau2)).sum()) == pytest.approx(0.1798, abs=5e-5)
    assert found.i2 == pytest.approx(0.921, abs=5e-4)


@pytest.mark.parametrize("seed", range(8))
def test_where_networks_agree_it_is_what_statsmodels_says(seed: int) -> None:
    """tau^2 = 0 in both: the fixed-effect mean, Q and I^2; and Hartung and Knapp's error where it is the wider."""
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.5, 2.0, 7)
    estimate = rng.normal(3.0, 0.8 * np.sqrt(variance))
    found = RandomEffects.of(estimate, variance)
    theirs = combine_effects(estimate, variance, method_re="iterated", use_t=True)
    assert theirs.q == pytest.approx(((estimate - theirs.mean_effect_fe) ** 2 / variance).sum(), rel=1e-9)
    if found.tau2 == 0.0:
        assert found.value == pytest.approx(theirs.mean_effect_fe, rel=1e-9)
        assert found.se == pytest.approx(theirs.sd_eff_w_fe * max(1.0, np.sqrt(theirs.q / 6)), rel=1e-9)
    assert found.i2 == pytest.approx(max(0.0, theirs.i2), rel=1e-9)
    assert found.weight.sum() == pytest.approx(1.0)


@given(st.integers(0, 2**32), st.integers(2, 30), st.floats(0.0, 4.0))
def test_tau2_is_where_the_restricted_likelihood_is_greatest(seed: int, k: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.2, 3.0, k)
    estimate = rng.normal(0.0, np.sqrt(variance + tau**2))

    def minus_likelihood(tau2: float) -> float:
        weight = 1 / (variance + tau2)
        value = (weight @ estimate) / weight.sum()
        return float(-np.log(weight).sum() + np.log(weight.sum()) + weight @ (estimate - value) ** 2)

    best = minimize_scalar(minus_likelihood, bounds=(0.0, float(np.ptp(estimate) ** 2 + 3.0)), method="bounded")
    assert minus_likelihood(RandomEffects.of(estimate, variance).tau2) <= best.fun + 1e-7


def test_the_intervals_hold() -> None:
    """With six networks: of mu in 95 of 100; of the next network's difference in 89, as tau^2 is often put too low."""
    rng = np.random.default_rng(3)
    covered = predicted = 0
    for _ in range(1500):
        variance = rng.uniform(0.5, 2.0, 6)
        estimate = rng.normal(5.0, np.sqrt(variance + 1.5))
        found = RandomEffects.of(estimate, variance)
        low, high = found.interval()
        covered += low <= 5.0 <= high
        next_one = found.prediction()
        assert next_one is not None
        predicted += next_one.low <= rng.normal(5.0, np.sqrt(1.5)) <= next_one.high
    assert 0.93 <= covered / 1500 <= 0.975
    assert predicted / 1500 >= 0.87


def test_no_prediction_from_fewer_than_five() -> None:
    assert RandomEffects.of(np.arange(4.0), np.ones(4)).prediction() is None


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=9), st.floats(-1e12, 1e12))
def test_one_network_moves_the_median_no_farther_than_its_neighbours(honest: list[float], lie: float) -> None:
    told, _ = median(np.array([*honest, lie]))
    ordered = sorted(honest)
    k = len(ordered)
    assert ordered[(k - 1) // 2 - (k % 2)] <= told <= ordered[k // 2 + (k % 2)]


def test_the_median_has_an_interval_from_six() -> None:
    assert median(np.arange(5.0)) == (2.0, None)
    assert median(np.arange(6.0)) == (2.5, (0.0, 5.0))
    rng = np.random.default_rng(0)
    held = sum(low <= 0.0 <= high for low, high in (median(rng.standard_cauchy(15))[1] for _ in range(1000)))  # type: ignore[misc]
    assert 0.94 <= held / 1000 <= 0.99


SHARES = st.just(0.0) | st.floats(0.1, 9) | st.floats(-9, -0.1)


@given(st.lists(st.tuples(st.integers(-100, 100), st.integers(-200, 200), SHARES), min_size=2, max_size=8))
def test_whatever_networks_claim_it_is_numbers(claims: list[tuple[int, int, float]]) -> None:
    """Of estimates up to 1e100 and variances from 1e-200 on, as many orders apart as there are."""
    estimate = np.array([10.0**size * share / 9 for size, _, share in claims])
    found = RandomEffects.of(estimate, np.array([10.0**size for _, size, _ in claims]))
    told = [found.value, found.se, found.tau2, found.q_p, found.i2, *found.weight, *found.interval()]
    assert np.isfinite(told).all()
    assert estimate.min() - 1e-9 * abs(estimate.min()) <= found.value <= estimate.max() + 1e-9 * abs(estimate.max())
