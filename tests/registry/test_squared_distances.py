"""The squared distance is summed in one order, so that every machine gets the same bits."""

import numpy as np
import pytest

from registry.geometry.region import squared_distances


@pytest.mark.parametrize("n", [0, 1, 2, 60, 128, 129, 500])
@pytest.mark.parametrize("d", [1, 2, 7, 32, 128])
def test_squared_distances_are_summed_axis_by_axis(n, d):
    """To the bit, however many points: the order of summation is part of the order of neighbours."""
    random = np.random.default_rng(n * d)
    points, origin = random.normal(size=(n, d)), random.normal(size=d)
    expected = []
    for point in points.tolist():
        total = 0.0
        for a, b in zip(point, origin.tolist(), strict=True):
            total += (a - b) * (a - b)
        expected.append(total)
    assert squared_distances(points, origin).tolist() == expected
