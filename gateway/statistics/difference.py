"""The difference between two actions, plain and adjusted: unpaired, with an interval, without a ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from gateway.statistics.estimate import NO_SPREAD, TOO_FEW, Estimate, Mean, Proportion, RestrictedMean
from gateway.statistics.interval import LEVEL, Interval, normal_quantile, t_quantile

NOT_DISTINGUISHABLE = "not distinguishable"
DIFFERS = "differs"
DIFFERS_OBSERVATIONAL = "differs (observational: not a proof of effect)"

MEANS = "difference of means, Welch"
PROPORTIONS = "difference of proportions, Newcombe"
RESTRICTED_MEANS = "difference of restricted means, Welch"

NOT_AFTER_ADJUSTMENT = "the plain interval leaves out 0, the adjusted one does not, or lies on the other side"
POWER = 0.8  # with which a difference of the size `detectable` would have been seen


@dataclass(frozen=True, slots=True)
class Difference:
    """action's estimate less minus's, where both are known; interval holds at `level`.

    level is 1 - 0.05 / pairs (Bonferroni), so that all the intervals of one outcome hold together in 95%. detectable:
    the smallest difference that would have been told from 0 with a probability of 80%.
    """

    action: str
    minus: str
    value: float | None
    interval: Interval | None
    level: float
    method: str
    detectable: float | None
    adjusted: Difference | None = None

    @property
    def side(self) -> int:
        """1 or -1 where the interval lies wholly above or below 0, else 0."""
        if self.interval is None or self.interval.low <= 0.0 <= self.interval.high:
            return 0
        return 1 if self.interval.low > 0.0 else -1

    @property
    def overruled(self) -> bool:
        """Whether the plain interval leaves out 0, and the adjusted one, where there is one, does not say the same."""
        adjusted = self.adjusted
        return self.side != 0 and adjusted is not None and adjusted.interval is not None and adjusted.side != self.side

    def verdict(self, study: str) -> str:
        """One of the three texts: too few, not distinguishable, differs."""
        if self.interval is None:
            return TOO_FEW
        if self.side == 0 or self.overruled:
            return NOT_DISTINGUISHABLE
        return DIFFERS if study == "randomised" else DIFFERS_OBSERVATIONAL

    def document(self, study: str) -> dict[str, object]:
        """The JSON object; nulls where unknown, `note` saying why."""
        low, high = self.interval or (None, None)
        note = NO_SPREAD if self.value is not None and self.interval is None else None
        return {
            "action": self.action,
            "minus": self.minus,
            "estimate": self.value,
            "low": low,
            "high": high,
            "level": self.level,
            "adjusted": None if self.adjusted is None else self.adjusted.figures(),
            "detectable": self.detectable,
            "method": self.method,
            "note": NOT_AFTER_ADJUSTMENT if self.overruled else note,
            "verdict": self.verdict(study),
        }

    def figures(self) -> dict[str, object] | None:
        """Estimate, low and high; None where there is no estimate."""
        low, high = self.interval or (None, None)
        return None if self.value is None else {"estimate": self.value, "low": low, "high": high}


def differences(
    arms: Mapping[str, Estimate | None], adjusted: Mapping[str, Estimate | None] | None = None
) -> list[Difference]:
    """Every pair of actions, in the order of `arms`; None is an arm with too few, or that could not be adjusted."""
    known = sum(1 for estimate in arms.values() if estimate is not None)
    level = 1.0 - (1.0 - LEVEL) / max(1, known * (known - 1) // 2)
    moved = adjusted or {}
    return [
        replace(
            difference(first, second, arms[first], arms[second], level),
            adjusted=difference(first, second, moved.get(first), moved.get(second), level),
        )
        for first, second in combinations(arms, 2)
    ]


def difference(first: str, second: str, a: Estimate | None, b: Estimate | None, level: float) -> Difference:
    """The one between two estimates of one kind; with no value where one of them is None."""
    value: float | None = None
    interval: Interval | None = None
    method = TOO_FEW
    if isinstance(a, Proportion) and isinstance(b, Proportion):
        value, interval, method = a.value - b.value, newcombe(a, b, level), PROPORTIONS
    elif isinstance(a, Mean) and isinstance(b, Mean):
        value, interval, method = a.value - b.value, welch(a, b, level), MEANS
    elif isinstance(a, RestrictedMean) and isinstance(b, RestrictedMean):
        value, interval, method = a.value - b.value, welch(a, b, level), RESTRICTED_MEANS
    seen = None if a is None or b is None or interval is None else detectable(a, b, level)
    return Difference(first, second, value, interval, level, method, seen)


def detectable(a: Estimate, b: Estimate, level: float) -> float:
    """se times the sum of the quantiles that `level` and the power ask for (Cohen, Power Analysis, 1988)."""
    se = math.hypot(standard_error(a), standard_error(b))
    if isinstance(a, Proportion) or isinstance(b, Proportion):
        return min(1.0, se * (normal_quantile(level) + normal_quantile(2.0 * POWER - 1.0)))
    df = _df(a, b)
    return se * (t_quantile(df, level) + t_quantile(df, 2.0 * POWER - 1.0))


def standard_error(of: Estimate) -> float:
    """Of a proportion with one more event and one more without (Agresti and Caffo, American Statistician 54, 2000)."""
    if isinstance(of, Proportion):
        n = of.n_eff + 2.0
        p = (of.value * of.n_eff + 1.0) / n
        return math.sqrt(p * (1.0 - p) / n)
    return of.se


def welch(a: Mean | RestrictedMean, b: Mean | RestrictedMean, level: float) -> Interval | None:
    """Unequal variances, Satterthwaite's degrees of freedom (Welch, Biometrika 34, 1947).

    Restricted means must end at the same time. None where one of the two has no spread: its standard error is not
    known to be 0.
    """
    if a.se == 0.0 or b.se == 0.0:
        return None
    half = t_quantile(_df(a, b), level) * math.hypot(a.se, b.se)
    between = a.value - b.value
    return Interval(between - half, between + half)


def _df(a: Mean | RestrictedMean, b: Mean | RestrictedMean) -> float:
    se = math.hypot(a.se, b.se)
    share_a, share_b = (a.se / se) ** 2, (b.se / se) ** 2
    return 1.0 / (share_a * share_a / a.df + share_b * share_b / b.df)


def newcombe(a: Proportion, b: Proportion, level: float) -> Interval:
    """Hybrid of the two Wilson intervals (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    of_a, of_b = a.interval(level), b.interval(level)
    between = a.value - b.value
    low = between - math.hypot(a.value - of_a.low, of_b.high - b.value)
    high = between + math.hypot(of_a.high - a.value, b.value - of_b.low)
    return Interval(max(-1.0, low), min(1.0, high))
