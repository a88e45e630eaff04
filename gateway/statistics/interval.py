"""Intervals for one estimate. `level` is the share of repetitions in which they are meant to hold."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Vector = npt.NDArray[np.float64]

LEVEL = 0.95


class Interval(NamedTuple):
    """low <= high, in the unit of the estimate that they enclose."""

    low: float
    high: float


def normal_quantile(level: float) -> float:
    """z with P(|Z| <= z) = level, Z standard normal."""
    return float(special.ndtri(0.5 + level / 2.0))


def t_quantile(df: float, level: float) -> float:
    """t with P(|T| <= t) = level, T Student's with df > 0 degrees of freedom (df need not be whole)."""
    return float(special.stdtrit(df, 0.5 + level / 2.0))


def wilson(proportion: float, n: float, level: float) -> Interval:
    """Wilson's score interval (JASA 22, 1927) for a proportion of n > 0 (effective) observations."""
    z = normal_quantile(level)
    shrink = 1.0 + z * z / n
    centre = (proportion + z * z / (2.0 * n)) / shrink
    half = z * math.sqrt(proportion * (1.0 - proportion) / n + z * z / (4.0 * n * n)) / shrink
    # At 0 and 1 the score interval ends exactly there; rounding must not move the end past the estimate.
    return Interval(max(0.0, min(centre - half, proportion)), min(1.0, max(centre + half, proportion)))


def log_log(survival: Vector, variance_sum: Vector, level: float) -> tuple[Vector, Vector]:
    """(low, high), each (m,), for S(t) on the log(-log S) scale (Kalbfleisch and Prentice, 1980).

    variance_sum: Greenwood's sum of d / (n (n - d)) up to t. NaN where S(t) is 0 or 1, which have no place on
    that scale.
    """
    inside = (survival > 0.0) & (survival < 1.0)
    within = np.where(inside, survival, 0.5)
    error = np.sqrt(np.where(inside, variance_sum, 0.0))
    # exp(700) is near the greatest float; the power is 0 or 1 to every digit long before.
    spread = np.minimum(normal_quantile(level) * error / -np.log(within), 700.0)
    low = np.minimum(within ** np.exp(spread), within)
    high = np.maximum(within ** np.exp(-spread), within)
    return np.where(inside, low, np.nan), np.where(inside, high, np.nan)
