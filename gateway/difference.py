"""The plain difference between two actions: unpaired, unadjusted, with an interval, without a ranking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from gateway.estimate import NO_SPREAD, TOO_FEW, Estimate, Mean, Proportion, RestrictedMean
from gateway.interval import LEVEL, Interval, t_quantile

NOT_DISTINGUISHABLE = "not distinguishable"
DIFFERS = "differs"
DIFFERS_OBSERVATIONAL = "differs (observational: not a proof of effect)"

MEANS = "difference of means, Welch"
PROPORTIONS = "difference of proportions, Newcombe"
RESTRICTED_MEANS = "difference of restricted means, Welch"


@dataclass(frozen=True, slots=True)
class Difference:
    """action's estimate less minus's, where both are known; interval holds at `level`.

    level is 1 - 0.05 / pairs (Bonferroni), so that all the intervals of one outcome hold together in 95%.
    """

    action: str
    minus: str
    value: float | None
    interval: Interval | None
    level: float
    method: str

    def verdict(self, study: str) -> str:
        """One of the three texts: too few, not distinguishable, differs."""
        if self.interval is None:
            return TOO_FEW
        if self.interval.low <= 0.0 <= self.interval.high:
            return NOT_DISTINGUISHABLE
        return DIFFERS if study == "randomised" else DIFFERS_OBSERVATIONAL

    def document(self, study: str) -> dict[str, object]:
        """The JSON object; nulls where unknown, `note` saying why."""
        low, high = self.interval or (None, None)
        return {
            "action": self.action,
            "minus": self.minus,
            "estimate": self.value,
            "low": low,
            "high": high,
            "level": self.level,
            "adjusted": None,
            "method": self.method,
            "note": NO_SPREAD if self.value is not None and self.interval is None else None,
            "verdict": self.verdict(study),
        }


def differences(arms: dict[str, Estimate | None]) -> list[Difference]:
    """Every pair of actions, in the order of `arms`; None is an arm with too few."""
    known = sum(1 for estimate in arms.values() if estimate is not None)
    level = 1.0 - (1.0 - LEVEL) / max(1, known * (known - 1) // 2)
    return [_difference(first, second, arms[first], arms[second], level) for first, second in combinations(arms, 2)]


def _difference(first: str, second: str, a: Estimate | None, b: Estimate | None, level: float) -> Difference:
    if isinstance(a, Mean) and isinstance(b, Mean):
        return Difference(first, second, a.value - b.value, welch(a, b, level), level, MEANS)
    if isinstance(a, Proportion) and isinstance(b, Proportion):
        return Difference(first, second, a.value - b.value, newcombe(a, b, level), level, PROPORTIONS)
    if isinstance(a, RestrictedMean) and isinstance(b, RestrictedMean):
        return Difference(first, second, a.value - b.value, welch(a, b, level), level, RESTRICTED_MEANS)
    return Difference(first, second, None, None, level, TOO_FEW)


def welch(a: Mean | RestrictedMean, b: Mean | RestrictedMean, level: float) -> Interval | None:
    """Unequal variances, Satterthwaite's degrees of freedom (Welch, Biometrika 34, 1947).

    Restricted means must end at the same time. None where one of the two has no spread: its standard error is not
    known to be 0.
    """
    if a.se == 0.0 or b.se == 0.0:
        return None
    se = math.hypot(a.se, b.se)
    share_a, share_b = (a.se / se) ** 2, (b.se / se) ** 2
    df = 1.0 / (share_a * share_a / a.df + share_b * share_b / b.df)
    half = t_quantile(df, level) * se
    difference = a.value - b.value
    return Interval(difference - half, difference + half)


def newcombe(a: Proportion, b: Proportion, level: float) -> Interval:
    """Hybrid of the two Wilson intervals (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    of_a, of_b = a.interval(level), b.interval(level)
    difference = a.value - b.value
    low = difference - math.hypot(a.value - of_a.low, of_b.high - b.value)
    high = difference + math.hypot(of_a.high - a.value, b.value - of_b.low)
    return Interval(max(-1.0, low), min(1.0, high))
