"""How often the intervals of a synthesis hold, where what happens does not depend on where one stands.

Eight-dimensional neighbourhoods of two arms to which the same happens; numbers from a skewed gamma distribution, yes or
no with p = 0.3, exponential durations of which about a third are censored. So every truth is known exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from benchmarks.report import Figure, Report
from gateway.planning.neighbours import Neighbours
from gateway.statistics.difference import DIFFERS
from gateway.statistics.synthesis import synthesise
from registry.likeness.schema import Outcome

ISSUE = 6
ARMS: Final = ("a", "b")
SHAPE, SHARE, LONG, HORIZON = 4.0, 0.3, 100.0, 80.0  # of the gamma, of yes, the mean duration, days
OUTCOMES: Final = {
    "number": Outcome("number", "number", "number", None, None, None, None),
    "binary": Outcome("binary", "binary", "binary", None, None, None, None),
    "duration": Outcome("duration", "duration", "duration", "days", None, HORIZON * 86_400.0, None),
}


def intervals(report: Report, repetitions: int = 2000) -> None:
    """For 50 and for 15 neighbours per arm: coverage of each interval, and how often a pair is called different."""
    for k in (50, 15):
        random = np.random.default_rng(k)
        held: dict[str, list[bool]] = defaultdict(list)
        for _ in range(repetitions):
            document: Any = synthesise(_neighbours(random, k), OUTCOMES, ARMS, "randomised", 0.1)
            for name, inside in _checked(document):
                held[name].append(inside)
        for name, each in held.items():
            report.add(Figure(ISSUE, "2", f"simulated, {k} per arm: {name}, n={len(each)}", float(np.mean(each)), ""))


def _checked(document: Any) -> Iterator[tuple[str, bool]]:
    """Whether each interval that is told holds the truth; whether each pair differs."""
    for arm in document["number"]["actions"].values():
        yield "mean of numbers is in the interval", _in(arm, SHAPE)
    for arm in document["binary"]["actions"].values():
        if arm["low"] is not None:
            yield "proportion is in the interval", _in(arm, SHARE)
    for arm in document["duration"]["actions"].values():
        if arm["low"] is not None:
            to = arm["restricted_to"]
            yield "restricted mean is in the interval", _in(arm, LONG * (1.0 - math.exp(-to / LONG)))
        if arm["survival"] is not None:
            middle, at = arm["survival"]["median"], arm["survival"]["at"][0]
            if middle["low"] is not None:
                yield "median duration is in the interval", _in(middle, LONG * math.log(2.0))
            if at["low"] is not None:
                yield "survival at the horizon is in the interval", _in(at, math.exp(-HORIZON / LONG))
    for kind, outcome in document.items():
        yield f"{kind}: a pair is called different, where none is", outcome["differences"][0]["verdict"] == DIFFERS


def _in(told: Any, truth: float) -> bool:
    return bool(told["low"] <= truth and (told["high"] is None or truth <= told["high"]))


def _neighbours(random: np.random.Generator, k: int) -> Neighbours:
    n = len(ARMS) * k
    points = random.normal(size=(20 * n, 8))
    distance = np.sqrt((points**2).sum(axis=1))
    rows = np.argsort(distance)[:n]
    happened, censored = random.exponential(LONG, n), random.exponential(2.0 * LONG, n)
    numbers, binaries = random.gamma(SHAPE, 1.0, n).tolist(), (random.random(n) < SHARE).astype(float).tolist()
    durations = zip(np.minimum(happened, censored).tolist(), (happened <= censored).tolist(), strict=True)
    action = tuple(ARMS[i] for i in random.permutation(np.arange(n) % len(ARMS)).tolist())
    return Neighbours(
        distance[rows], points[rows], action, ("all",) * n, tuple(i.to_bytes(4, "big") for i in range(n)), np.ones(n),
        tuple(dict(zip(OUTCOMES, row, strict=True)) for row in zip(numbers, binaries, durations, strict=True)),
        np.ones(n, np.int64), k, "action", {},
    )  # fmt: skip
