"""Which cells to open and which networks to ask next, as a decision without sockets.

The way of a question (DESIGN section 5; docs/planning.md):

1. Open cells as far out as the K-th neighbour is expected (gateway.planning.outlook).
2. Ask the networks that promise most; their answers tell where the K-th neighbour is (docs/decisions/011).
3. Stop as the mode says. `exact`: a last wave asks every network whose lower bound is within the radius r of the
   K found so far, for what lies within r; r only shrinks, so nobody is asked twice, and a network is left out
   only when its lower bound exceeds r for every arm. `recall`: when what is expected from all the others is
   less than the share that may be missing. `budget`: when so many networks have been asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gateway.planning.cell import Flags
from gateway.planning.expectation import Array, kth_bound
from gateway.planning.merge import Merge
from gateway.planning.outlook import Outlook, Standing
from gateway.planning.path import Path
from gateway.planning.resolution import Walk
from gateway.question import Budget, Mode, Recall

WORTH_ASKING = 0.5  # expected neighbours from which a network is asked before others have answered
SURE = 0.9  # what lies within this share of the expected K-th distance will be needed


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask one network; `within` holds the radius per arm that is already known."""

    network: str
    within: Mapping[str, float]


@dataclass(slots=True)
class Steps:
    """What to do now, all of it in parallel. soon: says which networks will probably be asked after that."""

    open: list[Path] = field(default_factory=list)
    ask: list[Ask] = field(default_factory=list)
    soon: Callable[[], list[str]] = list


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a question is expected to cost: networks asked, of those met; cells opened, and still to be opened."""

    networks: int
    met: int
    cells: int
    more_cells: int

    def document(self) -> dict[str, int]:
        return {"networks": self.networks, "met": self.met, "cells": self.cells, "more_cells": self.more_cells}


class Plan:
    """The state of one question: drive it with `next`, tell it what came back."""

    def __init__(self, walk: Walk, merge: Merge, k: int, arms: Sequence[str], mode: Mode = "exact") -> None:
        self._walk = walk
        self._merge = merge
        self._k = k
        self._arms = tuple(arms)
        self._mode = mode
        self._opening: set[Path] = set()
        self._asking: set[str] = set()
        self._asked: set[str] = set()
        self._answered: set[str] = set()
        self._last = False  # only the networks that the proof needs are left to ask
        self._seen: tuple[tuple[int, int, int], Outlook] | None = None
        self._stands: tuple[int, Standing] | None = None

    def certain(self) -> list[Path]:
        """Cells that will be opened, whatever the outlook: as far out as fewer than K packets can lie nearer.

        For one who has them at hand: they may be opened before `next` looks further.
        """
        if self._asked:
            return []
        floor = kth_bound(self._walk.lower, self._walk.counts, self._k)
        return [cell for cell in self._walk.wanted(floor) if cell not in self._opening]

    def next(self, soft: bool) -> Steps:
        """The next steps. `soft`: the soft deadline has passed, so do not wait for what is in flight."""
        radius = self._merge.radius()
        if self._asking and not soft:
            return self._sure(radius)
        if self._asked and self._nothing_left(radius):
            return Steps()
        outlook = self._outlook()
        steps = Steps(open=self._to_open(radius if self._last else np.minimum(radius, outlook.reach)))
        if self._opening and not soft:
            steps.soon = partial(self._worth_asking, outlook)
            return steps
        promise = outlook.promise()
        chosen = self._choose(outlook, promise, radius)
        if not chosen and self._mode == "exact" and not self._last:
            self._last = True
            steps.open += self._to_open(radius)
            if self._opening and not soft:
                return steps
            chosen = self._choose(outlook, promise, radius)
        self._ask(steps, chosen, radius)
        if not isinstance(self._mode, Budget):
            steps.soon = partial(self._within, np.minimum(radius, outlook.reach / SURE))
        return steps

    def _nothing_left(self, radius: Array) -> bool:
        """Whether everything that may hold a packet within the radius was asked and opened: no outlook changes that."""
        return not (self._opening or self._free(radius).any() or self._walk.wanted(radius))

    def _sure(self, radius: Array) -> Steps:
        """While others are in flight: what an exact question needs almost surely, whatever those will say.

        So no wave waits for the slowest of the one before it. The outlook is the one from before the wave: to look
        again at each answer would cost more than it tells.
        """
        steps = Steps()
        if self._mode == "exact" and self._seen is not None and np.isfinite(radius).all():
            outlook = self._seen[1]
            near = np.minimum(radius, outlook.reach) * SURE
            steps.open = self._to_open(near)
            free = self._free(near)
            if free.any():
                self._ask(steps, self._ordered(outlook.promise(), free), radius)
        return steps

    def _free(self, radius: Array) -> Flags:
        """(n,): networks not asked yet that may hold a packet within the radius (a,)."""
        reached = self._walk.reached(radius)
        if self._asked:
            for network in np.flatnonzero(reached).tolist():
                reached[network] = self._walk.name(network) not in self._asked
        return reached

    def _worth_asking(self, outlook: Outlook) -> list[str]:
        worth: Flags = np.asarray((outlook.promise() >= WORTH_ASKING).any(axis=1))
        return self._not_asked(worth)

    def _within(self, radius: Array) -> list[str]:
        return self._not_asked(self._free(radius))

    def _not_asked(self, chosen: Flags) -> list[str]:
        names = [self._walk.name(network) for network in np.flatnonzero(chosen).tolist()]
        return [name for name in names if name not in self._asked]

    def _to_open(self, horizon: Array) -> list[Path]:
        """Cells within the horizon that are not being opened yet; from now on they are."""
        cells = [cell for cell in self._walk.wanted(horizon) if cell not in self._opening]
        self._opening.update(cells)
        return cells

    def _ask(self, steps: Steps, chosen: Sequence[int], radius: Array) -> None:
        within = {arm: float(r) for arm, r in zip(self._arms, radius, strict=True) if np.isfinite(r)}
        steps.ask = [Ask(self._walk.name(network), within) for network in chosen]
        self._asking.update(ask.network for ask in steps.ask)
        self._asked.update(ask.network for ask in steps.ask)

    def cell_done(self, path: Path) -> None:
        """The cell was opened or could not be; the walk knows which."""
        self._opening.discard(path)

    def network_done(self, network: str, answered: bool) -> None:
        """The network answered, and merge has what it said; or it failed, or what it said had to be dropped."""
        self._asking.discard(network)
        self._answered.discard(network)
        if answered:
            self._answered.add(network)

    @property
    def asked(self) -> frozenset[str]:
        """Every network that was asked so far."""
        return frozenset(self._asked)

    def standing(self) -> Standing:
        """What is known of each network now."""
        if self._stands is None or self._stands[0] != self._walk.cells_opened:
            self._stands = self._walk.cells_opened, Standing.of(self._walk)
        return self._stands[1]

    def promise(self) -> Array:
        """(n, a): how many neighbours are still expected of each network, in the order of `standing`."""
        return self._outlook().promise()

    def expected_recall(self) -> float | None:
        """The share of the true neighbours that is expected to be among those found; None where nobody can say."""
        return self._outlook().recall()

    def forecast(self) -> Forecast:
        """The cost as far as the cells opened tell; worth reading once `next` opens no more, before any asking."""
        outlook = self._outlook()
        reached = self._walk.reached(outlook.reach)
        networks = int(reached.sum())
        if isinstance(self._mode, Recall):
            networks = int(outlook.needed(outlook.promise(), reached, 1.0 - self._mode.recall).sum())
        elif isinstance(self._mode, Budget):
            networks = min(networks, self._mode.budget)
        more = len(self._walk.wanted(outlook.reach))
        return Forecast(networks, len(reached), self._walk.cells_opened, more)

    def _outlook(self) -> Outlook:
        """Of what is known now; computed anew only where something has come in."""
        known = (self._walk.cells_opened, len(self._walk.unresolved), len(self._answered))
        if self._seen is None or self._seen[0] != known:
            self._seen = known, Outlook.of(self._walk, self._merge, self._k, self._answered)
        return self._seen[1]

    def _choose(self, outlook: Outlook, promise: Array, radius: Array) -> list[int]:
        """Networks to ask now, by number."""
        reached = self._free(radius)
        if self._last:
            return self._ordered(promise, reached)
        worth = reached & (promise.max(axis=1, initial=0.0) >= WORTH_ASKING)
        if isinstance(self._mode, Recall):
            return self._ordered(promise, reached & outlook.needed(promise, reached, 1.0 - self._mode.recall))
        if isinstance(self._mode, Budget):
            left = self._mode.budget - len(self._asked)
            return self._ordered(promise, worth if worth.any() else reached)[:left]
        return [] if self._asked else self._ordered(promise, worth)

    def _ordered(self, promise: Array, chosen: Flags) -> list[int]:
        """The networks chosen, the most promising first."""
        numbers = np.flatnonzero(chosen)
        nearest = self._walk.nearest()[numbers]
        return [int(number) for number in numbers[np.lexsort((nearest, -promise[numbers].sum(axis=1)))]]
