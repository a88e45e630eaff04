"""Where a question stands, and the whole of the domain around its neighbourhood, as far as that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import Neighbours
from gateway.statistics.adjustment import Adjustment
from gateway.statistics.whole import Whole
from regional.moments import FOLDS
from registry.likeness.schema import Outcome

Vector = npt.NDArray[np.float64]

NO_FEATURES = "the schema names no features to adjust for"
NO_TABLES = "no network's table of moments is at hand"
FEW_IN_TABLES = "the networks' tables have too few with an action to draw a line through"
NOT_FOR_DURATIONS = "durations are not adjusted"


@dataclass(frozen=True, slots=True, eq=False)
class Standpoint:
    """query: (d,) the question's fingerprint. whole: None where no table is at hand, and `reason` why."""

    query: Vector | None = None
    whole: Whole | None = None
    reason: str = NO_TABLES

    def adjustment(self, neighbours: Neighbours) -> Adjustment | None:
        """How these neighbours are moved to the question; None where nothing is known to move them by."""
        if self.whole is None or self.query is None or not self.whole.axes:
            return None
        return Adjustment.of(self.whole, neighbours, self.query)

    def document(self, outcome: Outcome, left: int) -> dict[str, object]:
        """What the adjusted estimates of an outcome rest on, ready for JSON; `note`: why there are none.

        left: how many estimates stand without one.
        """
        whole = self.whole
        everyone = None if whole is None else whole.everyone(outcome.name)
        missing = {} if whole is None else whole.missing
        return {
            "features": [] if whole is None else list(whole.columns),
            "n": 0 if everyone is None else everyone.n,
            "networks": 0 if whole is None else whole.networks,
            "folds": FOLDS,
            "refused": 0 if whole is None else whole.refused,
            "missing": [{"network": name, "reason": text} for name, text in sorted(missing.items())],
            "note": self._note(outcome) or (FEW_IN_TABLES if left else None),
        }

    def _note(self, outcome: Outcome) -> str | None:
        if outcome.kind == "duration":
            return NOT_FOR_DURATIONS
        if self.whole is None:
            return self.reason
        return None if self.whole.axes else NO_FEATURES
