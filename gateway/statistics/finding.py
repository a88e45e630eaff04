"""A finding: what one arm says of one outcome, with its counts, whether or not there is enough to estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.statistics.adjustment import Adjustment
from gateway.statistics.arm import Arm
from gateway.statistics.distribution import distribution
from gateway.statistics.estimate import (
    MIN_EVENTS,
    NO_SPREAD,
    TOO_FEW,
    Estimate,
    Mean,
    Proportion,
    RestrictedMean,
    Sample,
    curve_of,
    enough,
)
from gateway.statistics.interval import LEVEL, Interval
from gateway.statistics.kaplan_meier import Curve
from gateway.statistics.observed import Observed
from gateway.statistics.prediction import predicted
from registry.likeness.schema import Outcome

FEW_BY_THEN = f"fewer than {MIN_EVENTS} events by the time to which every arm was followed"
HALF_NOT_REACHED = "null: survival, or that limit of it, is not known to come down to 1/2"
BEYOND = "beyond the follow-up of this arm"
STEPS = 60  # of a curve, at most: what a picture of it needs
INTERRUPTED = "all at risk had the event while others were still to come under observation"
MOVED = "moved to the question along a cross-fitted ridge"
NO_SCALE = "survival of exactly 0 or 1 has no log-log interval"


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """estimate is None for too few. curve: durations with enough only; told_at: times of its survival.

    unknown: nodes without an outcome yet; unusable: nodes whose value or weight cannot be used. adjusted: the
    bias-reduced estimate beside it. predicted: of one more value, numbers only.
    """

    kind: str
    sample: Sample
    unknown: int
    unusable: int
    estimate: Estimate | None
    curve: Curve | None
    told_at: tuple[float, ...]
    levels: tuple[str, ...] = ()
    adjusted: Estimate | None = None
    predicted: Interval | None = None

    def document(self) -> dict[str, object]:
        """The JSON object of the arm; nulls where unknown, `note` saying why."""
        interval = self.estimate.interval(LEVEL) if self.estimate is not None else None
        low, high = interval or (None, None)
        document: dict[str, object] = {
            "n": self.sample.n,
            "n_eff": self.sample.n_eff,
            "events": None if self.kind in ("number", "ordinal") else self.sample.events,
            "unknown": self.unknown,
            "unusable": self.unusable,
            "estimate": self.estimate.value if self.estimate is not None else None,
            "low": low,
            "high": high,
            "adjusted": figures_of(self.adjusted, LEVEL),
            "method": self.estimate.method if self.estimate is not None else TOO_FEW,
            "note": self._note(interval),
            "networks": self.sample.networks(),
        }
        if self.kind == "duration":
            document["restricted_to"] = self.estimate.to if isinstance(self.estimate, RestrictedMean) else None
            document["survival"] = _survival(self.curve, self.told_at) if self.curve is not None else None
        elif self.kind == "ordinal":
            told = self.estimate is not None
            document["distribution"] = distribution(self.sample, self.levels, LEVEL) if told else None
        elif self.kind == "number":
            document["predicted"] = None if self.predicted is None else self.predicted._asdict()
        return document

    def _note(self, interval: Interval | None) -> str | None:
        if self.estimate is not None:
            return NO_SPREAD if interval is None else None
        if self.curve is None:
            return None
        return INTERRUPTED if self.curve.interrupted else FEW_BY_THEN


def figures_of(estimate: Estimate | None, level: float) -> dict[str, object] | None:
    """{estimate, low, high, method} of an estimate beside another; None where there is none."""
    if estimate is None:
        return None
    low, high = estimate.interval(level) or (None, None)
    return {"estimate": estimate.value, "low": low, "high": high, "method": f"{MOVED}; {estimate.method}"}


def findings_of(
    arms: Mapping[str, Arm], observed: Observed, outcome: Outcome, adjustment: Adjustment | None = None
) -> dict[str, Finding]:
    """One per arm. Restricted means of all arms end at the same time, so that they can be compared."""
    kind = outcome.kind
    samples = {action: arm.sample(observed) for action, arm in arms.items()}
    ready = {action: sample for action, sample in samples.items() if enough(sample, kind)}
    curves: dict[str, Curve] = {}
    estimates: dict[str, Estimate] = {}
    moved: dict[str, Sample] = {}
    adjusted: dict[str, Estimate] = {}
    told_at: tuple[float, ...] = ()
    if kind == "duration":
        curves = {action: curve_of(sample) for action, sample in ready.items()}
        horizon = outcome.horizon_s / outcome.unit_s if outcome.horizon_s is not None else None
        known = [curve for curve in curves.values() if not curve.interrupted]
        to = _restriction(known, horizon)
        told_at = (to / 2.0, to) if horizon is None else (horizon,)
        for action, curve in curves.items():
            if not curve.interrupted and ready[action].events_of[ready[action].value <= to].sum() >= MIN_EVENTS:
                estimates[action] = RestrictedMean.of(curve, ready[action].n_eff, to)
    else:
        method = Proportion if kind == "binary" else Mean
        estimates = {action: method.of(sample) for action, sample in ready.items()}
        if adjustment is not None:
            at = {action: adjustment.move(sample, action, outcome) for action, sample in ready.items()}
            moved = {action: sample for action, sample in at.items() if sample is not None}
            adjusted = {action: adjustment.estimate(sample, action, outcome) for action, sample in moved.items()}
    findings = {}
    for action, sample in samples.items():
        unknown = int(observed.unknown[arms[action].members].sum())
        unusable = arms[action].size - unknown - sample.n
        findings[action] = Finding(
            kind,
            sample,
            unknown,
            unusable,
            estimates.get(action),
            curves.get(action),
            told_at,
            outcome.levels,
            adjusted.get(action),
            _predicted(moved.get(action, sample), outcome) if action in estimates else None,
        )
    return findings


def _predicted(sample: Sample, outcome: Outcome) -> Interval | None:
    around = predicted(sample, LEVEL) if outcome.kind == "number" else None
    if around is None or outcome.range is None:
        return around
    low, high = outcome.range
    return Interval(min(max(around.low, low), high), max(min(around.high, high), low))


def _restriction(curves: Iterable[Curve], horizon: float | None) -> float:
    """How long every arm was followed, and no longer than the horizon.

    Where every curve comes down to 0 nothing ends the follow-up: then the longest duration of all.
    """
    limits = [(curve.followed_to, float(curve.times[-1])) for curve in curves]
    followed = min((known for known, _ in limits), default=0.0)
    longest = max((last for _, last in limits), default=0.0)
    return min(followed, longest, math.inf if horizon is None else horizon)


def _survival(curve: Curve, times: Iterable[float]) -> dict[str, object]:
    """Median, survival at each time, each with low, high and a note where one is null; and the curve's steps."""
    median, low, high = curve.median(LEVEL)
    return {
        "median": {
            "estimate": median,
            "low": low,
            "high": high,
            "note": None if None not in (median, low, high) else HALF_NOT_REACHED,
        },
        "at": [_survival_at(curve, time) for time in times],
        "steps": curve.steps(STEPS, LEVEL),
    }


def _survival_at(curve: Curve, time: float) -> dict[str, object]:
    survival: float | None = None
    interval: Interval | None = None
    note: str | None = BEYOND
    if time <= curve.followed_to:
        survival = curve.at(time)
        interval = curve.interval_at(time, LEVEL)
        note = None if interval is not None else NO_SCALE
    low, high = interval or (None, None)
    return {"time": time, "estimate": survival, "low": low, "high": high, "note": note}
