"""Neighbours and outcomes for the tests of the synthesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from gateway.planning.neighbours import Neighbours, OutcomeValue
from registry.likeness.schema import Outcome


def outcome(
    name: str,
    kind: Literal["binary", "number", "duration"],
    horizon_s: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Outcome:
    unit = {"binary": None, "number": "kg", "duration": "days"}[kind]
    return Outcome(name, kind, name.title(), unit, None, horizon_s, limits)


DEAD, YIELD, TIME = outcome("dead", "binary"), outcome("yield", "number"), outcome("time", "duration")
OUTCOMES = {each.name: each for each in (DEAD, YIELD, TIME)}


def neighbours(
    rows: Sequence[Mapping[str, OutcomeValue]],
    action: Sequence[str] | None = None,
    distance: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
    network: Sequence[str] | None = None,
    *,
    per: Literal["action", "all"] = "action",
    radius: Mapping[str, float] | None = None,
) -> Neighbours:
    n = len(rows)
    return Neighbours(
        np.array(distance if distance is not None else [0.0] * n, np.float64),
        np.zeros((n, 2)),
        tuple(action or ["a"] * n),
        tuple(network or ["north"] * n),
        tuple(i.to_bytes(4, "big") for i in range(n)),
        np.array(weight if weight is not None else [1.0] * n, np.float64),
        tuple(rows),
        np.ones(n, np.int64),
        k=50,
        per=per,
        radius=radius or {},
    )


def cohort(seed: int, n: int = 200, actions: Sequence[str] = ("a", "b", "c", "d")) -> Neighbours:
    """n neighbours with all three outcomes, from five networks, with sample weights."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, OutcomeValue]] = [
        {
            "dead": float(rng.random() < 0.4),
            "yield": float(rng.normal(100, 15)),
            "time": (float(rng.integers(0, 300)), bool(rng.random() < 0.6)),
        }
        for _ in range(n)
    ]
    return neighbours(
        rows,
        [actions[i] for i in rng.integers(0, len(actions), n)],
        sorted(rng.uniform(0.5, 2.0, n)),
        rng.uniform(0.5, 2.0, n).tolist(),
        [f"net-{i}" for i in rng.integers(0, 5, n)],
        radius=dict.fromkeys(actions, 2.0),
    )
