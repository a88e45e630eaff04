"""The ratio of two actions' estimates, with an interval on the logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from gateway.statistics.estimate import TOO_FEW, Estimate, Proportion
from gateway.statistics.interval import Interval, normal_quantile, t_quantile

RISKS = "risk ratio, log scale"
MEANS = "ratio of means, log scale (delta method)"
NEAR_ZERO = "an estimate is too near to 0, or below it, for a ratio"

# An estimate nearer to 0 than this many standard errors has no useful logarithm.
AWAY = 3.0

# Half the width of an interval on the log scale, at most: beyond a factor of e^10 a ratio says nothing.
WIDEST = 10.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """value: action's estimate over that of `over`; None where unknown."""

    value: float | None
    interval: Interval | None
    method: str

    @classmethod
    def of(cls, a: Estimate | None, b: Estimate | None, level: float) -> Ratio:
        """Of two estimates of one kind, both known and well above 0."""
        if a is None or b is None:
            return cls(None, None, TOO_FEW)
        proportions = isinstance(a, Proportion)
        if any(each.value <= (0.0 if proportions else AWAY * _se(each)) for each in (a, b)):
            return cls(None, None, NEAR_ZERO)
        of_a, of_b = (_se(a) / a.value) ** 2, (_se(b) / b.value) ** 2
        se = math.sqrt(of_a + of_b)
        value, method = a.value / b.value, RISKS if proportions else MEANS
        if of_a == 0.0 or of_b == 0.0:
            return cls(value, None, method)
        quantile = normal_quantile(level)
        if not isinstance(a, Proportion) and not isinstance(b, Proportion):
            share = of_a / (of_a + of_b)
            quantile = t_quantile(1.0 / (share * share / a.df + (1.0 - share) ** 2 / b.df), level)
        if quantile * se > WIDEST:
            return cls(None, None, NEAR_ZERO)
        return cls(value, Interval(value * math.exp(-quantile * se), value * math.exp(quantile * se)), method)

    def figures(self) -> dict[str, object] | None:
        """Estimate, low and high; None where there is no estimate."""
        low, high = self.interval or (None, None)
        return None if self.value is None else {"estimate": self.value, "low": low, "high": high}


def ratios(
    arms: Mapping[str, Estimate | None], adjusted: Mapping[str, Estimate | None], level: float
) -> list[dict[str, object]]:
    """Every pair of actions, in the order of `arms`, ready for JSON; None is an arm without an estimate."""
    told: list[dict[str, object]] = []
    for first, second in combinations(arms, 2):
        plain = Ratio.of(arms[first], arms[second], level)
        moved = Ratio.of(adjusted.get(first), adjusted.get(second), level)
        low, high = plain.interval or (None, None)
        told.append(
            {
                "action": first,
                "over": second,
                "estimate": plain.value,
                "low": low,
                "high": high,
                "level": level,
                "adjusted": moved.figures(),
                "method": plain.method,
            }
        )
    return told


def _se(of: Estimate) -> float:
    """Of a proportion p (1 - p) / n (Katz et al., Biometrics 34, 1978)."""
    return math.sqrt(of.value * (1.0 - of.value) / of.n_eff) if isinstance(of, Proportion) else of.se
