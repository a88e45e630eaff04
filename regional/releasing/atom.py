"""The atom: the least that a network of persons releases. One action, a centre on a public grid, and sums.

Who is in it stays with the network (regional/releasing/release.py says by which rule they are chosen).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.cohort import Figures
from registry.likeness.schema import Schema

ROUNDING: Final = 8  # a centre is moved by at most this part of what experts see as no difference
ID_OCTETS: Final = 8

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Atom:
    """size persons with whom `action` was done ("" for none), who are at least the domain's min_cohort.

    number: of the network's own, never given twice. place: (d,) the centre in steps of the public grid.
    weight: sum of their sample weights. figures: of the outcomes that are released, by name.
    """

    number: int
    action: str
    size: int
    weight: float
    place: Places
    figures: Mapping[str, Figures]

    @property
    def id(self) -> bytes:
        """What it is called beside nodes: with the network's name, its identity in the order of neighbours."""
        return self.number.to_bytes(ID_OCTETS, "big")


def step_of(schema: Schema) -> float:
    """The edge of the domain's public grid, in units of the fingerprint.

    The greatest power of two for which rounding each axis to the grid moves a point by at most 1/ROUNDING of the
    schema's bandwidth floor. A power of two, so that a centre is an exact float64 everywhere.
    """
    farthest = math.sqrt(schema.dimension) / 2.0  # of a point from the nearest point of a grid with edge 1
    return 2.0 ** math.floor(math.log2(schema.bandwidth_floor / (ROUNDING * farthest)))


def place_of(points: Sequence[npt.NDArray[np.float32]], step: float) -> Places:
    """The mean of points (d,) each, rounded to the grid."""
    mean = np.mean(np.asarray(points, dtype=np.float64), axis=0)
    place: Places = np.rint(mean / step).astype(np.int64)
    return place
