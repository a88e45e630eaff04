"""Balance: how alike the arms of a neighbourhood are in what the fingerprint sees, beside what chance gives.

A difference between two actions means less, the more their arms differed before. The standardised mean difference
(Austin, Statistics in Medicine 28, 2009) of a feature with several axes is taken over all of them:

    smd^2 = |m_a - m_b|^2 / tr((S_a + S_b) / 2)       m, S: weighted mean and covariance of an arm, over the axes

Were the arms drawn from one population, tr(S) smd^2 / (1 / n_a + 1 / n_b) would be a sum of squares of normal variables
with variances the eigenvalues of S; about a multiple of chi-squared with tr(S)^2 / tr(S^2) degrees of freedom
(Satterthwaite, Biometrics Bulletin 2, 1946), n being effective numbers of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from gateway.planning.neighbours import Neighbours
from gateway.statistics.arm import Arm, arms_of
from gateway.statistics.estimate import MIN_EFFECTIVE_N
from gateway.statistics.interval import LEVEL
from gateway.statistics.kernel import effective_n, normalised
from registry.likeness.feature import Feature

Vector = npt.NDArray[np.float64]

SHOWN = 8  # features told of each pair, those the least balanced first


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """Weighted mean (d,) and deviations (m, d) times the root of their share of the weight; effective n."""

    mean: Vector
    deviation: Vector
    n_eff: float

    @classmethod
    def of(cls, arm: Arm, neighbours: Neighbours) -> _Arm | None:
        """None where there are too few for a comparison."""
        weight = normalised(arm.kernel, neighbours.weight[arm.members])
        counts = weight > 0
        weight, members = weight[counts], arm.members[counts]
        n_eff = effective_n(weight, np.ones(len(weight)))
        if n_eff < MIN_EFFECTIVE_N:
            return None
        # From the common minimum: exactly 0 where nobody differs.
        points = neighbours.points[members] - neighbours.points.min(axis=0)
        # Equally near neighbours stand in the order of their networks' names: summed by what they are, they add up to
        # the same whosever they are.
        order = np.lexsort((*points.T, weight))
        weight, points = weight[order], points[order]
        share = (weight / weight.sum())[:, None]
        mean = (share * points).sum(axis=0)
        return cls(mean, np.sqrt(share) * (points - mean), n_eff)


def balance(
    neighbours: Neighbours, actions: Sequence[str], features: Sequence[Feature], bandwidth_floor: float
) -> list[dict[str, object]]:
    """One object per pair of arms with enough, in the order of `actions`, ready for JSON; [] without actions.

    {action, minus, beyond_chance: features whose smd is above its chance level, of: all features,
    level: share of features that stay below it where nothing differs,
    features: [{feature, label, smd, chance}]}, the least balanced first, at most SHOWN.
    """
    arms = arms_of(neighbours, actions, bandwidth_floor) if actions else {}
    known = {action: each for action in actions if (each := _Arm.of(arms[action], neighbours)) is not None}
    return [
        {"action": first, "minus": second, "level": LEVEL, **_compared(known[first], known[second], features)}
        for first, second in combinations(known, 2)
    ]


def _compared(a: _Arm, b: _Arm, features: Sequence[Feature]) -> dict[str, object]:
    found = []
    start = 0
    for feature in features:
        axes = slice(start, start + feature.dimension)
        start += feature.dimension
        pair = _smd(a, b, axes)
        if pair is not None:
            found.append((pair, feature))
    found.sort(key=lambda each: -each[0][0] / each[0][1])
    return {
        "beyond_chance": sum(1 for (smd, chance), _ in found if smd > chance),
        "of": len(features),
        "features": [
            {"feature": feature.name, "label": feature.label, "smd": smd, "chance": chance}
            for (smd, chance), feature in found[:SHOWN]
        ],
    }


def _smd(a: _Arm, b: _Arm, axes: slice) -> tuple[float, float] | None:
    """The standardised mean difference over the axes, and its chance level; None where nobody differs from anybody."""
    gap = a.mean[axes] - b.mean[axes]
    of_a, of_b = a.deviation[:, axes], b.deviation[:, axes]
    covariance = (of_a.T @ of_a + of_b.T @ of_b) / 2.0
    trace = float(np.trace(covariance))
    squares = float((covariance * covariance).sum())
    if trace == 0.0 or squares == 0.0:
        return None
    df = trace * trace / squares
    noise = 1.0 / a.n_eff + 1.0 / b.n_eff
    chance = math.sqrt(noise * float(special.chdtri(df, 1.0 - LEVEL)) / df)
    return math.sqrt(float(gap @ gap) / trace), chance
