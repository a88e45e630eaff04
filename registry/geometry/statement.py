"""What a registry tells another of all that it serves of a domain: one region over its root cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from registry.geometry.region import FLOAT_SLACK, Bounds, Region, Vector, merge_counts
from registry.geometry.split import Geometry
from registry.geometry.summary import summary

_SLACK = 1e-9  # of the extent: by so much may computed bounds of the same octets differ


def statement(name: str, regions: Sequence[Region], margin: float = 0.0) -> Region:
    """The region that stands for all of `regions` (at least one), as records of a root cell that were decoded.

    margin: by this share of its extent it is larger than need be, so that not every growth has to be told.
    """
    counts = merge_counts(region.counts for region in regions)
    whole = summary(Geometry.of(regions), np.arange(len(regions), dtype=np.intp), counts, name)
    room = margin * (whole.hi - whole.lo) / 2.0
    return replace(whole, radius=whole.radius * (1.0 + margin), lo=whole.lo - room, hi=whole.hi + room)


def holds(stated: Region, actions: Sequence[str], inside: Bounds) -> bool:
    """Whether all that may lie in the regions `inside`, which count `actions`, lies in the region `stated`, and is
    counted there."""
    reach = inside.radius[:, None] * (1.0 + FLOAT_SLACK)
    lo, hi = np.maximum(inside.lo, inside.centre - reach), np.minimum(inside.hi, inside.centre + reach)
    room: Vector = _SLACK * (np.abs(inside.centre) + reach)
    return bool(
        set(actions) <= stated.counts.keys()
        and (lo >= stated.lo - room).all()
        and (hi <= stated.hi + room).all()
        and (inside.seen(stated.centre)[2] <= stated.radius * (1.0 + _SLACK)).all()
    )
