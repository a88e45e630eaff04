"""What a question may still bring: where the K-th neighbour will lie, and who is expected to hold how many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.expectation import TEMPER, Array, Moments, fit_temper, kth_bounds, kth_distance
from gateway.merge import Merge
from gateway.resolution import Walk

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What is known of each network met on the walk: (n, a) lower bound and counts per arm."""

    names: Sequence[str]
    lower: Array
    counts: Array

    @classmethod
    def of(cls, walk: Walk) -> Standing:
        """As far as the walk has come."""
        shape = (len(walk.networks), walk.counts.shape[1])
        lower, counts = np.full(shape, np.inf), np.zeros(shape)
        held = walk.network >= 0
        owner, of_row = walk.network[held], walk.counts[held]
        np.minimum.at(lower, owner, np.where(of_row > 0, walk.lower[held][:, None], np.inf))
        np.add.at(counts, owner, of_row)
        return cls(list(walk.networks), lower, counts)

    def reached(self, radius: Array) -> Flags:
        """Which may hold a packet of some arm within its radius (a,)."""
        result: Flags = np.asarray(((self.lower <= radius) & (self.counts > 0)).any(axis=1))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """reach: (a,) the distance at which those found and those expected from the others make K; infinite where
    there are not so many. found: (a,) how many are known within it. unknown: whether the root is unresolved.
    """

    walk: Walk
    k: int
    open: Flags
    reach: Array
    found: Array
    expected: Array

    @classmethod
    def of(cls, walk: Walk, merge: Merge, k: int, answered: Collection[str]) -> Outlook:
        """answered: networks whose packets, within the radius or the K nearest, are in `merge`."""
        settled = np.array([name in answered for name in walk.networks], dtype=np.bool_)
        held = walk.network >= 0
        open_ = ~held & (walk.closed | walk.failed)
        open_[held] = ~settled[walk.network[held]]
        distances = merge.distances()
        radius = merge.radius()
        reached = walk.reaches(radius).any(axis=1)
        near, known = open_ & reached, held & reached & ~open_
        if not near.any():
            return cls(walk, k, open_, radius, np.array([float(len(each)) for each in distances]), walk.counts * 0.0)
        # What begins beyond where K packets end, of each arm, is not within the reach.
        floor, ceiling = kth_bounds(walk.lower[near], walk.seen.upper[near], walk.counts[near], k)
        near &= walk.reaches(np.minimum(radius, ceiling)).any(axis=1)
        told = held & reached if (held & reached).any() else near
        covariance = walk.seen[told].covariance(walk.counts[told].sum(axis=1), walk.network[told])
        moments = walk.seen[near].moments(covariance)
        temper = np.full(len(radius), TEMPER)
        if known.any():
            temper = _learned(walk, merge, known, walk.seen[known].moments(covariance), radius)
        reach = np.minimum(kth_distance(moments, walk.counts[near], k, distances, temper, (floor, ceiling)), radius)
        found = np.array([each.searchsorted(r, side="right") for each, r in zip(distances, reach, strict=True)])
        expected = np.zeros(walk.counts.shape)
        expected[near] = walk.counts[near] * moments.within(reach, temper)
        return cls(walk, k, open_, reach, found.astype(np.float64), expected)

    def promise(self) -> Array:
        """(n, a): how many neighbours are expected of each network met; 0 of those that have answered."""
        walk = self.walk
        result = np.zeros((len(walk.networks), walk.counts.shape[1]))
        held = walk.network >= 0
        np.add.at(result, walk.network[held], self.expected[held])
        return result

    @property
    def wanted(self) -> Array:
        """(a,): how many neighbours there are to be had: K, or all where there are fewer."""
        held: Array = self.found + self.walk.counts[self.open].sum(axis=0)
        return np.minimum(self.k, held)

    def needed(self, promise: Array, free: Flags, share: float) -> Flags:
        """The fewest of the free networks, the most promising, after which at most `share` is expected missing."""
        chosen = np.zeros(len(free), dtype=np.bool_)
        for arm in range(promise.shape[1]):
            rows = np.flatnonzero(free & (promise[:, arm] > 0))
            order = rows[np.argsort(-promise[rows, arm], kind="stable")]
            rest = np.cumsum(promise[order[::-1], arm])[::-1]  # missing if asking stops before each
            chosen[order[rest > share * self.wanted[arm]]] = True
        return chosen

    def recall(self) -> float | None:
        """The expected share of the true neighbours that is found; None where the root could not be opened."""
        if () in self.walk.unresolved:
            return None
        wanted = self.wanted
        if not wanted.sum():
            return 1.0
        missing = np.minimum(self.expected.sum(axis=0), wanted)
        return float(1.0 - missing.sum() / wanted.sum())


def _learned(walk: Walk, merge: Merge, known: Flags, moments: Moments, radius: Array) -> Array:
    """(a,): the temper that fits what the regions of the networks that answered turned out to hold within it."""
    rows = np.flatnonzero(known)
    owner = walk.network[rows]
    offset = walk.seen.offset[rows]
    share = moments.within(radius)
    temper = np.full(len(radius), TEMPER)
    for column, (arm, r) in enumerate(zip(walk.arms, radius, strict=True)):
        held = np.zeros(len(rows))
        for network, distance, points in merge.nearby(arm):
            own = np.flatnonzero(owner == walk.networks.index(network))
            near = points[distance <= r]
            if len(own) and len(near):
                to_centre = ((near[:, None, :] - offset[own][None, :, :]) ** 2).sum(axis=2)
                np.add.at(held, own[to_centre.argmin(axis=1)], 1.0)
        counted = (walk.counts[rows, column] > 0) & (share[:, column] < 1.0)
        if np.isfinite(r) and counted.any():
            temper[column] = fit_temper(share[counted, column], walk.counts[rows[counted], column], held[counted])
    return temper
