"""Ratios of two actions, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from gateway.statistics.estimate import Mean, Proportion
from gateway.statistics.ratio import NEAR_ZERO, Ratio, ratios


@pytest.mark.parametrize("counts", [(12, 40, 20, 60), (5, 100, 7, 30), (30, 31, 10, 44)])
def test_risk_ratio_equals_statsmodels(counts: tuple[int, int, int, int]) -> None:
    a, n, b, m = counts
    found = Ratio.of(Proportion(a / n, n), Proportion(b / m, m), 0.95)
    low, high = confint_proportions_2indep(a, n, b, m, compare="ratio", method="log")
    assert found.value == pytest.approx(a / n / (b / m))
    assert found.interval == pytest.approx((low, high), rel=1e-9)


def test_a_ratio_of_means_holds_in_95_of_100() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        x, y = rng.gamma(4, 5, 40), rng.gamma(4, 10, 30)
        a, b = (Mean(z.mean(), stats.sem(z), len(z) - 1) for z in (x, y))
        interval = Ratio.of(a, b, 0.95).interval
        assert interval is not None
        held += interval.low <= 0.5 <= interval.high
    assert 0.93 <= held / 600 <= 0.975


def test_near_zero_there_is_none() -> None:
    for a, b in ((Mean(1.0, 0.5, 9), Mean(5.0, 0.1, 9)), (Mean(-4.0, 0.1, 9), Mean(5.0, 0.1, 9))):
        for pair in ((a, b), (b, a)):
            assert Ratio.of(*pair, 0.95) == Ratio(None, None, NEAR_ZERO)
    assert Ratio.of(Proportion(0.0, 20), Proportion(0.5, 20), 0.95).method == NEAR_ZERO
    assert Ratio.of(Proportion(1e-9, 0.5), Proportion(0.5, 20), 0.95) == Ratio(None, None, NEAR_ZERO)
    sure = Ratio.of(Proportion(1.0, 20), Proportion(0.5, 20), 0.95)
    assert (sure.value, sure.interval) == (2.0, None)
    told = ratios({"a": Mean(4.0, 0.1, 9), "b": None, "c": Mean(2.0, 0.1, 9)}, {}, 0.95)
    assert [each["estimate"] for each in told] == [None, 2.0, None]
