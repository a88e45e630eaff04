"""How the tree divides regions: the cut that the fewest questions would have to follow on both sides.

The idea is the surface-area heuristic of bounding-volume trees (Goldsmith and Salmon, IEEE CG&A 7(5), 1987):
the cost of a cut is, for each side, the chance that a question touches it times the cells it takes. In many
dimensions surfaces say little about that chance, so it is counted: over sample questions drawn from the
regions themselves, each with about the radius that its neighbourhood has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.region import FLOAT_SLACK, Region, Vector

Indices = npt.NDArray[np.intp]
Halves = tuple[Indices, Indices]

QUESTIONS = 128  # more of them made no better trees, only slower ones
NEIGHBOURS = 50  # per action: the default K of a question
CUTS = 7  # cuts tried per direction, beside the widest gap
AXES = 2  # widest axes, and principal axes, tried as directions
PRIOR = 2.0  # weight, in questions, of the sides' extent: decides where few questions come


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """n regions as arrays: size (n,), centre, lo, hi, var (n, d), radius and spread (n,); all finite float64.

    lo and hi are cut to the ball's extent, so that an unbounded box is bounded here.
    """

    size: Vector
    centre: Vector
    radius: Vector
    lo: Vector
    hi: Vector
    var: Vector
    spread: Vector

    @classmethod
    def of(cls, regions: Sequence[Region]) -> Geometry:
        """The arrays of `regions` (at least one, all of one dimension)."""
        centre = np.array([region.centre for region in regions], dtype=np.float64)
        radius = np.array([region.radius for region in regions], dtype=np.float64)
        reach = np.nextafter(radius * (1.0 + FLOAT_SLACK), np.inf)[:, None]
        floor, ceiling = np.nextafter(centre - reach, -np.inf), np.nextafter(centre + reach, np.inf)
        lo = np.maximum(np.array([region.lo for region in regions], dtype=np.float64), floor)
        hi = np.minimum(np.array([region.hi for region in regions], dtype=np.float64), ceiling)
        empty = lo > hi  # ball and box do not meet: nothing can be inside, so the ball's extent is as good
        return cls(
            size=np.array([region.size for region in regions], dtype=np.float64),
            centre=centre,
            radius=radius,
            lo=np.where(empty, floor, lo),
            hi=np.where(empty, ceiling, hi),
            var=np.array([region.var for region in regions], dtype=np.float64),
            spread=np.array([region.spread for region in regions], dtype=np.float64),
        )

    def ball(self, members: Indices) -> tuple[Vector, float]:
        """Centre (d,) and radius of a ball round all that the members contain.

        The centre is the packets' mean. A member's packets lie in its ball and in its box, so no farther than
        the nearer of the two far ends. (A smallest enclosing ball instead of the mean opened no fewer cells.)
        """
        size = self.size[members]
        centre: Vector = (size / size.sum()) @ self.centre[members]
        offset = self.centre[members] - centre
        over_balls = np.sqrt(np.einsum("ij,ij->i", offset, offset)) + self.radius[members]
        corner = np.maximum(np.abs(self.lo[members] - centre), np.abs(self.hi[members] - centre))
        over_boxes = np.sqrt(np.einsum("ij,ij->i", corner, corner))
        radius = float(np.minimum(over_balls, over_boxes).max()) * (1.0 + FLOAT_SLACK)
        return centre, float(np.nextafter(radius, np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Sample questions: points (m, d) and squared radii (m,)."""

    point: Vector
    radius2: Vector

    @classmethod
    def sample(cls, geometry: Geometry, actions: int) -> Questions:
        """Points drawn from evenly chosen regions, with a radius that holds about `NEIGHBOURS` per action.

        Deterministic. The radius follows from the mean squared distance of each region's packets.
        """
        n, d = geometry.centre.shape
        chosen = np.unique(np.linspace(0, n - 1, min(n, QUESTIONS)).astype(np.intp))
        noise = np.random.default_rng(0).standard_normal((len(chosen), d))
        point = geometry.centre[chosen] + noise * np.sqrt(geometry.var[chosen])
        squares = np.einsum("ij,ij->i", geometry.centre, geometry.centre) + geometry.var.sum(axis=1)
        mean = np.einsum("ij,ij->i", point, point)[:, None] + squares - 2.0 * (point @ geometry.centre.T)
        order = np.argsort(mean, axis=1, kind="stable")
        held = np.cumsum(geometry.size[order], axis=1)
        enough = np.minimum((held < NEIGHBOURS * max(actions, 1)).sum(axis=1), n - 1)
        rows = np.arange(len(chosen))
        return cls(point, np.maximum(mean[rows, order[rows, enough]], 0.0))

    def touching(self, asked: Indices, geometry: Geometry, members: Indices) -> Indices:
        """Those of `asked` that reach into the members' common ball and box."""
        centre, radius = geometry.ball(members)
        point = self.point[asked]
        offset = point - centre
        ball = np.sqrt(np.einsum("ij,ij->i", offset, offset)) - radius
        lo, hi = geometry.lo[members].min(axis=0), geometry.hi[members].max(axis=0)
        outside = np.maximum(np.maximum(lo - point, point - hi), 0.0)
        box = np.einsum("ij,ij->i", outside, outside)
        reaching: Indices = asked[(box <= self.radius2[asked]) & (ball <= np.sqrt(self.radius2[asked]))]
        return reaching


