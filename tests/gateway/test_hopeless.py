"""What an answer cannot say, it says that it cannot: hopeless outcomes, with and without a whole beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.planning.neighbours import Neighbours
from gateway.statistics.estimate import NO_SPREAD, TOO_FEW
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import synthesise
from gateway.statistics.whole import Whole
from regional.momenttable import MomentTable, nodes_of
from tests.gateway.test_adjustment import QUERY, SCHEMA, People

ACTIONS = ("a", "b")
PEOPLE = People(400, 1)
GOOD = PEOPLE.nearest(40)


def whole_of(near: Neighbours) -> Whole | None:
    """What a table over just these neighbours says, as odd as they are."""
    table = MomentTable.of(
        SCHEMA, nodes_of(near.points, near.node, near.action, near.weight, near.outcomes), 1
    )  # fmt: skip
    return Whole.of({"all": table}, SCHEMA.adjusted, {}) if table.cells else None


def told(near: Neighbours, query: np.ndarray = QUERY) -> Any:
    """With the whole of good people, with their own, and with none; raises where anything is NaN or infinite."""
    found = []
    for whole in (PEOPLE.whole(), whole_of(near), None):
        document = synthesise(
            near, SCHEMA.outcomes, ACTIONS, "observational", 0.01, standpoint=Standpoint(query, whole)
        )
        found.append(json.loads(json.dumps(document, allow_nan=False)))
    return found[0]


def with_outcomes(change: Any) -> Neighbours:
    return replace(GOOD, outcomes=tuple({**row, **change} for row in GOOD.outcomes))


def test_all_outcomes_missing() -> None:
    for name, found in told(replace(GOOD, outcomes=({},) * len(GOOD))).items():
        assert found["verdict"] == TOO_FEW, name
        assert found["distinct"] is None or found["distinct"] == TOO_FEW
        for arm in found["actions"].values():
            assert (arm["n"], arm["unknown"], arm["estimate"]) == (0, 40, None)
            assert arm["adjusted"] is None


def test_one_arm_only() -> None:
    rows = [i for i, action in enumerate(GOOD.action) if action == "a"]
    found = told(_rows(GOOD, rows))["yield"]
    assert found["actions"]["b"]["n"] == 0
    assert found["actions"]["a"]["adjusted"] is not None
    assert found["differences"][0]["estimate"] is None
    assert found["verdict"] == TOO_FEW


def test_zero_variance() -> None:
    found = told(with_outcomes({"yield": 7.0, "dead": 1.0, "harm": 1.0, "time": (5.0, True)}))
    for name, value in (("yield", 7.0), ("harm", 1.0), ("time", 5.0)):
        for arm in found[name]["actions"].values():
            assert (arm["estimate"], arm["low"], arm["note"]) == (value, None, NO_SPREAD)
    assert found["dead"]["actions"]["a"]["high"] == 1.0
    assert found["yield"]["actions"]["a"]["predicted"] is None or found["yield"]["adjustment"]["note"] is None


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf, 1e-320, 1e300])
def test_weights_that_cannot_count(weight: float) -> None:
    found = told(replace(GOOD, weight=np.full(len(GOOD), weight)))["yield"]["actions"]["a"]
    assert found["n"] + found["unusable"] == 40
    assert (found["estimate"] is None) == (found["n"] == 0)


def test_all_at_distance_0() -> None:
    near = replace(
        GOOD, distance=np.zeros(len(GOOD)), points=np.tile(QUERY, (len(GOOD), 1)), radius={"a": 0.0, "b": 0.0}
    )
    found = told(near)["yield"]["actions"]["a"]
    assert found["n_eff"] == pytest.approx(40, rel=0.15)  # sample weights only
    assert found["adjusted"]["estimate"] == pytest.approx(found["estimate"])  # nobody needs to be moved


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, "long", (1.0,), (1.0, 2), [3.0, True], None])
def test_durations_of_0_or_less_or_none(value: Any) -> None:
    arm = told(with_outcomes({"time": (value, True)}))["time"]["actions"]["a"]
    assert arm["n"] == (40 if value == 0.0 else 0)
    assert arm["survival"] is None or value == 0.0
    told(with_outcomes({"time": value}))


def test_everything_censored() -> None:
    found = told(with_outcomes({"time": (5.0, False)}))["time"]
    assert found["verdict"] == TOO_FEW
    assert found["actions"]["a"]["events"] == 0


def test_an_unknown_action_is_left_out_and_a_question_far_away_is_answered() -> None:
    near = replace(GOOD, action=tuple("c" if i % 2 else a for i, a in enumerate(GOOD.action)))
    assert told(near)["yield"]["actions"]["a"]["n"] < 40
    for far in (1e15, -1e15, 1e-300):
        told(GOOD, np.full(3, far))


def test_k_beyond_all_that_exists() -> None:
    assert told(People(60, 3).nearest(10_000))["yield"]["actions"]["a"]["n"] <= 60


VALUES = st.one_of(
    st.none(), st.floats(), st.booleans(), st.text(max_size=2), st.integers(),
    st.tuples(st.floats(), st.booleans()), st.floats(-5, 5), st.sampled_from([0.0, 1.0, 2.0, 1e100, -1e100, 1e-300]),
)  # fmt: skip


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_whatever_is_sent_no_figure_is_nan(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 60))
    pick = data.draw(st.lists(VALUES, min_size=4, max_size=12))
    random = data.draw(st.randoms(use_true_random=False))
    rows = tuple({name: random.choice(pick) for name in SCHEMA.outcomes} for _ in range(n))
    weight = np.array([random.choice([1.0, 0.5, 0.0, 1e-200, 1e200, float("nan")]) for _ in range(n)])
    scale = random.choice([0.0, 1e-12, 1.0, 1e12])
    points = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 1, (n + 1, 3)) * scale
    query, points = points[-1], points[:-1]
    action = tuple(random.choice("ab") for _ in range(n))
    near = Neighbours(
        np.sort(np.abs(points).sum(axis=1)), points, action, ("x",) * n, tuple(bytes([i]) for i in range(n)), weight,
        rows, np.ones(n, np.int64), 50, "action", {},
    )  # fmt: skip
    told(near, query)


def _rows(near: Neighbours, rows: list[int]) -> Neighbours:
    return Neighbours(
        near.distance[rows], near.points[rows], tuple(near.action[i] for i in rows), ("north",) * len(rows),
        tuple(near.node[i] for i in rows), near.weight[rows], tuple(near.outcomes[i] for i in rows), near.size[rows],
        near.k, near.per, near.radius,
    )  # fmt: skip
