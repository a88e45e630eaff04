"""Points whose squared Euclidean distances are a given table.

Schoenberg (1935): such points exist exactly if the Gram matrix about one of them,
G[i][j] = (S[i][0] + S[j][0] - S[i][j]) / 2, is positive semidefinite; the rows of its Cholesky factor are such
points. Pure Python in a fixed order: equal to the bit everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Squares = Sequence[Sequence[float]]

_TOLERANCE = 1e-9  # far above rounding, far below what an expert would write


class NotEuclidean(ValueError):
    """No points lie at these distances; `at_fault`: the fewest indices of which that is already true."""

    def __init__(self, at_fault: Sequence[int]) -> None:
        super().__init__("no points lie at these distances")
        self.at_fault = at_fault


def embed(squares: Squares) -> list[tuple[float, ...]]:
    """n points of the least dimension, at most n - 1; the first lies at the origin.

    squares: (n, n) squared distances, symmetric, zero diagonal. Raises NotEuclidean where no such points exist.
    """
    everything = range(len(squares))
    points = _factor(squares, everything)
    if points is None:
        at_fault = list(everything)
        for index in everything:
            fewer = [other for other in at_fault if other != index]
            if _factor(squares, fewer) is None:
                at_fault = fewer
        raise NotEuclidean(at_fault)
    return [tuple(point) for point in points]


def _factor(squares: Squares, chosen: Sequence[int]) -> list[list[float]] | None:
    """Points for the chosen indices, or None where there are none."""
    points: list[list[float]] = [[] for _ in chosen]
    for pivot in range(1, len(chosen)):
        rest = [_left(squares, chosen, points, pivot, other) for other in range(pivot, len(chosen))]
        if rest[0] <= _TOLERANCE:
            if max(map(abs, rest)) > math.sqrt(_TOLERANCE):
                return None
            continue
        length = math.sqrt(rest[0])
        for point in points[:pivot]:
            point.append(0.0)
        for other, value in enumerate(rest, start=pivot):
            points[other].append(value / length)
    return points


def _left(squares: Squares, chosen: Sequence[int], points: list[list[float]], one: int, two: int) -> float:
    """The Gram entry of two points less what the axes so far explain."""
    first, i, j = chosen[0], chosen[one], chosen[two]
    value = (squares[i][first] + squares[j][first] - squares[i][j]) / 2.0
    for a, b in zip(points[one], points[two], strict=True):
        value -= a * b
    return value
