"""Where one more node such as these would come to lie: an interval for a value, not for a mean.

Between order statistics: of n values drawn like the next one, a share i / (n + 1) lies below the i-th on average,
however they are distributed. With weights, i is the weight up to and with the i-th value, as a share, times n_eff.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway.statistics.estimate import Mean, Sample
from gateway.statistics.interval import Interval

Vector = npt.NDArray[np.float64]


def predicted(sample: Sample, level: float) -> Interval | None:
    """None where the values have no spread.

    Student's t interval instead where there are too few for order statistics so far out (n_eff < 39 for 95%), or where
    atoms of several nodes tell only their means.
    """
    outside = (1.0 - level) / 2.0
    if outside * (sample.n_eff + 1.0) < 1.0 or (sample.known > 1).any():
        return Mean.of(sample).predicted(level)
    order = np.lexsort((sample.weight, sample.value))
    value, weight = sample.value[order], sample.weight[order]
    if value[0] == value[-1]:
        return None
    return Interval(
        _quantile(value, weight, sample.n_eff, outside), -_quantile(-value[::-1], weight[::-1], sample.n_eff, outside)
    )


def _quantile(value: Vector, weight: Vector, n_eff: float, share: float) -> float:
    below = np.cumsum(weight) / weight.sum() * (n_eff / (n_eff + 1.0))
    return float(np.interp(share, below, value))
