"""One outcome as it was observed among the neighbours: a column of values, and which of them can be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.neighbours import OutcomeValue
from registry.schema import Outcome

# Far beyond any real outcome, and small enough that its square is still a float.
MAX_MAGNITUDE = 1e100


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Columns of n neighbours: value float64 and event (durations: True, or False where censored; binaries:
    value is 1; numbers: False), both 0 where not usable; usable, and unknown (nobody has said yet), all (n,).

    What is neither usable nor unknown was sent, but is no value of this outcome: wrong type, not finite, not 0
    or 1, a negative duration, out of the schema's range.
    """

    value: npt.NDArray[np.float64]
    event: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, outcome: Outcome, rows: Sequence[Mapping[str, OutcomeValue]]) -> Observed:
        """Read `outcome` out of each row."""
        raws = [row.get(outcome.name) for row in rows]
        unknown = np.array([raw is None for raw in raws], np.bool_)
        event = np.zeros(len(rows), np.bool_)
        if outcome.kind == "duration":
            pairs = [_pair(raw) for raw in raws]
            value = np.array([number for number, _ in pairs], np.float64)
            event = np.array([happened for _, happened in pairs], np.bool_)
        else:
            value = np.array([_number(raw) for raw in raws], np.float64)
        low, high = _bounds(outcome)
        usable = (value >= low) & (value <= high)
        if outcome.kind == "binary":
            event = value == 1.0
            usable &= event | (value == 0.0)
        return cls(np.where(usable, value, 0.0), event & usable, usable, unknown)


def _bounds(outcome: Outcome) -> tuple[float, float]:
    low, high = (-MAX_MAGNITUDE, MAX_MAGNITUDE) if outcome.kind == "number" else (0.0, MAX_MAGNITUDE)
    if outcome.range is not None:
        low, high = max(low, outcome.range[0]), min(high, outcome.range[1])
    return low, high


def _number(raw: object) -> float:
    """NaN where it is no number, or one beyond float64."""
    if isinstance(raw, float):
        return raw
    if isinstance(raw, int) and -MAX_MAGNITUDE <= raw <= MAX_MAGNITUDE:
        return float(raw)
    return math.nan


def _pair(raw: object) -> tuple[float, bool]:
    """(duration, event); the duration is NaN where it is no such pair."""
    if isinstance(raw, tuple | list) and len(raw) == 2 and raw[1] in (0, 1):
        return _number(raw[0]), bool(raw[1])
    return math.nan, False
