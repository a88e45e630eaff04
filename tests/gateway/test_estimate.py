"""Estimates, intervals and differences, against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from gateway.statistics.difference import (
    DIFFERS,
    DIFFERS_OBSERVATIONAL,
    NOT_DISTINGUISHABLE,
    differences,
    newcombe,
    welch,
)
from gateway.statistics.estimate import TOO_FEW, Estimate, Mean, Proportion, RestrictedMean, Sample, curve_of, enough
from gateway.statistics.interval import wilson
from gateway.statistics.kernel import effective_n


def sample(value: np.ndarray, weight: np.ndarray, event: np.ndarray | None = None) -> Sample:
    weight = weight / weight.max()
    happened = value == 1.0 if event is None else event
    one = np.ones(len(value))
    return Sample(
        value,
        np.zeros(len(value)),
        one.astype(np.int64),
        happened.astype(np.int64),
        weight,
        np.zeros(len(value), np.intp),
        ("north",),
        effective_n(weight, one),
        np.arange(len(value)),
        np.zeros(len(value)),
    )


def numbers(seed: int, n: int = 40, mean: float = 50.0) -> Sample:
    rng = np.random.default_rng(seed)
    return sample(rng.normal(mean, 9, n), rng.uniform(0.2, 1.0, n))


def binaries(seed: int, n: int = 60, p: float = 0.3) -> Sample:
    rng = np.random.default_rng(seed)
    return sample((rng.random(n) < p).astype(float), rng.uniform(0.2, 1.0, n))


def theirs(of: Sample) -> DescrStatsW:
    """statsmodels takes weights as numbers of observations: they add up to the effective n."""
    return DescrStatsW(of.value, weights=of.weight * of.n_eff / of.weight.sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_mean_and_t_interval_equal_statsmodels(seed: int, level: float) -> None:
    ours, expected = Mean.of(numbers(seed)), theirs(numbers(seed))
    assert ours.value == pytest.approx(expected.mean, rel=1e-9)
    assert ours.se == pytest.approx(expected.std_mean, rel=1e-9)
    assert ours.interval(level) == pytest.approx(expected.tconfint_mean(alpha=1 - level), rel=1e-9)


def test_mean_keeps_its_digits_far_from_zero() -> None:
    near, far = numbers(1), numbers(1)
    far.value[:] += 1e9
    assert Mean.of(far).se == pytest.approx(Mean.of(near).se, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_wilson_interval_equals_statsmodels(seed: int, level: float) -> None:
    of = binaries(seed)
    ours = Proportion.of(of)
    assert ours.value == pytest.approx(np.average(of.value, weights=of.weight), rel=1e-9)
    expected = proportion_confint(ours.value * of.n_eff, of.n_eff, alpha=1 - level, method="wilson")
    assert ours.interval(level) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("proportion", [0.0, 1.0])
def test_wilson_at_the_ends(proportion: float) -> None:
    low, high = wilson(proportion, 12.0, 0.95)
    assert low <= proportion <= high
    assert high - low == pytest.approx(1.959963984540054**2 / (12 + 1.959963984540054**2), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_difference_of_means_equals_statsmodels(seed: int) -> None:
    a, b = numbers(seed, 30), numbers(seed + 100, 55, 46.0)
    expected = CompareMeans(theirs(a), theirs(b)).tconfint_diff(alpha=0.02, usevar="unequal")
    assert welch(Mean.of(a), Mean.of(b), 0.98) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_difference_of_proportions_equals_statsmodels(seed: int) -> None:
    a, b = Proportion.of(binaries(seed)), Proportion.of(binaries(seed + 100, 90, 0.5))
    expected = confint_proportions_2indep(
        a.value * a.n_eff, a.n_eff, b.value * b.n_eff, b.n_eff, method="newcomb", compare="diff", alpha=0.02
    )
    assert newcombe(a, b, 0.98) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_restricted_means_without_censoring_are_means_and_equal_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arms = [sample(rng.exponential(60, n), rng.uniform(0.2, 1.0, n), np.ones(n, bool)) for n in (40, 60)]
    a, b = (RestrictedMean.of(curve_of(arm), arm.n_eff, 50.0) for arm in arms)
    for arm in arms:
        np.minimum(arm.value, 50.0, out=arm.value)
    assert a.value == pytest.approx(theirs(arms[0]).mean, rel=1e-9)
    assert a.interval(0.95) == pytest.approx(theirs(arms[0]).tconfint_mean(), rel=1e-9)
    expected = CompareMeans(theirs(arms[0]), theirs(arms[1])).tconfint_diff(alpha=0.05, usevar="unequal")
    assert welch(a, b, 0.95) == pytest.approx(expected, rel=1e-9)


def test_no_spread_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    for value in (0.1, 1 / 3, 4.2, 1e9 + 0.1):
        flat = Mean.of(sample(np.full(20, value), rng.uniform(0.1, 1.0, 20)))
        assert (flat.value, flat.se, flat.interval(0.95)) == (value, 0.0, None)
    spread = Mean.of(numbers(1))
    assert welch(flat, spread, 0.95) is None
    assert welch(spread, flat, 0.95) is None


def test_enough_needs_effective_n_and_events() -> None:
    ones = np.ones(12)
    none, nil = np.zeros(0), np.zeros(0, np.int64)
    nobody = Sample(none, none, nil, nil, none, np.zeros(0, np.intp), (), 0.0, np.zeros(0, np.intp), none)
    assert not enough(nobody, "number")
    assert enough(sample(np.arange(10.0), np.ones(10)), "number")
    assert not enough(sample(np.arange(9.0), np.ones(9)), "number")
    assert not enough(sample(np.arange(12.0), np.geomspace(1e-4, 1, 12)), "number")
    assert enough(sample(np.repeat([1.0, 0.0], [5, 7]), ones), "binary")
    assert not enough(sample(np.repeat([1.0, 0.0], [4, 8]), ones), "binary")
    assert not enough(sample(np.arange(12.0), ones, np.arange(12) < 4), "duration")


def test_pairs_share_the_error_rate() -> None:
    arms: dict[str, Estimate | None] = {
        name: Mean(mean, 1.0, 30.0) for name, mean in zip("abc", (10.0, 12.95, 30.0), strict=True)
    }
    arms["few"] = None
    pairs = {(pair.action, pair.minus): pair for pair in differences(arms)}
    assert len(pairs) == 6
    assert all(pair.level == pytest.approx(1 - 0.05 / 3) for pair in pairs.values())
    assert pairs["a", "c"].verdict("observational") == DIFFERS_OBSERVATIONAL
    assert pairs["a", "c"].verdict("randomised") == DIFFERS
    assert pairs["a", "few"].verdict("observational") == TOO_FEW
    assert pairs["a", "few"].value is None
    # Alone this pair would differ at 95%; as one of three it is not clear enough.
    assert pairs["a", "b"].verdict("observational") == NOT_DISTINGUISHABLE
    assert differences({"a": arms["a"], "b": arms["b"]})[0].verdict("observational") == DIFFERS_OBSERVATIONAL
