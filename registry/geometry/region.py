"""A region: how a network describes a part of what it holds, and what can be proved from it.

A region is a ball and a box that both contain every packet it counts, so the distance from a question to
any of them is at least max(ball bound, box bound) (DESIGN section 5; the SR-tree of Katayama and Satoh,
SIGMOD 1997, combines the two the same way).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.errors import RegionError

Vector = npt.NDArray[np.float64]

# A computed bound may exceed the true one by rounding; bounds are deflated (upper bounds inflated) by this
# share of the magnitudes involved. float64 sums over d <= 128 terms err by less than 128 * 2^-53 = 1.5e-14.
FLOAT_SLACK = 1e-12
_FEW_POINTS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Geometry and counts of one region.

    counts: packets per action, "" for packets without an action; every count >= 1.
    centre, lo, hi, var: (d,) float64; var is the per-axis variance of the packets.
    radius: every counted packet lies within it of centre.
    spread: variance of the squared distance to centre over the packets (0 where unknown).
    """

    id: str
    counts: Mapping[str, int]
    centre: Vector
    radius: float
    lo: Vector
    hi: Vector
    var: Vector
    spread: float = 0.0

    @property
    def size(self) -> int:
        """Packets counted, all actions together."""
        return sum(self.counts.values())

    def check(self, d: int) -> None:
        """Raise RegionError where the geometry is impossible or not of dimension `d`."""
        for name in ("centre", "lo", "hi", "var"):
            axis: Vector = getattr(self, name)
            if axis.shape != (d,):
                raise RegionError(f"region {self.id}: {name} has shape {axis.shape}, the space has d={d}")
            if name in ("centre", "var") and not np.isfinite(axis).all():
                raise RegionError(f"region {self.id}: {name} holds a number that is not finite")
        if np.isnan(self.lo).any() or np.isnan(self.hi).any() or (self.lo > self.hi).any():
            raise RegionError(f"region {self.id}: lo must be <= hi on every axis")
        if not (np.isfinite(self.radius) and self.radius >= 0):
            raise RegionError(f"region {self.id}: radius {self.radius} must be finite and >= 0")
        if (self.var < 0).any() or not (np.isfinite(self.spread) and self.spread >= 0):
            raise RegionError(f"region {self.id}: variances must be finite and >= 0")
        if not self.counts or any(n < 1 for n in self.counts.values()):
            raise RegionError(f"region {self.id}: every count must be >= 1, and there must be one")

    def contains(self, points: npt.NDArray[np.float32], action: str) -> npt.NDArray[np.bool_]:
        """For points (n, d): which lie in ball and box, where the region counts `action` at all; (n,) bool."""
        if action not in self.counts:
            return np.zeros(len(points), dtype=np.bool_)
        exact = points.astype(np.float64)
        inside: npt.NDArray[np.bool_] = np.all((exact >= self.lo) & (exact <= self.hi), axis=1)
        return inside & (np.sqrt(squared_distances(exact, self.centre)) <= self.radius)


def squared_distances(points: Vector, origin: Vector) -> Vector:
    """Squared Euclidean distance of points (n, d) to origin (d,) in float64, summed axis by axis in order.

    The order of summation is fixed so that every machine gets the same bits: the distance is part of the
    total order of neighbours.
    """
    squares = np.subtract(points.T, origin[:, None], order="C")
    np.multiply(squares, squares, out=squares)
    if len(points) <= _FEW_POINTS:  # one call instead of d
        sums: Vector = np.add.accumulate(squares, axis=0, out=squares)[-1]
        return sums
    total: Vector = np.zeros(len(points), dtype=np.float64)
    for axis in squares:
        total += axis
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """The geometry of m regions as arrays, for bounds on all of them at once.

    centre, lo, hi: (m, d) float64; radius: (m,) float64. lo and hi may be infinite (unbounded).
    """

    centre: Vector
    radius: Vector
    lo: Vector
    hi: Vector

    @classmethod
    def of(cls, regions: Sequence[Region]) -> Bounds:
        return cls(
            centre=np.array([region.centre for region in regions], dtype=np.float64),
            radius=np.array([region.radius for region in regions], dtype=np.float64),
            lo=np.array([region.lo for region in regions], dtype=np.float64),
            hi=np.array([region.hi for region in regions], dtype=np.float64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Bounds]) -> Bounds:
        """All regions of the parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def lower(self, query: Vector) -> Vector:
        """(m,): no packet of region i is nearer to query (d,) than this; 0 where the query may be inside."""
        offset = self.centre - query
        return self._lower(_lengths(offset), self.lo - query, query - self.hi)

    def seen(self, query: Vector) -> tuple[Vector, Vector, Vector]:
        """Offsets of the centres from query (d,), (m, d); `lower`; and (m,) than which no packet is farther."""
        offset, below, above = self.centre - query, self.lo - query, query - self.hi
        to_centre = _lengths(offset)
        box = _lengths(np.maximum(np.abs(below), np.abs(above)))
        upper: Vector = np.minimum(to_centre + self.radius, box) * (1.0 + FLOAT_SLACK)
        return offset, self._lower(to_centre, below, above), upper

    def _lower(self, to_centre: Vector, below: Vector, above: Vector) -> Vector:
        """below, above: (m, d) how far the query is below `lo` and above `hi`."""
        ball = to_centre - self.radius - FLOAT_SLACK * (to_centre + self.radius)
        box = _lengths(np.maximum(np.maximum(below, above), 0.0)) * (1.0 - FLOAT_SLACK)
        result: Vector = np.maximum(np.maximum(ball, box), 0.0)
        return result


def _lengths(vectors: Vector) -> Vector:
    """(m,) of (m, d)."""
    result: Vector = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return result


def merge_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts per action added up, actions in sorted order."""
    total: dict[str, int] = {}
    for each in counts:
        for action, n in each.items():
            total[action] = total.get(action, 0) + n
    return dict(sorted(total.items()))
