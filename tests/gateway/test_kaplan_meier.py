"""The Kaplan-Meier curve, against lifelines and against a brute force written from the textbook."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times, restricted_mean_survival_time

from gateway.statistics.interval import LEVEL
from gateway.statistics.kaplan_meier import Curve


def data(seed: int, n: int = 60, ties: bool = True, whole: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    duration = rng.exponential(100, n)
    if ties:
        duration = np.floor(duration / 10) * 10
    weight = rng.integers(1, 4, n).astype(float) if whole else rng.uniform(0.3, 1.0, n)
    return duration, rng.random(n) < 0.6, weight


def fitted(duration: np.ndarray, event: np.ndarray, weight: np.ndarray) -> KaplanMeierFitter:
    # lifelines warns of weights that are not whole, and sets numpy's error state for the whole process.
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore")
        return KaplanMeierFitter(alpha=1 - LEVEL).fit(duration, event, weights=weight)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("ties", "whole"), [(True, True), (False, True), (True, False)])
def test_curve_median_and_area_equal_lifelines(seed: int, ties: bool, whole: bool) -> None:
    duration, event, weight = data(seed, ties=ties, whole=whole)
    curve, theirs = Curve.of(duration, event, weight), fitted(duration, event, weight)
    for time in (0.0, 5.0, 10.0, 35.0, 80.0, 120.0):
        expected = float(theirs.survival_function_at_times(time).iloc[0])
        assert curve.at(time) == pytest.approx(expected, rel=1e-9)
    assert curve.median(LEVEL)[0] == theirs.median_survival_time_
    assert curve.restricted_mean(90.0)[0] == pytest.approx(restricted_mean_survival_time(theirs, t=90.0), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [True, False])
def test_intervals_equal_lifelines_where_weights_are_whole(seed: int, ties: bool) -> None:
    # With other weights lifelines rounds the number at risk down within Greenwood's sum.
    duration, event, weight = data(seed, ties=ties, whole=True)
    curve, theirs = Curve.of(duration, event, weight), fitted(duration, event, weight)
    limits = theirs.confidence_interval_
    compared = 0
    for time in curve.times.tolist():
        interval = curve.interval_at(time, LEVEL)
        if interval is not None:
            assert tuple(interval) == pytest.approx(tuple(limits.loc[time]), rel=1e-9)
            compared += 1
    assert compared > 10
    bounds = median_survival_times(limits)
    _, low, high = curve.median(LEVEL)
    assert (low, high) == (bounds.iloc[0, 0], bounds.iloc[0, 1])


def textbook(duration: np.ndarray, event: np.ndarray, weight: np.ndarray, to: float) -> tuple[float, float]:
    """Restricted mean and its variance, term by term as Klein and Moeschberger write it."""
    times = sorted({float(t) for t, e in zip(duration, event, strict=True) if e and t < to})

    def survival(at: float) -> float:
        product = 1.0
        for time in (t for t in times if t <= at):
            product *= 1 - weight[(duration == time) & event].sum() / weight[duration >= time].sum()
        return product

    def area(start: float) -> float:
        edges = [start, *(t for t in times if t > start), to]
        return sum(survival(a) * (b - a) for a, b in pairwise(edges))

    variance = 0.0
    for time in times:
        at_risk, died = weight[duration >= time].sum(), weight[(duration == time) & event].sum()
        if at_risk - died > 1e-9:
            variance += area(time) ** 2 * died / (at_risk * (at_risk - died))
    return area(0.0), math.sqrt(variance)


@pytest.mark.parametrize("seed", range(5))
def test_restricted_mean_and_error_equal_the_textbook(seed: int) -> None:
    duration, event, weight = data(seed, n=30)
    assert Curve.of(duration, event, weight).restricted_mean(70.0) == pytest.approx(
        textbook(duration, event, weight, 70.0), rel=1e-9
    )


def test_error_of_the_restricted_mean_is_that_of_the_mean_without_censoring() -> None:
    duration = np.arange(1.0, 41.0)
    mean, error = Curve.of(duration, np.ones(40, bool), np.ones(40)).restricted_mean(40.0)
    assert mean == pytest.approx(duration.mean(), rel=1e-12)
    assert error == pytest.approx(duration.std() / math.sqrt(40), rel=1e-9)


def test_everything_censored() -> None:
    curve = Curve.of(np.array([3.0, 5.0]), np.array([False, False]), np.ones(2))
    assert curve.at(5.0) == 1.0
    assert curve.interval_at(5.0, LEVEL) is None
    assert curve.median(LEVEL) == (None, None, None)
    assert curve.restricted_mean(5.0) == (5.0, 0.0)
    assert curve.followed_to == 5.0


def test_durations_of_zero() -> None:
    curve = Curve.of(np.zeros(4), np.array([True, True, False, False]), np.ones(4))
    assert curve.at(0.0) == 0.5
    assert curve.median(LEVEL)[0] == 0.0
    assert curve.restricted_mean(0.0) == (0.0, 0.0)


def test_the_last_at_risk_has_the_event() -> None:
    curve = Curve.of(np.array([1.0, 2.0]), np.ones(2, bool), np.ones(2))
    assert curve.survival.tolist() == [0.5, 0.0]
    assert curve.followed_to == math.inf
    assert curve.interval_at(2.0, LEVEL) is None
    assert curve.median(LEVEL)[0] == 1.0
    assert curve.median(LEVEL)[2] is None
    mean, error = curve.restricted_mean(10.0)
    assert mean == 1.5
    assert error == pytest.approx(math.sqrt(0.5**2 * 0.5))


def test_a_half_on_paper_is_a_half() -> None:
    for n in range(2, 60, 2):
        curve = Curve.of(np.arange(1.0, n + 1), np.ones(n, bool), np.full(n, 0.7))
        assert curve.median(LEVEL)[0] == n / 2


rows = st.lists(
    st.tuples(st.integers(0, 12).map(float), st.booleans(), st.sampled_from([1e-12, 1e-3, 0.1, 0.7, 1.0])),
    min_size=1,
    max_size=40,
)


@given(rows, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_does_not_matter_to_the_bit_and_limits_enclose(rows: list, random: object) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    curve = Curve.of(*columns)
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = Curve.of(*[np.array(column) for column in zip(*shuffled, strict=True)])
    assert curve.survival.tolist() == again.survival.tolist()
    assert curve.increments.tolist() == again.increments.tolist()
    assert (np.diff(curve.survival) <= 0).all()
    to = min(curve.followed_to, float(curve.times[-1]))
    mean, error = curve.restricted_mean(to)
    assert 0.0 <= mean <= to
    assert math.isfinite(error)
    for time in curve.times.tolist():
        interval = curve.interval_at(time, LEVEL)
        if interval is not None:
            assert 0.0 <= interval.low <= curve.at(time) <= interval.high <= 1.0
    median, low, high = curve.median(LEVEL)
    if median is not None:
        assert low is None or low <= median
        assert high is None or median <= high


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("whole", [True, False])
def test_delayed_entry_equals_lifelines(seed: int, whole: bool) -> None:
    duration, event, weight = data(seed, n=150, ties=False, whole=whole)
    rng = np.random.default_rng(seed)
    entry = np.where(rng.random(150) < 0.5, 0.0, duration * rng.uniform(0, 0.9, 150))
    curve = Curve.of(duration, event, weight, entry)
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore")
        theirs = KaplanMeierFitter(alpha=1 - LEVEL).fit(duration, event, weights=weight, entry=entry)
    for time in (1.0, 10.0, 35.0, 80.0, 120.0, 300.0):
        expected = float(theirs.survival_function_at_times(time).iloc[0])
        assert curve.at(time) == pytest.approx(expected, rel=1e-9)
    assert curve.restricted_mean(90.0)[0] == pytest.approx(restricted_mean_survival_time(theirs, t=90.0), rel=1e-9)
    if whole:
        for time in curve.times[curve.survival > 0].tolist():
            interval = curve.interval_at(time, LEVEL)
            if interval is not None:
                assert tuple(interval) == pytest.approx(tuple(theirs.confidence_interval_.loc[time]), rel=1e-9)


def test_without_delay_entries_change_nothing() -> None:
    duration, event, weight = data(3)
    plain, entered = Curve.of(duration, event, weight), Curve.of(duration, event, weight, np.zeros(len(duration)))
    assert plain.survival.tolist() == entered.survival.tolist()
    assert plain.increments.tolist() == entered.increments.tolist()


def test_a_curve_that_ends_before_others_enter_says_so() -> None:
    duration, event = np.array([2.0, 3.0, 9.0, 10.0]), np.array([True, True, True, False])
    curve = Curve.of(duration, event, np.ones(4), np.array([0.0, 0.0, 5.0, 5.0]))
    assert curve.interrupted
    assert not Curve.of(duration, event, np.ones(4)).interrupted
    assert not Curve.of(duration, np.ones(4, np.bool_), np.ones(4)).interrupted


def test_leaving_the_early_ones_out_is_what_entries_put_right() -> None:
    """Who died before anyone looked is missing: taken as followed from the start, the others live too long."""
    rng = np.random.default_rng(4)
    life, look = rng.exponential(100, 20_000), np.where(rng.random(20_000) < 0.1, 0.0, rng.uniform(0, 200, 20_000))
    seen = life > look
    ones, died = np.ones(int(seen.sum())), np.ones(int(seen.sum()), np.bool_)
    naive = Curve.of(life[seen], died, ones)
    entered = Curve.of(life[seen], died, ones, look[seen])
    assert abs(entered.at(100.0) - math.exp(-1)) < 0.02
    assert naive.at(100.0) > math.exp(-1) + 0.1
