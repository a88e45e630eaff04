"""An ordinal outcome as it is distributed over its levels: the share of each, and of all from it upwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gateway.statistics.estimate import Sample
from gateway.statistics.interval import wilson


def distribution(sample: Sample, levels: Sequence[str], level: float) -> list[dict[str, object]] | None:
    """One object per level, the lowest first, ready for JSON; None where atoms of several nodes tell only their means.

    {level, n, share, at_least: {estimate, low, high}}: shares are weighted, the intervals Wilson's on the effective n.
    level: of the intervals.
    """
    if (sample.known > 1).any():
        return None
    total = math.fsum(sample.weight.tolist())
    at_least = 1.0
    told: list[dict[str, object]] = []
    for place, name in enumerate(levels):
        here = sample.value == float(place)
        if place > 0:
            at_least = math.fsum(sample.weight[sample.value >= float(place)].tolist()) / total
        low, high = wilson(at_least, sample.n_eff, level) if place > 0 else (1.0, 1.0)
        told.append(
            {
                "level": name,
                "n": int(np.count_nonzero(here)),
                "share": math.fsum(sample.weight[here].tolist()) / total,
                "at_least": {"estimate": at_least, "low": low, "high": high},
            }
        )
    return told
