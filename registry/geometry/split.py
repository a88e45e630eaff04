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

from registry.geometry.region import FLOAT_SLACK, Region, Vector

Indices = npt.NDArray[np.intp]
Halves = tuple[Indices, Indices]

QUESTIONS = 128  # more of them made no better trees, only slower ones
NEIGHBOURS = 50  # per action: the default K of a question
CUTS = 7  # cuts tried per direction, beside the widest gap
AXES = 2  # widest axes, and principal axes, tried as directions
SAMPLED = 512  # regions on which a cut is chosen: on twice as many no better one was found
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
        wanted = NEIGHBOURS * max(actions, 1)
        radius2 = [
            _reach(each @ each + squares - 2.0 * (geometry.centre @ each), geometry.size, wanted) for each in point
        ]
        return cls(point, np.array(radius2))

    def touching(self, asked: Indices, geometry: Geometry, members: Indices) -> Indices:
        """Those of `asked` that reach into the members' common ball and box."""
        if not len(asked):
            return asked
        centre, radius = geometry.ball(members)
        point = self.point[asked]
        offset = point - centre
        ball = np.sqrt(np.einsum("ij,ij->i", offset, offset)) - radius
        lo, hi = geometry.lo[members].min(axis=0), geometry.hi[members].max(axis=0)
        outside = np.maximum(np.maximum(lo - point, point - hi), 0.0)
        box = np.einsum("ij,ij->i", outside, outside)
        reaching: Indices = asked[(box <= self.radius2[asked]) & (ball <= np.sqrt(self.radius2[asked]))]
        return reaching


def _reach(square: Vector, size: Vector, wanted: int) -> float:
    """Of squared distances (n,), the least within which `wanted` packets are; the greatest where there are fewer."""
    few = min(len(square), wanted)  # a region holds one packet at least
    near = np.argpartition(square, few - 1)[:few]
    near = near[np.argsort(square[near], kind="stable")]
    enough = int((np.cumsum(size[near]) < wanted).sum())
    return max(float(square[near[min(enough, few - 1)]]), 0.0)


def halve(geometry: Geometry, questions: Questions, members: Indices, asked: Indices, capacity: int) -> Halves:
    """Divide `members` (more than `capacity`) in two, neither empty, as the fewest questions follow both ways.

    Cuts are tried along principal axes, wide axes and the line between two means, mostly at multiples of
    `capacity`, so that leaf cells come out full. Equal centres are divided by order, near the middle. Where there are
    more than `SAMPLED`, the cut is chosen on that many of them, evenly taken.
    """
    n = len(members)
    some = members if n <= SAMPLED else members[np.linspace(0, n - 1, SAMPLED).astype(np.intp)]
    origin = geometry.centre[some].mean(axis=0)
    centred = geometry.centre[some] - origin
    directions = _directions(centred)
    along = directions @ centred.T
    order = np.argsort(along, axis=1, kind="stable")
    ranked = np.take_along_axis(along, order, axis=1)
    cuts = _cuts(ranked, capacity)
    reaching = Questions(questions.point[asked], questions.radius2[asked])
    costs = _costs(geometry.lo[some], geometry.hi[some], order, cuts, reaching, capacity)
    best, at = divmod(int(costs.argmin()), cuts.shape[1])
    cut = int(cuts[best, at])
    if n == len(some):
        ordered = members[order[best]]
        return ordered[:cut], ordered[cut:]
    coordinate = (geometry.centre[members] - origin) @ directions[best]
    before = coordinate <= (ranked[best, cut - 1] + ranked[best, cut]) / 2.0
    if before.all() or not before.any():
        return members[: n // 2], members[n // 2 :]
    return members[before], members[~before]


def middle(geometry: Geometry, members: Indices) -> Halves:
    """Divide `members` into two equal halves along their widest axis: whatever the data, depth stays bounded."""
    centre = geometry.centre[members]
    ordered = members[np.argsort(centre[:, int(np.ptp(centre, axis=0).argmax())], kind="stable")]
    return ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]


def _directions(centred: Vector) -> Vector:
    """Directions (a, d) worth a try for centred (n, d)."""
    widest = np.argsort(-np.einsum("ij,ij->j", centred, centred), kind="stable")[:AXES]
    axes = np.eye(centred.shape[1])[widest]
    return np.concatenate([_principal(centred, axes), axes, _between_means(centred)[None, :]])


