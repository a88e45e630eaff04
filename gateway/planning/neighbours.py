"""The neighbours of a question: what the merge hands to the synthesis, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from regional.cohort import Figures
from regional.releasing.lifetable import Lives
from registry.errors import InputError

Vector = npt.NDArray[np.float64]

# What came of one atom. Of one episode: a number (binary: 0 or 1), [duration, event], or None = not known yet. Of
# several: figures over those whose number is known, or what is known of all of them alike.
OutcomeValue = float | tuple[float, bool] | Figures | Lives | None

NO_ACTION = ""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """n neighbours, each an atom, in the merge's total order, cut to the k nearest nodes per action or over all.

    distance: (n,) float64, Euclidean distance to the question's fingerprint. points: (n, d) float64, fingerprints.
    action: what was done, NO_ACTION where nothing is named. network, node: whose packet it is.
    weight: (n,) float64 sample weights; of atoms of several nodes, their figures have their own. outcomes: name ->
    value; a name left out is as unknown as None. size: (n,) nodes in each atom, 1 where packets are released.
    radius: distance of the k-th neighbour per action (per = "action") or under the key "" (per = "all");
    an arm with fewer than k neighbours may be left out or infinite: then its farthest neighbour counts.
    Raises InputError where the columns are not of one length or a distance is not a number >= 0.
    """

    distance: Vector
    points: Vector
    action: tuple[str, ...]
    network: tuple[str, ...]
    node: tuple[bytes, ...]
    weight: Vector
    outcomes: tuple[Mapping[str, OutcomeValue], ...]
    size: npt.NDArray[np.int64]
    k: int
    per: Literal["action", "all"]
    radius: Mapping[str, float]

    def __post_init__(self) -> None:
        n = len(self.action)
        columns = {
            "distance": self.distance.shape,
            "points": self.points.shape[:1],
            "weight": self.weight.shape,
            "network": (len(self.network),),
            "node": (len(self.node),),
            "outcomes": (len(self.outcomes),),
            "size": self.size.shape,
        }
        for name, shape in columns.items():
            if shape != (n,):
                raise InputError(f"neighbours: {name} has shape {shape}, action has {n} entries", column=name)
        if not (np.isfinite(self.distance) & (self.distance >= 0)).all():
            raise InputError("neighbours: every distance must be a finite number >= 0", column="distance")

    def __len__(self) -> int:
        return len(self.action)
