"""Second moments: what a straight line through an outcome needs of many nodes, as sums that merge.

Of one outcome y and p columns x (axes of the fingerprint), over nodes with sample weight w: the sums of w, w^2, w y,
w y^2, w x, w x y and of w x x' (upper triangle, row by row). Each is rounded once (math.fsum), so a table does not
depend on the order of the nodes, and tables of parts add up to the table of the whole within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from regional.cohort import Figures

Vector = npt.NDArray[np.float64]

# A node's own outcome must not have drawn the line that it is measured against, so the nodes are parted.
FOLDS: Final = 4
HEAD: Final = 4  # sums before those of the columns


def fold_of(node: bytes) -> int:
    """Which of the FOLDS a node is in, or an atom by its id: its CRC-32 (RFC 1952), modulo FOLDS.

    The network's name is not in it, so that the same nodes are parted alike however they are shared out.
    """
    return crc32(node) % FOLDS


def folds_of(nodes: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """(n,) the same of many."""
    return np.fromiter(map(crc32, nodes), np.int64, len(nodes)) % FOLDS


def length(p: int) -> int:
    """How many sums there are for p columns."""
    return HEAD + 2 * p + p * (p + 1) // 2


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """n nodes whose outcome is known, events of them with the value 1. sums: (length(p),) float64, as above."""

    n: int
    events: int
    sums: Vector
    p: int

    @classmethod
    def of(cls, x: Vector, y: Vector, w: Vector) -> Moments:
        """From columns x (n, p), outcomes y (n,), sample weights w (n,) > 0; all finite. n >= 1.

        A sum that is beyond float64 is NaN.
        """
        p = x.shape[1]
        upper = np.triu_indices(p)
        with np.errstate(over="ignore"):
            columns = [np.ones_like(w), w, y, y * y, *x.T, *(x * y[:, None]).T, *(x[:, upper[0]] * x[:, upper[1]]).T]
            sums = np.array([_sum((w * column).tolist()) for column in columns])
        return cls(len(y), int((y == 1.0).sum()), sums, p)

    @classmethod
    def of_atoms(cls, x: Vector, figures: Sequence[Figures]) -> Moments:
        """The nodes of m atoms as if each stood at its atom's centre, x (m, p). m >= 1.

        Of y nothing is lost; a line through centres has the slopes of a line through the nodes, less surely.
        """
        w = np.array([each.weight for each in figures])
        mean = np.array([each.mean for each in figures])
        square = np.array([each.variance + each.mean * each.mean for each in figures])
        found = cls.of(x, mean, w)
        found.sums[1] = math.fsum(each.weight2 for each in figures)
        found.sums[3] = math.fsum((w * square).tolist())
        return cls(sum(each.n for each in figures), sum(each.events for each in figures), found.sums, found.p)

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Of the nodes of all parts, at least one part, no node in two of them."""
        found = list(parts)
        rows = np.stack([part.sums for part in found])
        sums = np.array([_sum(column) for column in rows.T.tolist()])
        return cls(sum(part.n for part in found), sum(part.events for part in found), sums, found[0].p)

    @property
    def weight(self) -> float:
        """Sum of w."""
        return float(self.sums[0])

    @property
    def n_eff(self) -> float:
        """(sum w)^2 / sum w^2 (Kish 1965)."""
        return float(self.sums[0] ** 2 / self.sums[1])

    @property
    def mean(self) -> float:
        """Weighted mean of y."""
        return float(self.sums[2] / self.sums[0])

    @property
    def variance(self) -> float:
        """Weighted variance of y, divided by the sum of w; never below 0."""
        return max(0.0, float(self.sums[3] / self.sums[0]) - self.mean**2)

    @property
    def means(self) -> Vector:
        """(p,) weighted means of x."""
        found: Vector = self.sums[HEAD : HEAD + self.p] / self.sums[0]
        return found

    @property
    def covariance(self) -> Vector:
        """(p, p) weighted covariance of x."""
        square = np.zeros((self.p, self.p))
        square[np.triu_indices(self.p)] = self.sums[HEAD + 2 * self.p :] / self.sums[0]
        square += np.triu(square, 1).T
        found: Vector = square - np.outer(self.means, self.means)
        return found

    @property
    def with_y(self) -> Vector:
        """(p,) weighted covariance of x with y."""
        found: Vector = self.sums[HEAD + self.p : HEAD + 2 * self.p] / self.sums[0] - self.means * self.mean
        return found


def _sum(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def discloses(x: Vector, y: Vector, least: int) -> bool:
    """Whether sums over these nodes would tell of fewer than `least` of them: x (n, p), y (n,).

    So they do where there are fewer in all; where fewer than `least`, but some, differ from the commonest value of a
    column or of the outcome; and where two columns of two values have a combination that fewer than `least`, but some,
    are in: the sums over the few can then be read off.
    """
    if len(y) < least:
        return True
    columns = [*x.T, y]
    both: list[npt.NDArray[np.bool_]] = []
    for column in columns:
        values, counts = np.unique(column, return_counts=True)
        if 0 < len(column) - counts.max() < least:
            return True
        if len(values) == 2:
            both.append(column == values[0])
    return any(_few(a, b, least) for place, a in enumerate(both) for b in both[:place])


def _few(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], least: int) -> bool:
    counts: Sequence[int] = np.bincount(2 * a.astype(np.intp) + b, minlength=4).tolist()
    return any(0 < count < least for count in counts)
