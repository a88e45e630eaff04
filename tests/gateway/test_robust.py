"""The robust mean over networks: against statsmodels, and against liars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.robust.norms import TukeyBiweight, estimate_location

from gateway.statistics.robust import MIN_FOR_SPREAD, TUNING, Robust


def told(estimate: np.ndarray, variance: np.ndarray) -> Robust:
    found = Robust.of(estimate, variance)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(6))
def test_of_networks_as_sure_as_each_other_it_is_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimate = np.append(rng.normal(3.0, 2.0, 7), 50.0)
    norm = TukeyBiweight(c=TUNING)
    theirs = estimate_location(estimate, 2.0, norm=norm, initial=np.median(estimate), maxiter=500, tol=1e-14)
    found = told(estimate, np.full(8, 4.0))
    assert found.value == pytest.approx(float(theirs), rel=1e-9)
    assert found.aside.tolist() == [*[False] * 7, True]


@given(st.integers(0, 2**32), st.sampled_from([-1e80, -1e3, 1e3, 1e80]), st.floats(1e-12, 1.0), st.integers(5, 9))
def test_an_absurd_word_is_as_good_as_none(seed: int, lie: float, claimed: float, k: int) -> None:
    """However sure it claims to be: what is said is what the others say, as sure as they are."""
    rng = np.random.default_rng(seed)
    estimate, variance = rng.normal(0.0, 1.0, k - 1), np.full(k - 1, 1.0)
    assert k < MIN_FOR_SPREAD
    found, without = told(np.append(estimate, lie), np.append(variance, claimed)), told(estimate, variance)
    assert found.aside[-1]
    assert found.value == pytest.approx(without.value, abs=1e-6)


def test_who_claims_to_be_surest_has_no_more_weight_than_most() -> None:
    estimate = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    modest = told(estimate, np.full(5, 1.0)).value
    assert told(estimate, np.array([1.0, 1.0, 1.0, 1.0, 1e-9])).value == pytest.approx(modest, rel=1e-12)
    assert 0.0 < modest < 0.2


def test_two_of_five_who_lie_together_are_set_aside() -> None:
    found = told(np.array([0.1, -0.2, 0.3, 9.0, 9.1]), np.full(5, 0.25))
    assert found.aside.tolist() == [False, False, False, True, True]
    assert found.value == pytest.approx(0.0667, abs=0.01)


def test_where_nobody_is_near_the_middle_it_says_nothing() -> None:
    assert Robust.of(np.array([-9.0, -9.1, 9.0, 9.1]), np.full(4, 1.0)) is None
    assert Robust.of(np.array([-9.0, 9.0]), np.full(2, 1.0)) is None
    assert told(np.array([4.0, 4.5]), np.full(2, 1.0)).value == pytest.approx(4.25)
    assert told(np.array([4.0]), np.ones(1)).value == 4.0


def test_where_many_networks_differ_it_is_not_worse_than_the_median() -> None:
    """Twelve networks whose differences spread four times as far as their errors: none of them lies."""
    rng = np.random.default_rng(5)
    robust, median = [], []
    for _ in range(300):
        variance = rng.uniform(0.5, 2.0, 12)
        estimate = rng.normal(0.0, np.sqrt(variance + 16.0))
        robust.append(told(estimate, variance).value)
        median.append(float(np.median(estimate)))
    assert np.square(robust).mean() < np.square(median).mean()


@given(st.permutations(range(7)))
def test_order_changes_no_bit(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    estimate, variance = rng.normal(size=7), rng.uniform(0.5, 2.0, 7)
    assert told(estimate[order], variance[order]).value == told(estimate, variance).value
