"""Survival from the tables of parents: the same as lifelines' on the grid of their intervals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time

from gateway.statistics.estimate import TOO_FEW
from gateway.statistics.parentage import Parentage
from gateway.statistics.synthesis import synthesise
from regional.releasing.lifetable import LifeTables, Parent, read_parents
from tests.gateway.cohorts import neighbours
from tests.regional.test_lifetable import OUTCOME, SCHEMA, drawn, made

ACTIONS = ("plough", "no-till")
ENDS = (7.0, 30.0, 90.0)


def parents(values: list[list[Any]], actions: list[str] | None = None) -> list[Parent]:
    return read_parents(LifeTables(SCHEMA).table(made(values, actions)) or b"", SCHEMA)


def told(of: dict[str, list[Parent]], k: int = 50, per: Any = "action", query: float = 0.0) -> Any:
    point = np.zeros(SCHEMA.dimension)
    point[0] = query
    near = neighbours([], per=per)
    document = synthesise(
        near, {"stood": OUTCOME}, ACTIONS, "observational", 0.1, parentage=Parentage(of, point, 0.5, k, per)
    )
    return json.loads(json.dumps(document, allow_nan=False))["stood"]


def test_the_curve_is_lifelines_on_the_same_grid() -> None:
    values = drawn(4, size=15)  # one parent
    found = told({"north": parents(values)})["actions"]["plough"]
    flat = [value for each in values for value in each]
    duration = np.array([next((end for end in ENDS if t <= end), 90.0) for t, _ in flat])
    event = np.array([e and t <= 90.0 for t, e in flat])
    theirs = KaplanMeierFitter().fit(duration, event)
    assert found["n"] == 60
    assert found["n_eff"] == pytest.approx(60)
    steps = {time: s for time, s, _, _ in found["survival"]["steps"]}
    for end in ENDS:
        assert steps[end] == pytest.approx(float(theirs.survival_function_at_times(end).iloc[0]), rel=1e-9)
        low, high = next((low, high) for time, _, low, high in found["survival"]["steps"] if time == end)
        assert (low, high) == pytest.approx(tuple(theirs.confidence_interval_.loc[end]), rel=1e-9)
    expected = restricted_mean_survival_time(theirs, t=found["restricted_to"])
    assert found["estimate"] == pytest.approx(expected, rel=1e-9)


def test_the_nearest_parents_that_have_k_persons_speak_and_nearer_ones_more() -> None:
    of = parents(drawn(40))
    for k, n in ((50, 60), (60, 60), (61, 120), (10_000, 480)):
        arm = told({"north": of}, k)["actions"]["plough"]
        assert arm["n"] == n
    far = told({"north": of}, 61, query=200.0)["actions"]["plough"]
    near = told({"north": of}, 61, query=0.0)["actions"]["plough"]
    assert far["estimate"] != near["estimate"]
    assert near["n_eff"] < 120  # the second parent counts for less


def test_it_does_not_matter_who_keeps_which_parent() -> None:
    of = parents(drawn(40), ["plough", "no-till"] * 20)
    one, two = told({"a": of}, 90), told({"b": of[::2], "a": of[1::2]}, 90)
    for action, arm in one["actions"].items():
        for key in ("n", "n_eff", "events", "estimate", "low", "high", "survival"):
            assert two["actions"][action][key] == arm[key]
    assert two["differences"] == one["differences"]


def test_over_all_actions_and_of_nobody() -> None:
    of = parents(drawn(40), ["plough", "no-till"] * 20)
    found = told({"a": of}, 90, per="all")
    assert found["overall"]["n"] == 120
    assert sum(arm["n"] for arm in found["actions"].values()) == 120
    empty = told({})
    assert empty["verdict"] == TOO_FEW
    assert empty["actions"]["plough"]["n"] == 0


def test_those_of_whom_it_is_not_known_are_counted() -> None:
    values = [[*each[:11], None] for each in drawn(5)]
    arm = told({"a": parents(values)})["actions"]["plough"]
    assert (arm["n"], arm["unknown"]) == (55, 5)
