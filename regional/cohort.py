"""Cohorts: what is known of one outcome among some nodes, as sums that merge.

The sums are exact, so cohorts merged in any order and any grouping are the same cohort, to the last bit. A float64
is a whole multiple of 2^-1074; so sums of values, of products of two and of three are whole numbers of 2^-1074,
2^-2148 and 2^-3222, and Python's integers hold them without rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from registry.likeness.schema import Outcome

_BITS = 1074  # the finest place of a float64

# Far beyond any real outcome or sample weight, and small enough that their products are still floats.
MAX_MAGNITUDE = 1e100


class Figures(NamedTuple):
    """A cohort as others see it: counts, and correctly rounded float64.

    n: nodes whose outcome is known. events: those with the value 1. weight, weight2: sums of the sample weights and of
    their squares. mean, variance: weighted by them; the variance is that of the cohort, divided by `weight`.
    """

    n: int
    events: int
    weight: float
    weight2: float
    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class Cohort:
    """Exact sums over n nodes: of w, w^2, w y and w y^2, in units of 2^-1074 to the power of their factors."""

    n: int = 0
    events: int = 0
    weight: int = 0
    weight2: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, values: Iterable[tuple[float, float]]) -> Cohort:
        """From (value, sample weight) of each node; both finite, the weight > 0 (the caller has checked)."""
        n = events = weights = weights2 = total = squares = 0
        for value, weight in values:
            y, w = _exact(value), _exact(weight)
            n, events = n + 1, events + (value == 1.0)
            weights, weights2 = weights + w, weights2 + w * w
            total, squares = total + w * y, squares + w * y * y
        return cls(n, events, weights, weights2, total, squares)

    def __add__(self, other: Cohort) -> Cohort:
        """The cohort of both; no node may be in both."""
        return Cohort(
            self.n + other.n,
            self.events + other.events,
            self.weight + other.weight,
            self.weight2 + other.weight2,
            self.total + other.total,
            self.squares + other.squares,
        )

    def figures(self) -> Figures | None:
        """The cohort in float64, each figure rounded once; None where nothing is known."""
        if not self.n:
            return None
        mean = Fraction(self.total, self.weight << _BITS)
        variance = Fraction(self.squares, self.weight << 2 * _BITS) - mean * mean
        return Figures(
            self.n,
            self.events,
            float(Fraction(self.weight, 1 << _BITS)),
            float(Fraction(self.weight2, 1 << 2 * _BITS)),
            float(mean),
            float(variance),
        )


def _exact(value: float) -> int:
    """`value` in units of 2^-1074."""
    above, below = value.as_integer_ratio()
    return above << _BITS - (below.bit_length() - 1)


def credible(figures: Figures, outcome: Outcome, size: int) -> bool:
    """Whether a cohort of at most `size` nodes can have these figures."""
    low, high = bounds(outcome)
    return (
        outcome.kind != "duration"
        and 1 <= figures.n <= size
        and 0 <= figures.events <= figures.n
        and 0 < figures.weight <= MAX_MAGNITUDE
        and 0 < figures.weight2 <= figures.weight**2 * (1 + 1e-9) <= figures.weight2 * figures.n * (1 + 2e-9)
        and low <= figures.mean <= high
        and 0 <= figures.variance <= MAX_MAGNITUDE**2
        and (outcome.kind != "binary" or 0 <= figures.mean <= 1)
    )


def bounds(outcome: Outcome) -> tuple[float, float]:
    """Between which the values of an outcome lie: numbers, places of levels, 0 and 1, durations."""
    low, high = (-MAX_MAGNITUDE, MAX_MAGNITUDE) if outcome.kind == "number" else (0.0, MAX_MAGNITUDE)
    if outcome.range is not None:
        low, high = max(low, outcome.range[0]), min(high, outcome.range[1])
    return low, high
