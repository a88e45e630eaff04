"""How many packets of a region lie within a distance of the question, as far as its summary tells.

The squared distance from the question to a packet of a region has mean |q - c|^2 + sum(var) exactly, and
variance spread + 4 * sum((q - c)^2 * var) where third moments vanish. It is modelled as a gamma variable
with these moments, evaluated by the cube-root normal approximation (Wilson and Hilferty, PNAS 1931).
Estimates order the work and stop the `recall` mode; nothing is ever proved from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]

_GRID = 32


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and variance of the squared distance from the question to a packet of each of m regions; (m,) each."""

    mean: Array
    variance: Array

    def within(self, radius: Array) -> Array:
        """(m, g): the expected share of each region's packets within each of the g distances."""
        mean = np.maximum(self.mean, 1e-300)[:, None]
        shape = np.maximum(self.mean**2 / np.maximum(self.variance, 1e-12 * self.mean**2 + 1e-300), 1e-3)[:, None]
        root = np.cbrt(radius[None, :] ** 2 / mean)
        ninth = 1.0 / (9.0 * shape)
        share: Array = ndtr((root - (1.0 - ninth)) / np.sqrt(ninth))
        return share


def kth_distance(moments: Moments, counts: Array, k: int) -> Array:
    """(a,): the distance within which k packets of each of a arms are expected; infinite where fewer exist.

    counts: (m, a) packets per region and arm.
    """
    total = counts.sum(axis=0)
    result = np.full(counts.shape[1], np.inf)
    if not len(counts):
        return result
    deviation = np.sqrt(moments.variance)
    low = float(np.sqrt(np.maximum(moments.mean - 3.0 * deviation, 0.0)).min())
    high = float(np.sqrt(moments.mean + 4.0 * deviation).max())
    grid = np.linspace(low, max(high, low + 1e-12), _GRID)
    for _ in range(2):  # a second, finer grid around the first answers
        expected = counts.T @ moments.within(grid)
        reached = [int(np.searchsorted(np.maximum.accumulate(row), k)) for row in expected]
        inside = [i for i, n in zip(reached, total, strict=True) if n >= k and i < _GRID]
        if not inside:
            break
        step = grid[1] - grid[0]
        for arm, i in enumerate(reached):
            if total[arm] >= k:
                result[arm] = grid[min(i, _GRID - 1)]
        if max(inside) - min(inside) > _GRID // 4:
            break
        grid = np.linspace(max(grid[min(inside)] - step, 0.0), grid[max(inside)], _GRID)
    enough = (total >= k) & ~np.isfinite(result)
    result[enough] = high
    return result


def least_kth_distance(lower: Array, counts: Array, k: int) -> Array:
    """(a,): the k-th packet of an arm cannot be nearer than this, if the counts are right; infinite for fewer than k.

    lower: (m,) lower bound of each region; counts: (m, a).
    """
    order = np.argsort(lower, kind="stable")
    reached = np.cumsum(counts[order], axis=0) >= k
    first = lower[order][np.argmax(reached, axis=0)] if len(lower) else np.zeros(counts.shape[1])
    least: Array = np.where(reached.any(axis=0), first, np.inf)
    return least
