"""The bias-reduced estimate: what the neighbours' outcomes would say if they stood where the question stands.

A neighbour at x_i is moved to the question's x along the slopes b of a line through the outcome
(gateway/statistics/ridge.py) that was drawn without the neighbour's own fold (cross-fitting; Chernozhukov et al.,
Econometrics Journal 21, 2018):

    y_i + (x - x_i) b      and of these the kernel-weighted mean: the line at x, plus the kernel mean of the residuals

(local regression with pooled slopes). What the line gets wrong is left to the kernel, what the kernel's width biases is
taken up by the line. The interval counts the spread of the moved outcomes, and the slopes' own uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import Neighbours
from gateway.statistics.estimate import Estimate, Mean, Proportion, Sample
from gateway.statistics.interval import LEVEL, normal_quantile
from gateway.statistics.whole import Whole
from regional.cohort import MAX_MAGNITUDE
from regional.moments import folds_of
from registry.likeness.schema import Outcome

Vector = npt.NDArray[np.float64]

_LEAST_END = 1e-9  # of an interval that says nothing


@dataclass(frozen=True, slots=True, eq=False)
class Adjustment:
    """How neighbours are moved. away: (n, p), each neighbour's columns less the question's. fold: (n,)."""

    whole: Whole
    away: Vector
    fold: npt.NDArray[np.intp]

    @classmethod
    def of(cls, whole: Whole, neighbours: Neighbours, query: Vector) -> Adjustment:
        """query: (d,) the question's fingerprint."""
        axes = list(whole.axes)
        return cls(whole, neighbours.points[:, axes] - query[axes], folds_of(neighbours.node))

    def lines(self, action: str, outcome: Outcome) -> Vector | None:
        """(FOLDS, p) slopes; None where one of the lines could not be drawn."""
        lines = self.whole.lines(action, outcome.name)
        return None if any(line is None for line in lines) else np.array([line.slopes for line in lines if line])

    def move(self, sample: Sample, action: str, outcome: Outcome) -> Sample | None:
        """The sample of one arm as if its nodes stood where the question stands.

        None where there is no line, or it leads beyond all numbers.
        """
        slopes = self.lines(action, outcome)
        if slopes is None:
            return None
        away, fold = self.away[sample.members], self.fold[sample.members]
        with np.errstate(over="ignore", invalid="ignore"):
            value = sample.value - np.einsum("ij,ij->i", away, slopes[fold])
        # A line of a liar, or a question beyond all reason, may lead anywhere.
        return replace(sample, value=value) if (np.abs(value) <= MAX_MAGNITUDE).all() else None

    def estimate(self, moved: Sample, action: str, outcome: Outcome) -> Estimate:
        """Of one arm that was moved."""
        away, fold = self.away[moved.members], self.fold[moved.members]
        weighted = (moved.weight / moved.weight.sum())[:, None] * away
        error = 0.0
        for number, line in enumerate(self.whole.lines(action, outcome.name)):
            if line is not None:
                gap = weighted[fold == number].sum(axis=0)
                # The folds' lines share most of their nodes: their errors add up as if they were one.
                error += math.sqrt(max(0.0, float(gap @ line.variance @ gap)))
        mean = Mean.of(moved)
        se = math.hypot(mean.se, error)
        if outcome.kind == "binary":
            return as_proportion(mean.value, se, moved.n_eff)
        low, high = outcome.range or (-math.inf, math.inf)
        return Mean(min(max(mean.value, low), high), se, mean.df)


def as_proportion(value: float, se: float, n_eff: float) -> Proportion:
    """The proportion with this standard error: of as many effective observations as have it.

    Near 0 and 1 hardly any number has it; there it is the number whose Wilson interval, of 0 or of 1, ends where the
    line's own does. Where that end, too, is beyond 0 or 1, or se is 0, it is the sample's own.
    """
    share = min(max(value, 0.0), 1.0)
    if se == 0.0:
        return Proportion(share, n_eff)
    z = normal_quantile(LEVEL)
    inside = min(max(1.0 - value, value) - z * se, 1.0)  # the end away from the nearer of 0 and 1, as seen from there
    if inside >= 1.0:
        return Proportion(share, n_eff)
    inside = max(inside, _LEAST_END)
    return Proportion(share, max(share * (1.0 - share) / (se * se), z * z * inside / (1.0 - inside)))
