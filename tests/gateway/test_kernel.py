"""Kernel weights, against scikit-learn and the properties that docs/synthesis.md states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsRegressor

from gateway.statistics.kernel import NEGLIGIBLE, bandwidth, effective_n, kernel_weights, normalised


def test_weight_falls_from_one_to_the_bandwidth() -> None:
    assert kernel_weights(np.array([0.0, 1.0, 2.0]), 2.0, 0.0).tolist() == pytest.approx([1.0, 0.7875, 0.15], rel=1e-15)


def test_nearer_than_the_floor_all_count_equally() -> None:
    near, at, beyond, far = kernel_weights(np.array([0.0, 1.0, 1.5, 2.0]), 2.0, 1.0).tolist()
    assert near == at == 1.0
    assert (beyond, far) == pytest.approx((1 - 0.85 * 1.25 / 4, 1 - 0.85 * 3 / 4), rel=1e-15)
    # Where the K-th neighbour is no farther than the floor there is nothing to weigh; just beyond it, next to nothing.
    assert kernel_weights(np.array([0.0, 0.3, 1.0]), 1.0, 1.0).tolist() == [1.0, 1.0, 1.0]
    assert kernel_weights(np.array([0.0, 0.3, 1.001]), 1.001, 1.0) == pytest.approx([1.0, 1.0, 1.0], abs=0.002)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0, 1e6), st.floats(0, 1e3))
def test_weights_never_rise_with_distance(distances: list[float], radius: float, floor: float) -> None:
    distance = np.sort(distances)
    weights = kernel_weights(distance, bandwidth(distance, radius, floor), floor)
    assert (np.diff(weights) <= 0).all()
    assert ((weights >= 0.15 - 1e-12) & (weights <= 1.0)).all()


def test_all_at_distance_zero_count_equally() -> None:
    distance = np.zeros(5)
    assert bandwidth(distance, 0.0, 0.0) == 0.0
    assert kernel_weights(distance, 0.0, 0.0).tolist() == [1.0] * 5


def test_all_tied_at_the_kth_distance_count_equally() -> None:
    distance = np.full(12, 1.7)
    weights = normalised(kernel_weights(distance, bandwidth(distance, 1.7, 0.0), 0.0), np.ones(12))
    assert weights.tolist() == [1.0] * 12
    assert effective_n(weights, np.ones(len(weights))) == 12.0


@pytest.mark.parametrize(
    ("radius", "floor", "expected"),
    [(3.0, 0.5, 3.0), (3.0, 4.0, 4.0), (math.inf, 0.5, 2.0), (math.inf, 2.5, 2.5), (1.0, 0.0, 2.0)],
)
def test_bandwidth_is_the_greatest_of_radius_floor_and_farthest(radius: float, floor: float, expected: float) -> None:
    assert bandwidth(np.array([1.0, 2.0]), radius, floor) == expected


def test_bandwidth_of_nobody() -> None:
    assert bandwidth(np.array([]), math.inf, 0.0) == 0.0


def test_effective_n_is_kish() -> None:
    assert effective_n(np.array([1.0, 1.0, 2.0]), np.ones(3)) == pytest.approx(16 / 6, rel=1e-15)
    assert effective_n(np.array([]), np.array([])) == 0.0
    assert effective_n(np.ones(10), np.ones(10)) == 10.0
    # Three atoms of 4 nodes of one weight are 12 nodes.
    assert effective_n(np.full(3, 4.0), np.full(3, 4.0)) == 12.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_counts_for_nothing(bad: float) -> None:
    assert normalised(np.ones(3), np.array([1.0, bad, 2.0])).tolist() == [0.5, 0.0, 1.0]
    assert normalised(np.ones(2), np.array([bad, bad])).tolist() == [0.0, 0.0]


def test_extreme_weights_neither_overflow_nor_vanish_together() -> None:
    assert normalised(np.ones(2), np.array([1e308, 1e308])).tolist() == [1.0, 1.0]
    assert normalised(np.ones(2), np.array([5e-324, 5e-324])).tolist() == [1.0, 1.0]
    assert normalised(np.ones(2), np.array([1.0, NEGLIGIBLE / 2])).tolist() == [1.0, 0.0]


def test_kernel_mean_equals_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    points, values, query = rng.normal(size=(300, 5)), rng.normal(50, 9, 300), rng.normal(size=(20, 5))
    k = 40

    def weigh(distances: np.ndarray) -> np.ndarray:
        return np.array([kernel_weights(row, bandwidth(row, float(row[-1]), 0.3), 0.3) for row in distances])

    model = KNeighborsRegressor(n_neighbors=k, weights=weigh, algorithm="brute").fit(points, values)
    expected = model.predict(query)
    for i, at in enumerate(query):
        distance = np.sqrt(((points - at) ** 2).sum(axis=1))
        nearest = np.argsort(distance)[:k]
        weights = normalised(kernel_weights(distance[nearest], float(distance[nearest[-1]]), 0.3), np.ones(k))
        assert np.average(values[nearest], weights=weights) == pytest.approx(expected[i], rel=1e-9)
