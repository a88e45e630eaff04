"""Points from tables of squared distances: exact where they exist, refused where they do not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from registry.likeness.embedding import NotEuclidean, embed


@given(arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.integers(-9, 9)))
def test_points_have_the_distances_of_the_table(points: np.ndarray) -> None:
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    made = np.array(embed(squares.tolist())).reshape(len(points), -1)
    assert made.shape[1] <= min(points.shape[1], len(points) - 1)
    again = ((made[:, None] - made[None]) ** 2).sum(axis=2)
    assert np.allclose(again, squares, rtol=1e-9, atol=1e-6)


def test_all_equally_far_apart_is_a_simplex() -> None:
    points = np.array(embed([[0.0 if i == j else 1.0 for j in range(5)] for i in range(5)]))
    assert points.shape == (5, 4)
    assert np.allclose(np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(5), 1.0)


def test_values_that_are_the_same_take_no_axis() -> None:
    assert embed([[0, 0, 4], [0, 0, 4], [4, 4, 0]]) == [(0.0,), (0.0,), (2.0,)]


def test_a_triangle_that_does_not_close_names_its_corners() -> None:
    squares = [[0.0 if i == j else 1.0 for j in range(6)] for i in range(6)]
    for i, j, square in ((1, 3, 0.04), (3, 4, 0.04)):  # 0.2 and 0.2, yet 1 and 4 are 1 apart
        squares[i][j] = squares[j][i] = square
    with pytest.raises(NotEuclidean) as caught:
        embed(squares)
    assert sorted(caught.value.at_fault) == [1, 3, 4]


def test_triangles_may_close_and_points_still_not_exist() -> None:
    """Three points 1 apart and a fourth only 0.55 from each: their circle has the radius 0.577."""
    near = 0.55**2
    with pytest.raises(NotEuclidean) as caught:
        embed([[0, 1, 1, near], [1, 0, 1, near], [1, 1, 0, near], [near, near, near, 0]])
    assert sorted(caught.value.at_fault) == [0, 1, 2, 3]
    centre = embed([[0, 1, 1, 1 / 3], [1, 0, 1, 1 / 3], [1, 1, 0, 1 / 3], [1 / 3, 1 / 3, 1 / 3, 0]])[3]
    assert centre == pytest.approx((0.5, math.sqrt(1 / 12)))
