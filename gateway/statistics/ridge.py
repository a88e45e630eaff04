"""A straight line through an outcome, from second moments alone: ridge regression (Hoerl and Kennard, 1970).

The columns are standardised, the weights scaled to add up to the effective n. The penalty is Hoerl, Kennard and
Baldwin's (Communications in Statistics 4, 1975), alpha = p s^2 / |b|^2 of the unpenalised b and s^2. Columns without
spread have slope 0. The same as scikit-learn's `Ridge(alpha)` on the nodes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regional.moments import Moments

Vector = npt.NDArray[np.float64]

PER_COLUMN = 5  # effective nodes for each slope and the constant; with fewer there is no line
NO_SPREAD = 1e-12  # share of a column's mean square that its variance must exceed
COLLINEAR = 1e-9  # eigenvalue of the correlations that counts as 0


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """slopes: (p,) of the columns as they are. variance: (p, p), of the slopes. alpha: the penalty.

    rest: variance of the outcome about the unpenalised line.
    """

    slopes: Vector
    variance: Vector
    alpha: float
    rest: float

    @classmethod
    def of(cls, moments: Moments) -> Line | None:
        """None where there are too few for p slopes."""
        p, n = moments.p, moments.n_eff
        if n < PER_COLUMN * (p + 1):
            return None
        covariance = moments.covariance
        spread = np.diag(covariance)
        used = np.flatnonzero(spread > NO_SPREAD * (spread + moments.means**2))
        slopes, variance = np.zeros(p), np.zeros((p, p))
        if not len(used) or moments.variance == 0.0:
            return cls(slopes, variance, 0.0, moments.variance * n / (n - 1.0))
        scale = np.sqrt(spread[used])
        correlation = covariance[np.ix_(used, used)] / np.outer(scale, scale)
        with_y = moments.with_y[used] / scale
        values, vectors = np.linalg.eigh(correlation)
        kept = values > COLLINEAR
        values, vectors = values[kept], vectors[:, kept]
        along = vectors.T @ with_y
        plain = along / values
        df = n - len(values) - 1.0
        rest = max(0.0, moments.variance - float(along @ plain)) * n / df
        squares = float(plain @ plain)
        alpha = len(values) * rest / squares if squares > 0.0 else 0.0
        damped = values + alpha / n
        standard = vectors @ (along / damped)
        inverse = vectors / damped
        errors = (inverse * values) @ inverse.T * (rest / n)
        slopes[used] = standard / scale
        variance[np.ix_(used, used)] = errors / np.outer(scale, scale)
        return cls(slopes, variance, alpha, rest)
