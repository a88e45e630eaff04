"""How many packets of a region lie within a distance of the question, as far as its summary tells.

The squared distance from the question q to a packet of a region has mean |q - c|^2 + sum(var) exactly, and
variance spread + 4 (q - c)' S (q - c), S the region's covariance, where third moments vanish. A region tells only
the diagonal of S. Taken as diagonal, the variance comes out far too small where features go together, so the
direction is corrected by the covariance that the regions of a network have among each other: what goes together between
regions goes together within them. The squared distance is modelled as a gamma variable with these moments,
evaluated by the cube-root normal approximation (Wilson and Hilferty, PNAS 1931), cut to what ball and box allow.
Estimates order the work and stop the `recall` mode; nothing is ever proved from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]

_HALVINGS = 14  # of the interval in which a radius is sought


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """m regions as seen from the question: offset of the centre and variance per axis (m, d); spread, and the least
    and greatest distance that any packet can have (m,)."""

    offset: Array
    var: Array
    spread: Array
    lower: Array
    upper: Array

    @classmethod
    def nothing(cls, d: int) -> Seen:
        """No regions yet."""
        return cls(np.zeros((0, d)), np.zeros((0, d)), np.zeros(0), np.zeros(0), np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """All regions of the parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def __getitem__(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Seen:
        return Seen(self.offset[rows], self.var[rows], self.spread[rows], self.lower[rows], self.upper[rows])

    def covariance(self, weight: Array, group: npt.NDArray[np.int64]) -> Array:
        """(d, d): of the packets, weight (m,) of them per region, about the mean of their group; diagonal within a
        region. Two groups lie apart for reasons of their own, which tell nothing about the inside of a region."""
        _, member = np.unique(group, return_inverse=True)
        total = np.bincount(member, weights=weight)
        mean = np.zeros((len(total), self.offset.shape[1]))
        np.add.at(mean, member, self.offset * (weight / total[member])[:, None])
        centred = self.offset - mean[member]
        share = weight / weight.sum()
        result: Array = (centred.T * share) @ centred
        result[np.diag_indices_from(result)] += share @ self.var
        return result

    def moments(self, covariance: Array) -> Moments:
        """covariance: (d, d) of the neighbourhood; only its shape counts."""
        squares = self.offset**2
        along = ((self.offset @ covariance) * self.offset).sum(axis=1)
        stretch = np.maximum(along / np.maximum(squares @ np.diag(covariance), 1e-100), 1.0)
        return Moments(
            mean=squares.sum(axis=1) + self.var.sum(axis=1),
            variance=self.spread + 4.0 * stretch * np.einsum("ij,ij->i", squares, self.var),
            lower=self.lower,
            upper=self.upper,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of m regions, (m,) each: mean and variance of the squared distance from the question to a packet, and the
    least and greatest distance that any packet can have."""

    mean: Array
    variance: Array
    lower: Array
    upper: Array

    def within(self, radius: Array) -> Array:
        """(m, a): the expected share of each region's packets within each of the a distances."""
        mean = np.maximum(self.mean, 1e-100)
        ninth = np.minimum(self.variance / (9.0 * mean * mean), 1e2)  # 1 / (9 * shape of the gamma)
        ninth = np.maximum(ninth, 1e-12)
        centre, scale = 1.0 - ninth, 1.0 / np.sqrt(ninth)
        least, most = self.lower**2, np.maximum(self.upper**2, self.lower**2)

        def below(square: Array) -> Array:
            root = np.cbrt(square / mean[:, None])
            share: Array = ndtr((root - centre[:, None]) * scale[:, None])
            return share

        ends = below(np.stack([least, most], axis=1))
        mass = np.maximum(ends[:, 1] - ends[:, 0], 0.0)[:, None]
        square = np.where(np.isfinite(radius), radius, 0.0)[None, :] ** 2
        flat = (square - least[:, None]) / np.maximum(most - least, 1e-300)[:, None]
        share = np.where(mass > 1e-6, (below(square) - ends[:, :1]) / np.maximum(mass, 1e-6), flat)
        share = np.where(square >= most[:, None], 1.0, np.clip(share, 0.0, 1.0))
        share = np.where(square < least[:, None], 0.0, share)
        return np.where(np.isfinite(radius)[None, :], share, 1.0)


def kth_distance(moments: Moments, counts: Array, k: int, found: Sequence[Array] | None = None) -> Array:
    """(a,): the distance within which k packets of each of a arms are expected; infinite where fewer exist.

    counts: (m, a) packets per region and arm. found: per arm the ascending distances of packets already known,
    none of which is in `counts`.
    """
    arms = counts.shape[1]
    known = found if found is not None else [np.zeros(0)] * arms
    total = counts.sum(axis=0) + np.array([len(distances) for distances in known])
    result = np.full(arms, np.inf)
    if not (total >= k).any():
        return result
    farthest = [float(moments.upper.max()) if len(counts) else 0.0, *(float(each[-1]) for each in known if len(each))]
    low, high = np.zeros(arms), np.full(arms, max(farthest))
    for arm, distances in enumerate(known):
        if len(distances) >= k:
            high[arm] = distances[k - 1]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        reached = (counts * moments.within(middle)).sum(axis=0)
        reached += [float(np.searchsorted(each, r, side="right")) for each, r in zip(known, middle, strict=True)]
        enough = reached >= k
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    result[total >= k] = high[total >= k]
    return result
