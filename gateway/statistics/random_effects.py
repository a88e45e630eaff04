"""One difference as several networks see it: what they say together, how far they disagree, and their median.

Networks differ in more than chance: y_j = mu + u_j + e_j, with Var(e_j) = v_j known and Var(u_j) = tau^2. tau^2 is the
restricted maximum likelihood estimate (Viechtbauer, J. Educ. Behav. Stat. 30, 2005); the interval of mu is Hartung and
Knapp's (Statistics in Medicine 20, 2001), never narrower than with their factor left out, as it can be by chance where
few networks agree (Roever, Knapp and Friede, BMC Med. Res. Methodol. 15, 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.optimize import brentq

from gateway.statistics.interval import LEVEL, Interval, t_quantile

Vector = npt.NDArray[np.float64]

BISECTIONS = 3000  # from the greatest tau^2 of usable values, 1e200, to the least at all: halved so often at most
BEYOND_CHANCE = 1e150  # standard errors; more have a square beyond all numbers
MIN_FOR_PREDICTION = 5  # networks; with fewer, tau^2 is not known well enough to predict from


@dataclass(frozen=True, slots=True, eq=False)
class RandomEffects:
    """mu with its standard error on k - 1 degrees of freedom, tau2 = Var(u_j), weight (k,) shares of each network.

    q_p: how likely differences as large are where tau^2 is 0 (Cochran's Q). i2: share of the variance of the y_j that
    is disagreement and not chance (Higgins and Thompson, Statistics in Medicine 21, 2002).
    """

    value: float
    se: float
    tau2: float
    weight: Vector
    q_p: float
    i2: float

    @classmethod
    def of(cls, estimate: Vector, variance: Vector) -> RandomEffects:
        """From k >= 2 estimates and their variances > 0, each (k,)."""
        k = len(estimate)
        tau2 = _tau2(estimate, variance)
        weight = 1.0 / (variance + tau2)
        value = math.fsum((weight * estimate).tolist()) / math.fsum(weight.tolist())
        spread = math.fsum((weight * (estimate - value) ** 2).tolist()) / (k - 1)
        fixed = 1.0 / variance
        common = math.fsum((fixed * estimate).tolist()) / math.fsum(fixed.tolist())
        off = np.minimum(np.abs(estimate - common) / np.sqrt(variance), BEYOND_CHANCE)
        q = math.fsum((off * off).tolist())
        return cls(
            value=value,
            se=math.sqrt(max(1.0, spread) / math.fsum(weight.tolist())),
            tau2=tau2,
            weight=weight / weight.sum(),
            q_p=float(special.chdtrc(k - 1, q)),
            i2=max(0.0, 1.0 - (k - 1) / q) if q > 0 else 0.0,
        )

    def interval(self, level: float = LEVEL) -> Interval:
        """Of mu, the mean over networks like these."""
        half = t_quantile(len(self.weight) - 1, level) * self.se
        return Interval(self.value - half, self.value + half)

    def prediction(self, level: float = LEVEL) -> Interval | None:
        """Of the difference in one more such network (Higgins et al., JRSS A 172, 2009); None below five networks."""
        if len(self.weight) < MIN_FOR_PREDICTION:
            return None
        half = t_quantile(len(self.weight) - 2, level) * math.sqrt(self.tau2 + self.se * self.se)
        return Interval(self.value - half, self.value + half)


def median(estimate: Vector, level: float = LEVEL) -> tuple[float, Interval | None]:
    """The median of k >= 1 estimates, and the order statistics that enclose it at `level`, by the sign test.

    None where even the least and the greatest do not: below six networks for 95%. One network, whatever it says, moves
    the median no farther than to its neighbour.
    """
    ordered = np.sort(estimate)
    k = len(ordered)
    # P(more than k - r of k signs agree) on either side is 2 bdtr(r - 1, k, 1/2).
    outside = 2.0 * special.bdtr(np.arange(k // 2 + 1), k, 0.5)
    ranks = int(np.count_nonzero(outside <= 1.0 - level))
    interval = Interval(float(ordered[ranks - 1]), float(ordered[k - ranks])) if ranks else None
    return float(np.median(ordered)), interval


def _tau2(estimate: Vector, variance: Vector) -> float:
    """The root of the restricted likelihood's score; 0 where the score is not above 0 there."""
    least = float(variance.min())

    def score(tau2: float) -> float:
        # Times the least total variance, so that no weight is above 1, and none of its squares beyond all numbers.
        share = (least + tau2) / (variance + tau2)
        total = share.sum()
        off = share * (estimate - (share @ estimate) / total)
        return float(off @ off / (least + tau2) - total + (share @ share) / total)

    with np.errstate(over="ignore"):  # infinite: above 0 all the same
        if score(0.0) <= 0.0:
            return 0.0
        above = float(np.ptp(estimate) ** 2 + variance.max())
        return float(brentq(score, 0.0, above, xtol=1e-300, rtol=1e-14, maxiter=BISECTIONS))