def _principal(centred: Vector, axes: Vector) -> Vector:
    """About the first principal axes (m, d): four rounds of orthogonal iteration from `axes` (m, d).

    Near enough for a direction to try, at a small part of the cost of eigenvectors in many dimensions.
    """
    for _ in range(4):
        axes = (axes @ centred.T) @ centred
        for row in range(len(axes)):  # Gram and Schmidt: for so few rows quicker than a QR factorisation
            axes[row] -= (axes[:row] @ axes[row]) @ axes[:row]
            axes[row] /= np.sqrt(axes[row] @ axes[row]) or 1.0
    return axes


def _between_means(centred: Vector) -> Vector:
    """The direction (d,) between the means of two clusters (Lloyd, six rounds, from two far points)."""
    first = centred[int(np.einsum("ij,ij->i", centred, centred).argmax())]
    offset = centred - first
    second = centred[int(np.einsum("ij,ij->i", offset, offset).argmax())]
    for _ in range(6):
        nearer = centred @ (first - second) > (first @ first - second @ second) / 2.0
        held = int(np.count_nonzero(nearer))
        if held in (0, len(centred)):
            break
        total = nearer.astype(np.float64) @ centred
        first, second = total / held, -total / (len(centred) - held)  # all of them together have the mean 0
    direction: Vector = first - second
    return direction


def _cuts(ranked: Vector, capacity: int) -> Indices:
    """(a, m): places to cut n coordinates, sorted in each of a rows, ascending.

    Multiples of capacity from either end, and the row's widest gap, which may be among them.
    """
    n = ranked.shape[1]
    step = max(1, -(-n // (capacity * (CUTS + 1)))) * capacity
    places = sorted({*range(step, n, step), *(n - place for place in range(step, n, step))}) or [n // 2]
    margin = max(1, n // 16)
    gaps = np.diff(ranked, axis=1)[:, margin - 1 : n - margin].argmax(axis=1) + margin
    cuts = np.concatenate([np.tile(np.array(places, dtype=np.intp), (len(ranked), 1)), gaps[:, None]], axis=1)
    cuts.sort(axis=1)
    return cuts


def _costs(lo: Vector, hi: Vector, order: Indices, cuts: Indices, asked: Questions, capacity: int) -> Vector:
    """(a, m): the cost of each cut of boxes lo, hi (n, d) put in `order` (a, n): per side, leaf cells times
    (questions + prior).

    Of two equal cuts the second may come out dearer than it is.
    """
    a, n = order.shape
    starts = np.concatenate([np.zeros((a, 1), dtype=np.intp), cuts], axis=1)
    flat = (starts + n * np.arange(a)[:, None]).ravel()
    shape = (*starts.shape, lo.shape[1])
    floors = np.minimum.reduceat(lo[order.ravel()], flat).reshape(shape)
    ceilings = np.maximum.reduceat(hi[order.ravel()], flat).reshape(shape)
    extent = float(((hi.max(axis=0) - lo.min(axis=0)) ** 2).sum()) or 1.0
    side_lo = np.stack(
        [np.minimum.accumulate(floors, axis=1)[:, :-1], np.minimum.accumulate(floors[:, ::-1], axis=1)[:, -2::-1]]
    )
    side_hi = np.stack(
        [np.maximum.accumulate(ceilings, axis=1)[:, :-1], np.maximum.accumulate(ceilings[:, ::-1], axis=1)[:, -2::-1]]
    )
    touched = PRIOR * ((side_hi - side_lo) ** 2).sum(axis=3) / extent
    if len(asked.point):
        outside = np.maximum(side_lo[..., None, :] - asked.point, asked.point - side_hi[..., None, :])
        np.maximum(outside, 0.0, out=outside)
        touched += (np.einsum("...j,...j->...", outside, outside) <= asked.radius2).sum(axis=3)
    held = np.stack([cuts, n - cuts])
    total: Vector = (-(-held // capacity) * touched).sum(axis=0)
    # Among equals the cut nearest the middle: depth stays low where the geometry says nothing.
    total *= 1.0 + 1e-9 * np.abs(2 * cuts - n) / n
    return total
