"""What stands for many regions in a cell above: the region that contains them, and when it has to change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from registry.geometry.region import FLOAT_SLACK, Region, Vector
from registry.geometry.split import Geometry, Indices

Faces = tuple[Vector, Vector]  # of a box: lo, hi (d,)

MARGIN = 1 / 16  # of a box's extent: what a face that has to move moves beyond what is needed
KEEP = 0.75  # a bound is kept as long as what is needed is at least this share of it
COUNT_KEEP = 2  # a count is kept up to this many times the true one


def round_up(count: int) -> int:
    """`count` up to the next number of three significant binary digits, so that small changes stop here.

    >>> [round_up(n) for n in (1, 7, 8, 9, 100)]
    [1, 7, 8, 10, 112]
    """
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step


def summary(geometry: Geometry, members: Indices, counts: Mapping[str, int], name: str) -> Region:
    """The region that stands for `members`, whose packets are `counts` together.

    Counts are upper limits (round_up). var follows the law of total variance, exactly. spread does too, but takes
    a packet's offset from its own region's centre as uncorrelated across axes and with its length: within region
    i, at offset e_i from the common centre, the squared distance has the mean m_i = |var_i| + e_i^2 and the
    variance spread_i + 4 var_i . e_i^2.
    """
    centre, radius = geometry.ball(members)
    weight = geometry.size[members] / geometry.size[members].sum()
    offset2 = (geometry.centre[members] - centre) ** 2
    var = weight @ (geometry.var[members] + offset2)
    mean = geometry.var[members].sum(axis=1) + offset2.sum(axis=1)
    within = geometry.spread[members] + 4.0 * np.einsum("ij,ij->i", geometry.var[members], offset2)
    return Region(
        id=name,
        counts={action: round_up(count) for action, count in counts.items()},
        centre=centre,
        radius=radius,
        lo=geometry.lo[members].min(axis=0),
        hi=geometry.hi[members].max(axis=0),
        var=var,
        spread=float(weight @ (within + (mean - weight @ mean) ** 2)),
    )


def extent(region: Region) -> Faces:
    """The faces (d,), (d,) of the region's box, cut to its ball, so finite; all that is in both is between them."""
    reach = np.nextafter(region.radius * (1.0 + FLOAT_SLACK), np.inf)
    lo = np.maximum(region.lo, np.nextafter(region.centre - reach, -np.inf))
    hi = np.minimum(region.hi, np.nextafter(region.centre + reach, np.inf))
    return lo, hi


def contains(outer: Region, inner: Region, faces: Faces | None = None) -> bool:
    """Whether all that lies in ball and box of `inner` certainly lies in ball and box of `outer`.

    faces: the extent of `inner`, where it is at hand.
    """
    lo, hi = faces or extent(inner)
    if not ((lo >= outer.lo).all() and (hi <= outer.hi).all()):
        return False
    offset = inner.centre - outer.centre
    apart = math.sqrt(offset @ offset)
    if apart + inner.radius + FLOAT_SLACK * (apart + inner.radius if apart else 0.0) <= outer.radius:
        return True
    corner = np.maximum(np.abs(lo - outer.centre), np.abs(hi - outer.centre))
    return math.sqrt(corner @ corner) * (1.0 + FLOAT_SLACK) <= outer.radius


def still_right(counts: Mapping[str, int], true: Mapping[str, int]) -> bool:
    """Whether `counts` are upper limits of the `true` ones, of the same actions, and not too far above them."""
    return counts.keys() == true.keys() and all(
        n <= counts[action] <= COUNT_KEEP * round_up(n) for action, n in true.items()
    )


def widened(before: Region, come: Iterable[tuple[Region, Faces]], true: Mapping[str, int]) -> Region:
    """`before`, about its own centre, so that it holds `come` too: a face that has to move moves a little further.

    come: each with its extent.
    """
    lo, hi, radius = before.lo, before.hi, before.radius
    for region, (floor, ceiling) in come:
        moved = MARGIN * (ceiling - floor)
        lo = np.where(floor < lo, floor - moved, lo)
        hi = np.where(ceiling > hi, ceiling + moved, hi)
        offset = region.centre - before.centre
        apart = math.sqrt(offset @ offset)
        radius = max(radius, (apart + region.radius) * (1.0 + FLOAT_SLACK))
    if radius > before.radius:
        radius *= 1.0 + MARGIN / 4
    return _with(before, lo, hi, radius, recounted(before, true))


def recounted(before: Region, true: Mapping[str, int]) -> Mapping[str, int]:
    """The counts of `before` where they still do, else new ones."""
    if still_right(before.counts, true):
        return before.counts
    return {action: round_up(n) for action, n in true.items()}


def renewed(before: Region, regions: Sequence[Region], true: Mapping[str, int]) -> Region:
    """The region that stands for `regions`, all of which `before` holds; `before` itself where it still does.

    What could shrink a little does not, so that the next small changes stop here.
    """
    geometry = Geometry.of(regions)
    fresh = summary(geometry, np.arange(len(regions), dtype=np.intp), true, before.id)
    counts = recounted(before, true)
    floor, ceiling = extent(before)
    wide = float((fresh.hi - fresh.lo).sum())
    if fresh.radius >= KEEP * before.radius and wide >= KEEP * float((ceiling - floor).sum()):
        same = counts is before.counts
        return before if same else _with(before, before.lo, before.hi, before.radius, counts)
    return _with(fresh, fresh.lo, fresh.hi, fresh.radius, counts)


def joined(regions: Iterable[Region], name: str) -> Region:
    """A region that contains all of `regions` and counts one packet of each of their actions."""
    held = list(regions)
    actions = dict.fromkeys(sorted({action for region in held for action in region.counts}), 1)
    if len(held) == 1:
        [one] = held
        return Region(name, actions, one.centre, one.radius, one.lo, one.hi, one.var, one.spread)
    return summary(Geometry.of(held), np.arange(len(held), dtype=np.intp), actions, name)


def _with(region: Region, lo: Vector, hi: Vector, radius: float, counts: Mapping[str, int]) -> Region:
    return Region(region.id, counts, region.centre, radius, lo, hi, region.var, region.spread)
