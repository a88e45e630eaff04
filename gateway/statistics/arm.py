"""An arm: the neighbours with whom one thing was done, and how much each of them counts by distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import NO_ACTION, Neighbours
from gateway.statistics.estimate import Sample
from gateway.statistics.kernel import bandwidth, effective_n, kernel_weights, normalised
from gateway.statistics.observed import Observed

Positions = npt.NDArray[np.intp]
Origins = tuple[Sequence[str], Positions]  # networks in order of name, and of each neighbour its place there


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """members: (m,) positions among the neighbours; kernel: (m,) weights by distance, before sample weights.
    size: nodes of them all.

    origin: (m,) positions in `names`, the networks of the members in order of name.
    """

    members: Positions
    kernel: npt.NDArray[np.float64]
    size: int
    origin: Positions
    names: tuple[str, ...]

    @classmethod
    def of(cls, neighbours: Neighbours, action: str, members: Positions, floor: float, origins: Origins) -> Arm:
        """The bandwidth is the arm's own K-th distance, or the common one where K is over all."""
        distance = neighbours.distance[members]
        radius = neighbours.radius.get(NO_ACTION if neighbours.per == "all" else action, math.inf)
        kernel = kernel_weights(distance, bandwidth(distance, radius, floor), floor)
        all_names, all_places = origins
        present, origin = np.unique(all_places[members], return_inverse=True)
        names = tuple([all_names[place] for place in present.tolist()])
        return cls(members, kernel, int(neighbours.size[members].sum()), origin.astype(np.intp), names)

    def sample(self, observed: Observed) -> Sample:
        """Those of the arm whose value can be used and whose weight counts."""
        usable = observed.usable[self.members]
        members, origin = self.members[usable], self.origin[usable]
        weight = normalised(self.kernel[usable], observed.weight[members])
        counts = weight > 0
        members, origin, weight = members[counts], origin[counts], weight[counts]
        return Sample(
            value=observed.value[members],
            variance=observed.variance[members],
            known=observed.known[members],
            events_of=observed.events[members],
            weight=weight,
            origin=origin,
            names=self.names,
            n_eff=effective_n(weight, observed.n_eff[members]),
            members=members,
            entry=observed.entry[members],
        )


def arms_of(neighbours: Neighbours, actions: Sequence[str], floor: float) -> dict[str, Arm]:
    """One arm per action, in that order, however empty; then NO_ACTION where some name none.

    Without actions everybody is in the arm NO_ACTION. Actions that are not listed are left out.
    """
    if not actions:
        return {NO_ACTION: everybody(neighbours, floor)}
    arms = [*actions, *([] if NO_ACTION in actions else [NO_ACTION])]
    codes = {action: code for code, action in enumerate(arms)}
    code = np.fromiter(map(codes.get, neighbours.action, repeat(-1)), np.intp, len(neighbours))
    members = {action: np.flatnonzero(code == codes[action]) for action in arms}
    if not len(members[NO_ACTION]) and NO_ACTION not in actions:
        del members[NO_ACTION]
    origins = _origins(neighbours)
    return {action: Arm.of(neighbours, action, rows, floor, origins) for action, rows in members.items()}


def everybody(neighbours: Neighbours, floor: float) -> Arm:
    """All neighbours as one arm, whatever was done."""
    return Arm.of(neighbours, NO_ACTION, np.arange(len(neighbours)), floor, _origins(neighbours))


def _origins(neighbours: Neighbours) -> Origins:
    names = sorted(set(neighbours.network))
    places = {name: place for place, name in enumerate(names)}
    return names, np.fromiter(map(places.__getitem__, neighbours.network), np.intp, len(neighbours))
