"""Which cells to open and which networks to ask next, as a decision without sockets.

The way of an exact question (DESIGN section 5):

1. Open cells as far out as the K-th neighbour is expected (`expectation.kth_distance`).
2. Ask scouts: the networks that promise most of the K, few enough that the others need only say what lies
   within the radius that the scouts' answers give.
3. As soon as a radius r exists and the scouts have answered (or the soft deadline has passed): open every cell
   and ask every network whose lower bound is <= r, for what lies within r. r only shrinks, so nobody is asked twice.

A network is left out only when its lower bound exceeds r for every arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.expectation import Array, kth_distance, least_kth_distance
from gateway.merge import Merge
from gateway.resolution import Walk
from registry.cell import Address

SCOUT_SHARE = 0.9  # scouts are enough when this share of K is expected from them
WORTH_ASKING = 0.5  # a network counts as promising from this many expected neighbours


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask one network; `within` holds the radius per arm that is already known."""

    network: str
    within: Mapping[str, float]


@dataclass(slots=True)
class Steps:
    """What to do now, all of it in parallel."""

    open: list[Address] = field(default_factory=list)
    ask: list[Ask] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What is known of each network met on the walk: (n, a) lower bound, counts and expected neighbours per arm."""

    names: Sequence[str]
    lower: Array
    counts: Array
    expected: Array


class Plan:
    """The state of one question: drive it with `next`, tell it what came back."""

    def __init__(self, walk: Walk, merge: Merge, k: int, arms: Sequence[str]) -> None:
        self._walk = walk
        self._merge = merge
        self._k = k
        self._arms = tuple(arms)
        self._opening: set[Address] = set()
        self._asking: set[str] = set()
        self._asked: set[str] = set()
        self._settled: set[str] = set()
        self._estimate: Array = np.full(len(self._arms), np.inf)
        self._estimated_at = -1

    def next(self, soft: bool) -> Steps:
        """The next steps. `soft`: the soft deadline has passed, so do not wait for what is in flight."""
        radius = self._merge.radius()
        scouting = not self._settled or (bool(self._asking) and not soft)
        horizon = np.minimum(radius, self._expected_radius()) if scouting else radius
        steps = Steps(open=[cell for cell in self._walk.wanted(horizon) if cell not in self._opening])
        self._opening.update(steps.open)
        if self._opening and not soft:
            return steps
        if not self._asked:
            chosen = self._scouts()
        elif self._asking and not soft:
            chosen = []
        else:
            chosen = self._within(radius)
        within = {arm: float(r) for arm, r in zip(self._arms, radius, strict=True) if np.isfinite(r)}
        steps.ask = [Ask(network, within) for network in chosen]
        self._asking.update(chosen)
        self._asked.update(chosen)
        return steps

    def cell_done(self, address: Address) -> None:
        """The cell was opened or could not be; the walk knows which."""
        self._opening.discard(address)

    def network_done(self, network: str) -> None:
        """The network answered or failed; merge has what it said."""
        self._asking.discard(network)
        self._settled.add(network)

    @property
    def asked(self) -> frozenset[str]:
        """Every network that was asked so far."""
        return frozenset(self._asked)

    def standing(self) -> Standing:
        """What is known of each network now."""
        names = self._walk.networks
        shape = (len(names), len(self._arms))
        lower = np.full(shape, np.inf)
        counts = np.zeros(shape)
        expected = np.zeros(shape)
        held = self._walk.network >= 0
        if held.any():
            owner = self._walk.network[held]
            of_row = self._walk.counts[held]
            np.minimum.at(lower, owner, np.where(of_row > 0, self._walk.lower[held][:, None], np.inf))
            np.add.at(counts, owner, of_row)
            radius = self._expected_radius()
            reach = np.where(np.isfinite(radius), radius, 0.0)
            share = self._walk.moments(held).within(reach)
            np.add.at(expected, owner, of_row * np.where(np.isfinite(radius), share, 1.0))
        return Standing(names, lower, counts, expected)

    def _expected_radius(self) -> Array:
        if self._estimated_at != self._walk.cells_opened:
            live = (self._walk.network >= 0) | self._walk.closed
            counts, lower = self._walk.counts[live], self._walk.lower[live]
            estimate = kth_distance(self._walk.moments(live), counts, self._k)
            self._estimate = np.maximum(estimate, least_kth_distance(lower, counts, self._k))
            self._estimated_at = self._walk.cells_opened
        return self._estimate

    def _scouts(self) -> list[str]:
        standing = self.standing()
        if not standing.names:
            return []
        promising = (standing.expected >= WORTH_ASKING).any(axis=1).sum()
        most = int(np.ceil(np.sqrt(promising))) + 1
        chosen: dict[int, None] = {}
        for arm in range(len(self._arms)):
            promised = 0.0
            held = 0.0
            total = standing.counts[:, arm].sum()
            order = np.lexsort((standing.lower[:, arm], -standing.expected[:, arm]))
            for taken, row in enumerate(order):
                enough = held >= min(self._k, total)
                if enough and (promised >= SCOUT_SHARE * self._k or taken >= most):
                    break
                if standing.counts[row, arm] > 0:
                    chosen[int(row)] = None
                    promised += standing.expected[row, arm]
                    held += standing.counts[row, arm]
        return [standing.names[row] for row in chosen]

    def _within(self, radius: Array) -> list[str]:
        standing = self.standing()
        reached = ((standing.lower <= radius) & (standing.counts > 0)).any(axis=1)
        rows = [row for row in np.flatnonzero(reached).tolist() if standing.names[row] not in self._asked]
        return [standing.names[row] for row in sorted(rows, key=lambda row: float(standing.lower[row].min()))]
