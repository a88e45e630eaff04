"""Atoms of several nodes say what their nodes would have said one by one, from the same distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.planning.neighbours import Neighbours, OutcomeValue
from gateway.statistics.synthesis import synthesise
from regional.cohort import Cohort, Figures
from tests.gateway.cohorts import DEAD, YIELD, neighbours

OUTCOMES = {each.name: each for each in (DEAD, YIELD)}


def arm(of: Neighbours, outcome: str) -> Any:
    document: Any = synthesise(of, OUTCOMES, ("a",), "observational", 0.1)
    return document[outcome]["actions"]["a"]


def group(rows: list[dict[str, float]], weights: list[float]) -> dict[str, OutcomeValue]:
    """The figures of one atom."""
    return {
        name: Cohort.of((row[name], weight) for row, weight in zip(rows, weights, strict=True) if name in row).figures()
        for name in OUTCOMES
    }


def atoms(groups: list[dict[str, OutcomeValue]], size: list[int], distance: list[float]) -> Neighbours:
    of = neighbours(groups, distance=distance, radius={"a": 3.0})
    of.size[:] = size
    return of


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_an_atom_counts_as_its_nodes(seed: int, each: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    count = 120 // each
    rows = [
        [{"dead": float(rng.random() < 0.4), "yield": float(rng.normal(1e4, 15))} for _ in range(each)]
        for _ in range(count)
    ]
    for row in rows[0]:
        del row["dead"]  # of these nobody knows yet
    weights = [(rng.uniform(0.5, 2, each) if weighted else np.ones(each)).tolist() for _ in rows]
    distance = rng.uniform(0.5, 3, count)
    together = atoms([group(*pair) for pair in zip(rows, weights, strict=True)], [each] * count, distance.tolist())
    apart = neighbours(
        [row for part in rows for row in part],
        distance=np.repeat(distance, each).tolist(),
        weight=[weight for part in weights for weight in part],
        radius={"a": 3.0},
    )
    for outcome in OUTCOMES:
        grouped, single = arm(together, outcome), arm(apart, outcome)
        for key in ("n", "events", "unknown", "unusable"):
            assert grouped[key] == single[key]
        for key in ("n_eff", "estimate", "low", "high"):
            assert grouped[key] == pytest.approx(single[key], rel=1e-9)


@pytest.mark.parametrize(
    "figures",
    [
        Figures(12, 3, 12.0, 12.0, 0.25, 0.1),  # more nodes than the atom has
        Figures(11, 12, 11.0, 11.0, 0.25, 0.1),
        Figures(11, 3, -11.0, 11.0, 0.25, 0.1),
        Figures(11, 3, 11.0, 1.0, 0.25, 0.1),  # 121 effective nodes
        Figures(11, 3, 11.0, 122.0, 0.25, 0.1),  # less than one
        Figures(11, 3, 11.0, 11.0, 1.25, 0.1),
        Figures(11, 3, 11.0, 11.0, float("nan"), 0.1),
        Figures(11, 3, 11.0, 11.0, 0.25, -0.1),
        Figures(0, 0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_figures_that_no_cohort_has_are_not_used(figures: Figures) -> None:
    good: dict[str, OutcomeValue] = {"dead": Figures(11, 5, 11.0, 11.0, 5 / 11, 30 / 121)}
    found = arm(atoms([good, {"dead": figures}, good], [11, 11, 11], [1.0, 1.0, 1.0]), "dead")
    assert (found["n"], found["events"], found["unusable"]) == (22, 10, 11)
    assert found["estimate"] == pytest.approx(5 / 11)
