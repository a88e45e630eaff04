"""Survival from durations of which some are censored (Kaplan and Meier, JASA 53, 1958), with weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.statistics.interval import Interval, log_log

Vector = npt.NDArray[np.float64]

# A product of factors that is 1/2 on paper may come out a few bits above it.
HALF = 0.5 + 1e-12

# Who is at risk beside those who wait to enter is a difference of sums: below this share of a weight, nobody.
_NOBODY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """S(t) as steps: 1 before times[0], survival[j] from times[j] on.

    times: (m,) distinct times of events or censoring, increasing. survival: (m,). increments: (m,) Greenwood's
    d / (n (n - d)) at each time, 0 where nothing happened, infinite where the last at risk had the event.
    """

    times: Vector
    survival: Vector
    increments: Vector

    @classmethod
    def of(cls, duration: Vector, event: npt.NDArray[np.bool_], weight: Vector, entry: Vector | None = None) -> Curve:
        """From durations (n,) >= 0, event (n,) True or censored False, weight (n,) > 0; n >= 1.

        Weights count as numbers of observations: for an honest variance they must add up to the effective n.
        entry: (n,) >= 0 and below the duration where it is not 0; before it a node is not at risk, as nobody would
        have seen its event (left truncation). At equal times events come before censoring, and entries after both.
        The result does not depend on the order of the input.
        """
        entry = np.zeros(len(duration)) if entry is None else entry
        order = np.lexsort((weight, event, entry, duration))
        duration, event, weight, entry = duration[order], event[order], weight[order], entry[order]
        times, first = np.unique(duration, return_index=True)
        leaving = np.add.reduceat(weight, first)
        died = np.add.reduceat(np.where(event, weight, 0.0), first)
        censored = np.add.reduceat(np.where(event, 0.0, weight), first)
        # Sums from the end, so that who is left is never the small difference of two large sums.
        later = np.append(np.cumsum(leaving[::-1])[::-1][1:], 0.0)
        surviving = later + censored
        if entry.any():
            # Who has not entered before a time is not at risk at it; who leaves at it has entered before.
            entered = np.sort(entry)
            waiting = np.append(np.cumsum(weight[np.argsort(entry, kind="stable")][::-1])[::-1], 0.0)
            surviving = np.maximum(surviving - waiting[np.searchsorted(entered, times, side="left")], 0.0)
            surviving[surviving < _NOBODY * weight.max()] = 0.0
        at_risk = surviving + died
        with np.errstate(divide="ignore"):
            increments = np.where(died > 0, died / at_risk / surviving, 0.0)
        return cls(times, np.cumprod(surviving / at_risk), increments)

    @property
    def interrupted(self) -> bool:
        """Whether all at risk had the event while others were still to enter: what came after is not known."""
        return bool((self.survival[:-1] == 0.0).any())

    @property
    def followed_to(self) -> float:
        """The time up to which S(t) is known: infinite once it is 0, else the longest duration seen."""
        return math.inf if self.survival[-1] == 0.0 else float(self.times[-1])

    def at(self, time: float) -> float:
        """S(time)."""
        steps = int(np.searchsorted(self.times, time, side="right"))
        return float(self.survival[steps - 1]) if steps else 1.0

    def interval_at(self, time: float, level: float) -> Interval | None:
        """Log-log interval of S(time) with Greenwood's variance; None where S(time) is 0 or 1."""
        steps = int(np.searchsorted(self.times, time, side="right"))
        survival = self.at(time)
        if survival in (0.0, 1.0):
            return None
        low, high = log_log(np.array([survival]), self.increments[:steps].sum(keepdims=True), level)
        return Interval(float(low[0]), float(high[0]))

    def steps(self, most: int, level: float) -> list[tuple[float, float, float | None, float | None]]:
        """(time, S, low, high) from each of at most `most` times on at which S changes, spread evenly over all of them.

        The interval is as in `interval_at`; None where S is 0 or 1.
        """
        changes = np.flatnonzero(np.diff(self.survival, prepend=1.0) < 0)
        if len(changes) > most:
            changes = changes[np.linspace(0, len(changes) - 1, most).round().astype(np.intp)]
        low, high = log_log(self.survival[changes], np.cumsum(self.increments)[changes], level)
        rows = zip(self.times[changes], self.survival[changes], low, high, strict=True)
        return [
            (float(time), float(s), *((None, None) if math.isnan(below) else (float(below), float(above))))
            for time, s, below, above in rows
        ]

    def median(self, level: float) -> tuple[float | None, float | None, float | None]:
        """(median, low, high): the first times at which S, its lower and its upper limit are <= 1/2.

        The interval is that of Brookmeyer and Crowley (Biometrics 38, 1982) on the log-log scale. None where
        a curve does not come down to 1/2.
        """
        low, high = log_log(self.survival, np.cumsum(self.increments), level)
        return self._first_half(self.survival), self._first_half(low), self._first_half(high)

    def _first_half(self, curve: Vector) -> float | None:
        below = curve <= HALF
        return float(self.times[np.argmax(below)]) if below.any() else None

    def restricted_mean(self, to: float) -> tuple[float, float]:
        """(mean, standard error) of min(duration, to): the area under S up to `to`, 0 <= to <= followed_to.

        Var = sum over event times of (area under S from there to `to`)^2 d / (n (n - d)) (Klein and
        Moeschberger, Survival Analysis, 2nd ed., 4.5).
        """
        inside = self.times < to
        steps = np.concatenate(([0.0], self.times[inside], [to]))
        areas = np.concatenate(([1.0], self.survival[inside])) * np.diff(steps)
        remaining = np.cumsum(areas[::-1])[::-1]
        # The area after the last of all has had the event is 0, and so is its term, infinite increment or not.
        after = remaining[1:]
        increments = self.increments[inside]
        counted = after > 0
        variance = float(np.sum(after[counted] ** 2 * increments[counted]))
        return min(float(remaining[0]), to), math.sqrt(variance)
