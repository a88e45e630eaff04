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

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

TEMPER, TEMPER_SPREAD = 0.8, 0.2  # over the data sets of benchmarks/planner.py
UNASKED = 0.6  # of what the temper lacks to 1, lower for networks not asked: left for last, their summaries err low
LEAST_TEMPER = 0.2
_TEMPERS = np.linspace(0.3, 1.2, 46)
# Of the search for a radius: where packets are counted first, as shares of the interval; how far aside of where K
# should be they are counted then, time after time; what share more than K may be within it; how close is close enough.
_FIRST_LOOK = (0.2, 0.4, 0.6, 0.8, 1.0)
_ASIDE = (0.02, *(0.01,) * 8)
_NEAR_ENOUGH = 0.03
_FINEST = 1e-4
_MANY = 128  # regions, of which those that begin too far away are left out


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """m regions as seen from the question: offset of the centre and variance per axis (m, d); spread, and the least
    and greatest distance that any packet can have (m,)."""

    offset: Singles
    var: Singles
    spread: Singles
    lower: Array
    upper: Array

    def __getitem__(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Seen:
        return Seen(self.offset[rows], self.var[rows], self.spread[rows], self.lower[rows], self.upper[rows])

    def moments(self, covariance: Array) -> Moments:
        """covariance: (d, d) of the neighbourhood; only its shape counts."""
        squares = self.offset * self.offset
        shape = (covariance / (float(np.abs(covariance).max()) or 1.0)).astype(squares.dtype)
        along = np.einsum("ij,ij->i", self.offset @ shape, self.offset)
        stretch = np.maximum(along / np.maximum(squares @ shape.diagonal(), 1e-30), 1.0)
        return Moments(
            mean=(squares + self.var).sum(axis=1, dtype=np.float64),
            variance=self.spread + 4.0 * stretch.astype(np.float64) * np.einsum("ij,ij->i", squares, self.var),
            lower=self.lower,
            upper=self.upper,
        )


def covariance(offset: Singles, var: Singles, weight: Array, group: npt.NDArray[np.int64]) -> Array:
    """(d, d): of the packets, weight (m,) of them per region, about the mean of their group (m,), but for a factor.

    offset, var: (m, d), see Seen. Diagonal within a region. Two groups lie apart for reasons of their own, which tell
    nothing about the inside of a region.
    """
    order = group.argsort()
    ranked = group[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    offset = offset[order].astype(np.float64)
    weight = weight[order]
    weighted = offset * weight[:, None]
    sums, total = weighted.cumsum(axis=0)[ends], weight.cumsum()[ends]
    sums[1:] -= sums[:-1].copy()
    total[1:] -= total[:-1].copy()
    result: Array = offset.T @ weighted - (sums / total[:, None]).T @ sums
    np.fill_diagonal(result, np.maximum(result.diagonal(), 0.0) + weight.astype(var.dtype) @ var[order])
    return result


class Moments:
    """The squared distance from the question to a packet of each of m regions, as a distribution.

    mean, variance: (m,) of the squared distance; lower, upper: (m,) the least and greatest distance of any packet.
    """

    def __init__(self, mean: Array, variance: Array, lower: Array, upper: Array) -> None:
        mean = np.maximum(mean, 1e-100)
        ninth = np.clip(variance / (9.0 * mean * mean), 1e-12, 1e2)  # 1 / (9 * shape of the gamma)
        upper = np.maximum(upper, lower)
        self.farthest = float(upper.max(initial=0.0))
        self._least, self._most = (lower**2)[:, None], (upper**2)[:, None]
        scale = 1.0 / np.sqrt(ninth)
        self._scale, self._centre = (scale / np.cbrt(mean))[:, None], ((1.0 - ninth) * scale)[:, None]
        ends = self._below(np.concatenate([self._least, self._most], axis=1))
        mass = ends[:, 1:] - ends[:, :1]
        self._before = ends[:, :1]
        self._mass = np.maximum(mass, 1e-6)
        self._flat = mass[:, 0] <= 1e-6  # bounds so far in a tail that the model says nothing between them
        self._any_flat = bool(self._flat.any())
        self._width = np.maximum(self._most - self._least, 1e-100)

    def nearer(self, distance: float) -> npt.NDArray[np.bool_]:
        """(m,): of which regions a packet may be nearer."""
        return np.asarray(self._least[:, 0] <= distance * distance)

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> Moments:
        some = copy(self)
        for name in ("_least", "_most", "_scale", "_centre", "_before", "_mass", "_flat", "_width"):
            setattr(some, name, getattr(self, name)[rows])
        return some

    def _below(self, square: Array) -> Array:
        share: Array = ndtr(np.cbrt(square) * self._scale - self._centre)
        return share

    def within(self, radius: Array, temper: Array | float = 1.0) -> Array:
        """(m, a): the expected share of each region's packets within each of the a distances.

        temper: (a,), see `tempered`.
        """
        square = np.minimum(radius, self.farthest)[None, :] ** 2
        share = (self._below(square) - self._before) / self._mass
        if self._any_flat:
            share[self._flat] = (square - self._least[self._flat]) / self._width[self._flat]
        share[square >= self._most] = 1.0
        share[square < self._least] = 0.0
        np.minimum(np.maximum(share, 0.0, out=share), 1.0, out=share)
        return tempered(share, temper)


def tempered(share: Array, temper: Array | float) -> Array:
    """Small shares raised to the power `temper`, large ones hardly changed.

    Real packets lie in clumps, so a region's near tail holds more of them than its moments promise: below 1.
    """
    result: Array = share ** (1.0 - (1.0 - np.asarray(temper)) * (1.0 - share) ** 2)
    return result


def fit_temper(share: Array, count: Array, held: Array) -> float:
    """The power for the networks not asked, from the shares (m,) of regions of `count` packets of those that were,
    and how many these turned out to hold.

    The most probable of a grid: held is Poisson with mean count * share; before any data TEMPER, give or take
    TEMPER_SPREAD. Where packets lie as the summaries say, at 1, it is also that of those not asked; the more they err,
    the more do those that were left for last.
    """
    floored = np.maximum(share, 1e-12)
    mean = count[:, None] * tempered(floored[:, None], _TEMPERS)
    loss = (mean - held[:, None] * np.log(np.maximum(mean, 1e-12))).sum(axis=0)
    loss += ((_TEMPERS - TEMPER) / TEMPER_SPREAD) ** 2 / 2.0
    fitted = float(_TEMPERS[int(loss.argmin())])
    return max(fitted - UNASKED * max(1.0 - fitted, 0.0), LEAST_TEMPER)


def kth_bound(bound: Array, counts: Array, k: int) -> Array:
    """(a,): the K-th packet's bound per arm, where counts (m, a) packets have bound (m,); infinite where fewer exist.

    With lower bounds of distance, no K packets are nearer; with upper bounds, K packets are as near.
    """
    result = np.full(counts.shape[1], np.inf)
    for arm in range(counts.shape[1]):
        own = counts[:, arm]
        some = own > 0
        ends, number = (bound, own) if some.all() else (bound[some], own[some])
        if len(ends) > k:  # each counts at least one
            near = ends <= np.partition(ends, k - 1)[k - 1]
            ends, number = ends[near], number[near]
        order = ends.argsort()
        place = int(number[order].cumsum().searchsorted(k))
        if place < len(order):
            result[arm] = ends[order[place]]
    return result


def kth_distance(
    moments: Moments, counts: Array, k: int, found: Sequence[Array], temper: Array, between: tuple[Array, Array]
) -> Array:
    """(a,): the distance within which k packets of each of a arms are expected; infinite where fewer exist.

    counts: (m, a) packets per region and arm. found: per arm the ascending distances of packets already known,
    none of which is in `counts`. between: (a,) twice, where to look for it, see kth_bound. Within the distance at
    least k are expected, and hardly more. The logarithms of distance and number are nearly in proportion, so the number
    is counted at a few distances at once, then just below and above where that proportion says k, and in the middle.
    """
    total = counts.sum(axis=0) + np.array([len(distances) for distances in found])
    result = np.full(counts.shape[1], np.inf)
    sought = np.flatnonzero(total >= k).tolist()
    if not sought:
        return result
    counts, temper = counts[:, sought], temper[sought]
    brackets = [
        _Bracket.of(k, float(between[0][arm]), min(float(between[1][arm]), moments.farthest), found[arm], total[arm])
        for arm in sought
    ]
    looks = np.array([[each.low + (each.high - each.low) * part for part in _FIRST_LOOK] for each in brackets])
    for aside in _ASIDE:
        shares = moments.within(looks.ravel(), temper.repeat(looks.shape[1])).reshape(len(counts), *looks.shape)
        reached = np.einsum("ma,mal->al", counts, shares)
        for bracket, at, number in zip(brackets, looks.tolist(), reached.tolist(), strict=True):
            bracket.narrow(k, at, number)
        if all(each.near_enough(k) for each in brackets):
            break
        looks = np.array([each.looks(k, aside) for each in brackets])
        if aside is _ASIDE[0] and len(counts) > _MANY:
            near = moments.nearer(max(each.high for each in brackets))
            moments, counts = moments[near], counts[near]
    result[sought] = [each.high for each in brackets]
    return result


@dataclass(slots=True)
class _Bracket:
    """Where the K-th packet of an arm is: beyond `low`, within which `below` are expected, fewer than K, and within
    `high`, within which `above` are, at least K. known: ascending distances of packets found already."""

    low: float
    high: float
    below: float
    above: float
    known: Array

    @classmethod
    def of(cls, k: int, low: float, high: float, known: Array, total: float) -> _Bracket:
        """low, high: where it is as far as the regions of the others tell; total: packets of all of them, and known."""
        if len(known):
            low, high = 0.0, float(known[k - 1] if len(known) >= k else max(high, known[-1]))
        return cls(min(low, high), high, 0.0, max(total, k), known)

    def narrow(self, k: int, at: Sequence[float], expected: Sequence[float]) -> None:
        """So many more than the known are expected within each of these ascending distances."""
        known = self.known.searchsorted(at, side="right").tolist() if len(self.known) else [0] * len(at)
        for distance, others, own in zip(at, expected, known, strict=True):
            if others + own >= k:
                self.high, self.above = distance, others + own
                return
            self.low, self.below = distance, others + own

    def near_enough(self, k: int) -> bool:
        return self.above <= k * (1.0 + _NEAR_ENOUGH) or self.high - self.low <= _FINEST * self.high

    def looks(self, k: int, aside: float) -> list[float]:
        """Just below and above where K packets should be, and in the middle, ascending."""
        middle = (self.low + self.high) / 2.0
        if not (self.low > 0.0 and self.below > 0.0):
            return [(self.low + middle) / 2.0, middle, (middle + self.high) / 2.0]
        slope = math.log(self.high / self.low) / math.log(self.above / self.below)
        aims = [
            self.high * math.exp(min(slope * math.log(k * part / self.above), 0.0))
            for part in (1.0 - aside, 1.0 + aside)
        ]
        return sorted([middle, *(min(max(aim, self.low), self.high) for aim in aims)])
