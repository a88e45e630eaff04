"""The estimate of one arm, by kind of outcome: a mean, a proportion, a restricted mean duration.

Each has a value and `interval(level)`, which is None where the data have no spread to tell it from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.statistics.interval import Interval, t_quantile, wilson
from gateway.statistics.kaplan_meier import Curve

Vector = npt.NDArray[np.float64]

# Below either, an arm is "too few": its counts are shown and nothing is estimated.
MIN_EFFECTIVE_N = 10.0
MIN_EVENTS = 5

TOO_FEW = "too few"
NO_SPREAD = "every value that counts is the same: the data cannot tell an interval"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The m atoms of one arm whose outcome can be used.

    value: (m,) float64, means. variance: (m,) within each atom, 0 for one node. known, events_of: (m,) nodes whose
    outcome is known, and with the event (durations) or the value 1 (binaries). weight: (m,) in (0, 1], the greatest
    being 1. origin: (m,) positions in `names`, the networks in order of name. n_eff: effective number of nodes.
    members: (m,) their positions among the neighbours. entry: (m,) when each came under observation, 0 for most.
    """

    value: Vector
    variance: Vector
    known: npt.NDArray[np.int64]
    events_of: npt.NDArray[np.int64]
    weight: Vector
    origin: npt.NDArray[np.intp]
    names: tuple[str, ...]
    n_eff: float
    members: npt.NDArray[np.intp]
    entry: Vector

    @property
    def n(self) -> int:
        """Nodes whose outcome is used."""
        return int(self.known.sum())

    @property
    def events(self) -> int:
        """Nodes with the event (durations) or with the value 1 (binaries)."""
        return int(self.events_of.sum())

    def networks(self) -> dict[str, dict[str, float]]:
        """Per network that gave any: how many of the nodes, and their share of the weight."""
        if len(self.origin) == 0:
            return {}
        # Sorted by weight within a network, the sums do not depend on the order of the neighbours.
        order = np.lexsort((self.weight, self.origin))
        present, first = np.unique(self.origin[order], return_index=True)
        sums = np.add.reduceat(self.weight[order], first)
        counts = np.add.reduceat(self.known[order], first)
        shares = sums / sums.sum()
        return {
            self.names[position]: {"n": n, "weight": share}
            for position, n, share in zip(present.tolist(), counts.tolist(), shares.tolist(), strict=True)
        }


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean, its standard error and degrees of freedom, in the outcome's unit."""

    value: float
    se: float
    df: float
    method = "weighted mean, t interval"

    @classmethod
    def of(cls, sample: Sample) -> Mean:
        """se^2 = weighted variance, within atoms and between, / (n_eff - 1); df = n_eff - 1, and n_eff > 1."""
        # Deviations from one of the values: exactly 0 where all are equal, and no digits lost to a common offset.
        base = float(sample.value.min())
        total = math.fsum(sample.weight.tolist())
        shift = math.fsum((sample.weight * (sample.value - base)).tolist()) / total
        deviation = sample.value - base - shift
        variance = math.fsum((sample.weight * (deviation * deviation + sample.variance)).tolist()) / total
        df = sample.n_eff - 1.0
        return cls(base + shift, math.sqrt(variance / df), df)

    def interval(self, level: float) -> Interval | None:
        """Student's t interval."""
        half = t_quantile(self.df, level) * self.se
        return Interval(self.value - half, self.value + half) if self.se > 0 else None

    def predicted(self, level: float) -> Interval | None:
        """Of one more node such as these: with their spread, se sqrt(n_eff), beside the uncertainty of the mean."""
        half = t_quantile(self.df, level) * self.se * math.sqrt(self.df + 2.0)
        return Interval(self.value - half, self.value + half) if self.se > 0 else None


@dataclass(frozen=True, slots=True)
class Proportion:
    """A weighted proportion of n_eff effective observations."""

    value: float
    n_eff: float
    method = "weighted proportion, Wilson interval"

    @classmethod
    def of(cls, sample: Sample) -> Proportion:
        """Share of the weight whose value is 1."""
        ones = math.fsum((sample.weight * sample.value).tolist())
        return cls(ones / math.fsum(sample.weight.tolist()), sample.n_eff)

    def interval(self, level: float) -> Interval:
        """Wilson's interval on the effective n."""
        return wilson(self.value, self.n_eff, level)


@dataclass(frozen=True, slots=True)
class RestrictedMean:
    """The mean of min(duration, to) under a Kaplan-Meier curve; se and df as of a Mean, in the outcome's unit."""

    value: float
    se: float
    df: float
    to: float
    method = "Kaplan-Meier restricted mean, t interval with Greenwood's variance"

    @classmethod
    def of(cls, curve: Curve, n_eff: float, to: float) -> RestrictedMean:
        """Area under the curve up to `to`; n_eff > 1 is that of the curve's sample.

        Greenwood's variance times n_eff / (n_eff - 1): where nothing is censored this is the Mean of min(duration, to).
        """
        value, se = curve.restricted_mean(to)
        return cls(value, se * math.sqrt(n_eff / (n_eff - 1.0)), n_eff - 1.0, to)

    def interval(self, level: float) -> Interval | None:
        """Student's t interval, kept within [0, to]."""
        half = t_quantile(self.df, level) * self.se
        return Interval(max(0.0, self.value - half), min(self.to, self.value + half)) if self.se > 0 else None


Estimate = Mean | Proportion | RestrictedMean


def curve_of(sample: Sample) -> Curve:
    """The Kaplan-Meier curve of the sample, its weights scaled to add up to n_eff."""
    scale = sample.n_eff / math.fsum(sample.weight.tolist())
    return Curve.of(sample.value, sample.events_of > 0, sample.weight * scale, sample.entry)


def enough(sample: Sample, kind: str) -> bool:
    """Whether the arm has the least effective n and, of binaries and durations, the least number of events."""
    if len(sample.value) == 0 or sample.n_eff < MIN_EFFECTIVE_N:
        return False
    return kind in ("number", "ordinal") or sample.events >= MIN_EVENTS
