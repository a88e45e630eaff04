"""What networks say together, whoever of them lies: one difference, of which no network can move much.

A redescending M-estimate (Tukey's biweight; Beaton and Tukey, Technometrics 16, 1974): whoever is far from the others
has no weight at all, so that an absurd word moves it no farther than if whoever said it had been left out. The median,
where it starts, goes to its neighbour instead, and with five networks that is farther.

How far is far is measured in the networks' own standard errors. A network that claims to be surer than most is taken
for as sure as most. That networks differ by more than their errors is taken into account from ten on; with fewer, two
who lie together cannot be told from disagreement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

TUNING: Final = 4.685  # standard errors: where nobody lies, as good as 95% of the networks would be with the mean
MIN_FOR_SPREAD: Final = 10  # networks; with fewer, their disagreement is not known
NORMAL: Final = 1.4826  # standard deviations in the median distance from the median, of normal values
STEPS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Robust:
    """value: of the difference. aside: (k,) whether a network is so far from the others that it has no weight."""

    value: float
    aside: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, estimate: Vector, variance: Vector) -> Robust | None:
        """From k >= 1 estimates and their variances > 0, each (k,); None where nobody is near the middle of all."""
        value = float(np.median(estimate))
        usual = float(np.median(variance))
        spread = (NORMAL * float(np.median(np.abs(estimate - value)))) ** 2
        more = max(0.0, spread - usual) if len(estimate) >= MIN_FOR_SPREAD else 0.0
        total = np.maximum(variance, usual) + more
        far = TUNING * np.sqrt(total)
        for _ in range(STEPS):
            weight = (1.0 - np.minimum(np.abs(estimate - value) / far, 1.0) ** 2) ** 2 / total
            if not weight.any():
                return None
            before = value
            value = math.fsum((weight * estimate).tolist()) / math.fsum(weight.tolist())
            if abs(value - before) <= 1e-12 * far.min():
                break
        return cls(value, np.abs(estimate - value) >= far)
