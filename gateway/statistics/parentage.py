"""Survival where aggregates are released: the nearest parents of atoms (regional/releasing/lifetable.py) are the
neighbours.

They are larger than atoms, so they lie farther: of each action, the nearest that have K persons together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import NO_ACTION, Neighbours, OutcomeValue
from regional.releasing.lifetable import Parent
from registry.geometry.region import squared_distances
from registry.likeness.schema import Outcome

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Parentage:
    """parents: of each network. query: (d,) the question. step: edge of the public grid. k, per: as asked."""

    parents: Mapping[str, Sequence[Parent]]
    query: Vector
    step: float
    k: int
    per: Literal["action", "all"]

    def nearest(self, outcome: Outcome) -> Neighbours:
        """As neighbours: of every parent one row for each thing that happened to some of its persons."""
        told = [
            (network, parent)
            for network in sorted(self.parents)
            for parent in self.parents[network]
            if outcome.name in parent.counts
        ]
        places = np.array([parent.place for _, parent in told], dtype=np.float64).reshape(len(told), len(self.query))
        distance = np.sqrt(squared_distances(places * self.step, self.query)) if told else np.zeros(0)
        chosen, radius = self._chosen([parent for _, parent in told], distance)
        rows: list[tuple[int, int, OutcomeValue]] = []
        for i in chosen:
            lives = told[i][1].lives(outcome)
            rows += [(i, each.n, each) for each in lives]
            unknown = told[i][1].size - sum(each.n for each in lives)
            rows += [(i, unknown, None)] if unknown else []
        at = [i for i, _, _ in rows]
        return Neighbours(
            distance=distance[at],
            points=places[at] * self.step,
            action=tuple(told[i][1].action for i in at),
            network=tuple(told[i][0] for i in at),
            node=(b"",) * len(at),
            weight=np.ones(len(at)),
            outcomes=tuple({outcome.name: value} for _, _, value in rows),
            size=np.array([size for _, size, _ in rows], np.int64),
            k=self.k,
            per=self.per,
            radius=radius,
        )

    def _chosen(self, parents: Sequence[Parent], distance: Vector) -> tuple[list[int], dict[str, float]]:
        """Places of the nearest that have K persons together, and how far these reach, by arm."""
        arms: dict[str, list[int]] = {}
        for i in np.argsort(distance, kind="stable").tolist():
            arms.setdefault(NO_ACTION if self.per == "all" else parents[i].action, []).append(i)
        chosen: list[int] = []
        radius: dict[str, float] = {}
        for arm, order in arms.items():
            persons = np.cumsum([parents[i].size for i in order])
            reached = int(np.searchsorted(persons, self.k))
            if reached < len(order):
                radius[arm] = float(distance[order[reached]])
            chosen += order[: reached + 1]
        return chosen, radius
