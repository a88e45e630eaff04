"""Points whose Euclidean distances are a given table of dissimilarities.

Schoenberg (1935): points at these distances exist exactly if the Gram matrix about one of them,
G[i][j] = (D[i][0]^2 + D[j][0]^2 - D[i][j]^2) / 2, is positive semidefinite; its Cholesky factor's rows are such
points. Pure Python in a fixed order: equal to the bit everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]

_TOLERANCE = 1e-9  # of a squared dissimilarity; far above rounding, far below what an expert would write


def embed(names: Sequence[str], apart: Matrix) -> list[tuple[float, ...]]:
    """One point per name, all of the least dimension (at most n - 1); `apart` is (n, n), symmetric, 0 diagonal.

    The first name lies at the origin. Raises ValueError that names the values at fault where no such points exist.
    """
    _check_triangles(names, apart)
    points: list[list[float]] = [[] for _ in names]
    for pivot in range(1, len(names)):
        rest = [_left(points, apart, pivot, other) for other in range(pivot, len(names))]
        if rest[0] < -_TOLERANCE or (rest[0] <= _TOLERANCE and max(map(abs, rest)) > math.sqrt(_TOLERANCE)):
            raise ValueError(
                f"no points lie at these distances: {names[pivot]!r} cannot be as near to all of "
                f"{', '.join(map(repr, names[:pivot]))} as the table says; make {names[pivot]!r} less similar to "
                "them, or them more similar to each other"
            )
        if rest[0] <= _TOLERANCE:
            continue
        length = math.sqrt(rest[0])
        for point in points[:pivot]:
            point.append(0.0)
        for other, value in enumerate(rest, start=pivot):
            points[other].append(value / length)
    return [tuple(point) for point in points]


def _left(points: list[list[float]], apart: Matrix, i: int, j: int) -> float:
    """The Gram entry of i and j less what the axes so far explain."""
    value = (apart[i][0] * apart[i][0] + apart[j][0] * apart[j][0] - apart[i][j] * apart[i][j]) / 2.0
    for a, b in zip(points[i], points[j], strict=True):
        value -= a * b
    return value


def _check_triangles(names: Sequence[str], apart: Matrix) -> None:
    for i in range(len(names)):
        for j in range(i):
            for k in range(len(names)):
                around = apart[i][k] + apart[k][j]
                if apart[i][j] > around + _TOLERANCE:
                    raise ValueError(
                        f"{names[j]!r} and {names[i]!r} are {apart[i][j]:g} apart, yet only {around:g} by way of "
                        f"{names[k]!r}: no such triangle exists; make them more similar, or "
                        f"{names[k]!r} less similar to one of them"
                    )
