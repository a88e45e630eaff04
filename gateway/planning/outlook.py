"""What a question may still bring: where the K-th neighbour will lie, and who is expected to hold how many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.planning.cell import Flags, Rows, key
from gateway.planning.expectation import TEMPER, Array, fit_temper, kth_bound, kth_distance
from gateway.planning.merge import Merge
from gateway.planning.resolution import Walk

TOLD = 1024  # regions, the nearest ones, from which it is learned what goes together


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What is known of each network met on the walk: (n, a) lower bound and counts per arm."""

    names: Sequence[str]
    lower: Array
    counts: Array

    @classmethod
    def of(cls, walk: Walk) -> Standing:
        """As far as the walk has come."""
        held = np.flatnonzero(walk.held)
        owner, counts, names = walk.network[held], walk.counts[held], list(walk.networks)
        lower = np.full((counts.shape[1], len(names)), np.inf)
        for arm, nearest in enumerate(lower):
            np.minimum.at(nearest, owner, np.where(counts[:, arm] > 0, walk.lower[held], np.inf))
        return cls(names, lower.T, _added(owner, counts, len(names)))


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """reach: (a,) the distance at which those found and those expected from the others make K; infinite where
    there are not so many. found: (a,) how many are known within it. unknown: whether the root is unresolved.

    near: (n,) the rows that may hold a neighbour and have not answered; expected: (n, a) how many each is expected to.
    """

    walk: Walk
    k: int
    open: Flags
    reach: Array
    found: Array
    near: Rows
    expected: Array

    @classmethod
    def of(cls, walk: Walk, merge: Merge, k: int, answered: Collection[str]) -> Outlook:
        """answered: networks whose packets, within the radius or the K nearest, are in `merge`."""
        held, open_ = walk.held, walk.front
        if answered:
            open_ = open_ & ~np.isin(walk.keys, [key(name) for name in answered])
        distances, radius = merge.distances(), merge.radius()
        reached = walk.reaches(radius)
        rows, told = np.flatnonzero(open_ & reached), np.flatnonzero(held & reached)
        if not len(rows):
            found = np.array([float(len(each)) for each in distances])
            return cls(walk, k, open_, radius, found, rows, np.zeros((0, len(radius))))
        known = told[~open_[told]]
        covariance = walk.covariance(walk.nearest_of(told if len(told) else rows, TOLD))
        temper = _learned(walk, merge, known, covariance, radius) if len(known) else np.full(len(radius), TEMPER)
        # Within the distance that has the middles of 2 K packets, more than K are expected; it is seldom otherwise.
        for horizon in (np.minimum(radius, kth_bound(walk.middle[rows], walk.counts[rows], 2 * k)), radius):
            near = rows[walk.reaches(horizon, rows)]
            seen, counts = walk.seen(near), walk.counts[near]
            # What begins beyond where K packets end, of each arm, is not within the reach.
            floor, ceiling = kth_bound(seen.lower, counts, k), np.minimum(kth_bound(seen.upper, counts, k), horizon)
            moments = seen.moments(covariance)
            reach = kth_distance(moments, counts, k, distances, temper, (floor, ceiling))
            if ((reach < horizon) | (horizon >= radius)).all():
                break
        reach = np.minimum(reach, radius)
        found = np.array([each.searchsorted(r, side="right") for each, r in zip(distances, reach, strict=True)])
        expected = counts * moments.within(reach, temper)
        return cls(walk, k, open_, reach, found.astype(np.float64), near, expected)

    def promise(self) -> Array:
        """(n, a): how many neighbours are expected of each network met; 0 of those that have answered."""
        owner = self.walk.network
        held = owner[self.near] >= 0
        return _added(owner[self.near[held]], self.expected[held], int(owner.max(initial=-1)) + 1)

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


def _added(owner: Rows, values: Array, n: int) -> Array:
    """(n, a): values (m, a) summed by owner (m,)."""
    columns = [np.bincount(owner, weights=column, minlength=n) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0))


def _learned(walk: Walk, merge: Merge, known: Rows, covariance: Array, radius: Array) -> Array:
    """(a,): the temper that fits what the regions of the networks that answered turned out to hold within it."""
    seen = walk.seen(known)
    owner, counts = walk.keys[known], walk.counts[known]
    share = seen.moments(covariance).within(radius)
    temper = np.full(len(radius), TEMPER)
    for column, (arm, r) in enumerate(zip(walk.arms, radius, strict=True)):
        held = np.zeros(len(known))
        for network, distance, points in merge.nearby(arm):
            own = np.flatnonzero(owner == key(network))
            near = points[distance <= r]
            if len(own) and len(near):
                to_centre = ((near[:, None, :] - seen.offset[own][None, :, :]) ** 2).sum(axis=2)
                np.add.at(held, own[to_centre.argmin(axis=1)], 1.0)
        counted = (counts[:, column] > 0) & (share[:, column] < 1.0)
        if np.isfinite(r) and counted.any():
            temper[column] = fit_temper(share[counted, column], counts[counted, column], held[counted])
    return temper
