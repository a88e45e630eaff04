"""What a registry tells another of all that it serves of a domain: one region over its root cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from registry.region import FLOAT_SLACK, Bounds, Region, Vector, merge_counts
from registry.split import Geometry
from registry.tree import round_up

_SLACK = 1e-9  # of the extent: by so much may computed bounds of the same octets differ


def summary_of(name: str, regions: Sequence[Region], margin: float = 0.0) -> Region:
    """The region that contains all of `regions` (at least one), as records of a root cell that were decoded.

    margin: by this share of its extent it is larger than need be, so that not every growth has to be told. Counts are
    rounded up (registry.tree.round_up), var and spread as for an inner record.
    """
    geometry = Geometry.of(regions)
    members = np.arange(len(regions))
    centre, radius = geometry.ball(members)
    weight = geometry.size / geometry.size.sum()
    offset2 = (geometry.centre - centre) ** 2
    mean = geometry.var.sum(axis=1) + offset2.sum(axis=1)
    within = geometry.spread + 4.0 * np.einsum("ij,ij->i", geometry.var, offset2)
    lo, hi = geometry.lo.min(axis=0), geometry.hi.max(axis=0)
    room = margin * (hi - lo) / 2.0
    counts = merge_counts(region.counts for region in regions)
    return Region(
        id=name,
        counts={action: round_up(count) for action, count in counts.items()},
        centre=centre,
        radius=radius * (1.0 + margin),
        lo=lo - room,
        hi=hi + room,
        var=weight @ (geometry.var + offset2),
        spread=float(weight @ (within + (mean - weight @ mean) ** 2)),
    )


def contains(stated: Region, actions: Sequence[str], inside: Bounds) -> bool:
    """Whether all that may lie in the regions `inside`, which count `actions`, lies in the region `stated`, and is
    counted there."""
    reach = inside.radius[:, None] * (1.0 + FLOAT_SLACK)
    lo, hi = np.maximum(inside.lo, inside.centre - reach), np.minimum(inside.hi, inside.centre + reach)
    room: Vector = _SLACK * (np.abs(inside.centre) + reach)
    return bool(
        set(actions) <= stated.counts.keys()
        and (lo >= stated.lo - room).all()
        and (hi <= stated.hi + room).all()
        and (inside.upper(stated.centre) <= stated.radius * (1.0 + _SLACK)).all()
    )
