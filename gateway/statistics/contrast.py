"""The neighbourhood beside the whole: is what happened here any different from what happened everywhere?

The whole is all nodes of the domain that the networks' tables of moments count. Its adjusted difference between two
actions is each line's value at the mean of both (the parametric g-formula; Robins, Mathematical Modelling 7, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateway.statistics.adjustment import as_proportion
from gateway.statistics.difference import Difference, difference
from gateway.statistics.estimate import MIN_EFFECTIVE_N, MIN_EVENTS, TOO_FEW, Estimate, Mean, Proportion
from gateway.statistics.interval import LEVEL
from gateway.statistics.whole import Whole
from regional.moments import Moments
from registry.likeness.schema import Outcome

NOT_FROM_WHOLE = "this neighbourhood is not distinguishable from the whole"
FROM_WHOLE = "this neighbourhood differs from the whole"


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """here, everywhere: estimates by action, None for too few. level: of the contrasts, 1 - 0.05 / arms."""

    whole: Whole | None
    outcome: Outcome
    here: Mapping[str, Estimate | None]
    everywhere: Mapping[str, Estimate | None]
    level: float

    @classmethod
    def of(cls, whole: Whole | None, outcome: Outcome, here: Mapping[str, Estimate | None]) -> Contrast:
        """here: the plain estimates of the neighbourhood's arms."""
        everywhere = {action: None if whole is None else _total(whole, action, outcome) for action in here}
        arms = sum(1 for action in here if here[action] is not None and everywhere[action] is not None)
        return cls(whole, outcome, here, everywhere, 1.0 - (1.0 - LEVEL) / max(1, arms))

    def arm(self, action: str) -> dict[str, object] | None:
        """{n, estimate, low, high, verdict} of one action over the whole; None where no table counts it."""
        total = None if self.whole is None else self.whole.total(action, self.outcome.name)
        if total is None:
            return None
        estimate = self.everywhere[action]
        low, high = (estimate.interval(LEVEL) if estimate is not None else None) or (None, None)
        return {
            "n": total.n,
            "estimate": None if estimate is None else estimate.value,
            "low": low,
            "high": high,
            "verdict": self._verdict(action),
        }

    def pair(self, pair: Difference) -> dict[str, object] | None:
        """{estimate, low, high, adjusted} of a difference over the whole; None where it is not known."""
        a, b = self.everywhere[pair.action], self.everywhere[pair.minus]
        plain = difference(pair.action, pair.minus, a, b, pair.level).figures()
        if plain is None or self.whole is None:
            return None
        moved = _moved(self.whole, self.outcome, (pair.action, pair.minus))
        adjusted = None if moved is None else difference(pair.action, pair.minus, *moved, pair.level)
        return {**plain, "adjusted": None if adjusted is None else adjusted.figures()}

    def verdict(self) -> str | None:
        """Whether any arm here differs from the whole; None where none can be compared."""
        verdicts = {self._verdict(action) for action in self.here}
        return next((verdict for verdict in (FROM_WHOLE, NOT_FROM_WHOLE) if verdict in verdicts), None)

    def _verdict(self, action: str) -> str:
        # The neighbours are among the whole: taken as apart, they are called different too seldom, never too often.
        against = difference(action, "", self.here[action], self.everywhere[action], self.level)
        if against.interval is None:
            return TOO_FEW
        return NOT_FROM_WHOLE if against.side == 0 else FROM_WHOLE


def _total(whole: Whole, action: str, outcome: Outcome) -> Estimate | None:
    total = whole.total(action, outcome.name)
    if total is None or total.n_eff < MIN_EFFECTIVE_N:
        return None
    if outcome.kind == "binary":
        return Proportion(total.mean, total.n_eff) if total.events >= MIN_EVENTS else None
    df = total.n_eff - 1.0
    return Mean(total.mean, math.sqrt(total.variance / df), df)


def _moved(whole: Whole, outcome: Outcome, actions: tuple[str, str]) -> tuple[Estimate, Estimate] | None:
    """Both actions' lines at the mean of the nodes of both; None where a line is missing, or no columns are."""
    totals = [whole.total(action, outcome.name) for action in actions]
    lines = [whole.line(action, outcome.name) for action in actions]
    known = [(total, line) for total, line in zip(totals, lines, strict=True) if total is not None and line is not None]
    if len(known) < 2 or not whole.axes:
        return None
    middle = Moments.merged([total for total, _ in known]).means
    found: list[Estimate] = []
    for total, line in known:
        gap = middle - total.means
        value = total.mean + float(gap @ line.slopes)
        se = math.sqrt(line.rest / total.n_eff + max(0.0, float(gap @ line.variance @ gap)))
        df = total.n_eff - 1.0 - np.count_nonzero(line.slopes)
        proportion = outcome.kind == "binary"
        found.append(as_proportion(value, se, total.n_eff) if proportion else Mean(value, se, df))
    return found[0], found[1]