def halve(geometry: Geometry, questions: Questions, members: Indices, asked: Indices, capacity: int) -> Halves:
    """Divide `members` (more than `capacity`) in two, neither empty, as the fewest questions follow both ways.

    Cuts are tried along principal axes, wide axes and the line between two means, mostly at multiples of
    `capacity`, so that leaf cells come out full. Equal centres are divided by order, near the middle.
    """
    centred = geometry.centre[members] - geometry.centre[members].mean(axis=0)
    lo, hi = geometry.lo[members], geometry.hi[members]
    reaching = Questions(questions.point[asked], questions.radius2[asked])
    n = len(members)
    best_cost, best_order, best_cut = np.inf, np.arange(n, dtype=np.intp), n // 2
    for along in _directions(centred):
        order = np.argsort(along, kind="stable")
        cuts = _cuts(along[order], capacity)
        costs = _costs(lo[order], hi[order], cuts, reaching, capacity)
        at = int(costs.argmin())
        if costs[at] < best_cost:
            best_cost, best_order, best_cut = float(costs[at]), order, int(cuts[at])
    ordered = members[best_order]
    return ordered[:best_cut], ordered[best_cut:]


def middle(geometry: Geometry, members: Indices) -> Halves:
    """Divide `members` into two equal halves along their widest axis: whatever the data, depth stays bounded."""
    centre = geometry.centre[members]
    ordered = members[np.argsort(centre[:, int(np.ptp(centre, axis=0).argmax())], kind="stable")]
    return ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]


def _directions(centred: Vector) -> list[Vector]:
    """Coordinates (n,) of centred (n, d) along each direction worth a try."""
    widest = np.argsort(-np.einsum("ij,ij->j", centred, centred), kind="stable")[:AXES]
    return [*(centred @ _principal(centred, widest)).T, *centred[:, widest].T, centred @ _between_means(centred)]


def _principal(centred: Vector, start: Indices) -> Vector:
    """About the first principal axes (d, m): four rounds of orthogonal iteration from the axes `start`.

    Near enough for a direction to try, at a small part of the cost of eigenvectors in many dimensions.
    """
    axes = np.eye(centred.shape[1])[:, start]
    for _ in range(4):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    return axes


def _between_means(centred: Vector) -> Vector:
    """The direction (d,) between the means of two clusters (Lloyd, six rounds, from two far points)."""
    first = centred[int(np.einsum("ij,ij->i", centred, centred).argmax())]
    second = centred[int(((centred - first) ** 2).sum(axis=1).argmax())]
    for _ in range(6):
        nearer = centred @ (first - second) > (first @ first - second @ second) / 2.0
        if nearer.all() or not nearer.any():
            break
        first, second = centred[nearer].mean(axis=0), centred[~nearer].mean(axis=0)
    direction: Vector = first - second
    return direction


def _cuts(along: Vector, capacity: int) -> Indices:
    """Ascending places to cut n sorted coordinates: multiples of capacity from either end, and the widest gap."""
    n = len(along)
    step = max(1, -(-n // (capacity * (CUTS + 1)))) * capacity
    places = {*range(step, n, step), *(n - place for place in range(step, n, step))}
    margin = max(1, n // 16)
    gaps = np.diff(along)[margin - 1 : n - margin]
    if len(gaps):
        places.add(int(gaps.argmax()) + margin)
    return np.array(sorted(places), dtype=np.intp)


def _costs(lo: Vector, hi: Vector, cuts: Indices, asked: Questions, capacity: int) -> Vector:
    """The cost of each cut of boxes lo, hi (n, d), in order: per side, leaf cells times (questions + prior)."""
    starts = np.concatenate([np.zeros(1, dtype=np.intp), cuts])
    floors, ceilings = np.minimum.reduceat(lo, starts), np.maximum.reduceat(hi, starts)
    extent = float(((ceilings.max(axis=0) - floors.min(axis=0)) ** 2).sum()) or 1.0
    total = np.zeros(len(cuts))
    for side_lo, side_hi, held in (
        (np.minimum.accumulate(floors)[:-1], np.maximum.accumulate(ceilings)[:-1], cuts),
        (
            np.minimum.accumulate(floors[::-1])[::-1][1:],
            np.maximum.accumulate(ceilings[::-1])[::-1][1:],
            len(lo) - cuts,
        ),
    ):
        outside = np.maximum(np.maximum(side_lo[:, None] - asked.point, asked.point - side_hi[:, None]), 0.0)
        touched = (np.einsum("ijk,ijk->ij", outside, outside) <= asked.radius2).sum(axis=1)
        prior = PRIOR * ((side_hi - side_lo) ** 2).sum(axis=1) / extent
        total += -(-held // capacity) * (touched + prior)
    # Among equals the cut nearest the middle: depth stays low where the geometry says nothing.
    return total * (1.0 + 1e-9 * np.abs(2 * cuts - len(lo)) / len(lo))
