"""Corroboration: whether the difference between two actions is seen by one network after another.

The pooled difference may be one network's doing: by what kind of nodes it has, by how it records, or by a lie. Here
each network speaks for itself: the difference between its own K nearest of either action, so that what is peculiar to a
network is in both arms and cancels. Over these stand the random-effects mean and, for who trusts nobody, the median and
the robust mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gateway.planning.neighbours import Neighbours
from gateway.statistics.arm import Arm, arms_of
from gateway.statistics.difference import MEANS, PROPORTIONS, RESTRICTED_MEANS, standard_error
from gateway.statistics.estimate import MIN_EFFECTIVE_N, Estimate, Mean, Proportion, RestrictedMean, Sample
from gateway.statistics.finding import findings_of
from gateway.statistics.interval import LEVEL
from gateway.statistics.observed import Observed
from gateway.statistics.random_effects import RandomEffects, median
from gateway.statistics.robust import Robust
from regional.cohort import MAX_MAGNITUDE
from registry.likeness.schema import Outcome

MIN_NETWORKS = 3  # fewer that saw both actions corroborate nothing
LEAST_VARIANCE = MAX_MAGNITUDE**-2.0  # what is spread less than this has no spread: its inverse is beyond all numbers
DOMINANT = 0.5  # share of the weight above which one network's word is named

UNCORROBORATED = "uncorroborated"
DISAGREE = "networks disagree"
DOMINATED = "one network has more than half of the weight"

_METHOD = {Mean: MEANS, Proportion: PROPORTIONS, RestrictedMean: RESTRICTED_MEANS}


@dataclass(frozen=True, slots=True)
class _View:
    """One network's difference between two actions; variance > 0."""

    network: str
    value: float
    variance: float
    method: str


def corroborate(
    opinions: Neighbours, outcome: Outcome, actions: Sequence[str], bandwidth_floor: float
) -> list[dict[str, object]]:
    """One object per pair of actions that some network has both of, ready for JSON.

    opinions: each network's own K nearest of each action, all together; `action` and `radius` by `label`.
    {action, minus, level, networks: [{network, estimate, se, weight}], random_effects: null | {estimate, low, high,
    tau, i2, q_p}, prediction: null | {low, high}, median: {estimate, low, high}, robust: null | {estimate, aside:
    names}, flags, method}.
    """
    names = sorted(set(opinions.network))
    arms = arms_of(opinions, [label(network, action) for network in names for action in actions], bandwidth_floor)
    estimates = _estimates(arms, Observed.of(outcome, opinions), outcome)
    pairs = []
    for first, second in combinations(actions, 2):
        views = [
            view
            for network in names
            if (view := _view(network, estimates.get(label(network, first)), estimates.get(label(network, second))))
        ]
        if views:
            pairs.append((first, second, views))
    level = 1.0 - (1.0 - LEVEL) / max(1, len(pairs))
    return [{"action": first, "minus": second, **_told(views, level)} for first, second, views in pairs]


def label(network: str, action: str) -> str:
    """The name of one network's arm among those of all."""
    return f"{network}/{action}"


def together(opinions: Mapping[str, Neighbours]) -> Neighbours:
    """The neighbours of each network as columns of one, each network's actions under names of their own."""
    parts = list(opinions.items())
    first = parts[0][1]
    return Neighbours(
        distance=np.concatenate([each.distance for _, each in parts]),
        points=np.concatenate([each.points for _, each in parts]),
        action=tuple(label(network, action) for network, each in parts for action in each.action),
        network=tuple(network for network, each in parts for _ in each.action),
        node=tuple(node for _, each in parts for node in each.node),
        weight=np.concatenate([each.weight for _, each in parts]),
        outcomes=tuple(row for _, each in parts for row in each.outcomes),
        size=np.concatenate([each.size for _, each in parts]),
        k=first.k,
        per="action",
        radius={label(network, action): r for network, each in parts for action, r in each.radius.items()},
    )


def _estimates(arms: Mapping[str, Arm], observed: Observed, outcome: Outcome) -> dict[str, Estimate]:
    """By label, of the arms with enough. A proportion needs no events here: its variance is known without."""
    if outcome.kind == "binary":
        samples: dict[str, Sample] = {name: arm.sample(observed) for name, arm in arms.items()}
        return {name: Proportion.of(each) for name, each in samples.items() if each.n_eff >= MIN_EFFECTIVE_N}
    findings = findings_of(arms, observed, outcome)
    return {name: each.estimate for name, each in findings.items() if each.estimate is not None}


def _view(network: str, a: Estimate | None, b: Estimate | None) -> _View | None:
    """None where the network has too few of an action, or they have no spread to tell a variance from."""
    if a is None or b is None:
        return None
    variance = standard_error(a) ** 2 + standard_error(b) ** 2
    return _View(network, a.value - b.value, variance, _METHOD[type(a)]) if variance > LEAST_VARIANCE else None


def _told(views: Sequence[_View], level: float) -> dict[str, object]:
    values = np.array([view.value for view in views])
    variances = np.array([view.variance for view in views])
    pooled = RandomEffects.of(values, variances) if len(views) >= 2 else None
    middle, around = median(values, level)
    robust = Robust.of(values, variances)
    aside = [] if robust is None else [view.network for view, far in zip(views, robust.aside, strict=True) if far]
    flags = []
    if len(views) < MIN_NETWORKS:
        flags.append(UNCORROBORATED)
    if pooled is not None and (pooled.q_p < 1.0 - LEVEL or robust is None or aside):
        flags.append(DISAGREE)
    if pooled is None or pooled.weight.max() > DOMINANT:
        flags.append(DOMINATED)
    weights = pooled.weight.tolist() if pooled is not None else [1.0]
    return {
        "level": level,
        "networks": [
            {"network": view.network, "estimate": view.value, "se": view.variance**0.5, "weight": weight}
            for view, weight in zip(views, weights, strict=True)
        ],
        "random_effects": _random_effects(pooled, level),
        "prediction": _interval(pooled.prediction(level) if pooled is not None else None),
        "median": {"estimate": middle, "low": around.low if around else None, "high": around.high if around else None},
        "robust": None if robust is None else {"estimate": robust.value, "aside": aside},
        "flags": flags,
        "method": f"{views[0].method}, within each network; REML, Hartung-Knapp",
    }


def _random_effects(pooled: RandomEffects | None, level: float) -> dict[str, object] | None:
    if pooled is None:
        return None
    low, high = pooled.interval(level)
    return {
        "estimate": pooled.value,
        "low": low,
        "high": high,
        "tau": pooled.tau2**0.5,
        "i2": pooled.i2,
        "q_p": pooled.q_p,
    }


def _interval(found: tuple[float, float] | None) -> dict[str, float] | None:
    return None if found is None else {"low": found[0], "high": found[1]}
