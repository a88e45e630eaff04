"""The synthesis document: what it says, what it admits that it cannot say, and that it is never NaN."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsRegressor

from gateway.planning.neighbours import Neighbours
from gateway.statistics.difference import DIFFERS_OBSERVATIONAL, NOT_DISTINGUISHABLE
from gateway.statistics.estimate import NO_SPREAD, TOO_FEW
from gateway.statistics.finding import BEYOND, FEW_BY_THEN
from gateway.statistics.kernel import kernel_weights
from gateway.statistics.synthesis import cautions, synthesise
from registry.errors import InputError
from tests.gateway.cohorts import OUTCOMES, cohort, neighbours, outcome

ACTIONS = ("a", "b", "c", "d")


def synthesis(of: Neighbours, actions: tuple[str, ...] = ACTIONS, study: str = "observational") -> dict[str, Any]:
    """As a reader of the JSON sees it; raises where it holds NaN or infinity."""
    document = synthesise(of, OUTCOMES, actions, study, 0.1)
    return json.loads(json.dumps(document, allow_nan=False))  # type: ignore[no-any-return]


def test_every_arm_pair_and_network_is_told() -> None:
    document = synthesis(cohort(1))
    assert list(document) == ["dead", "yield", "time"]
    for each in document.values():
        assert list(each["actions"]) == list(ACTIONS)
        assert [(pair["action"], pair["minus"]) for pair in each["differences"]] == [
            ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
        ]  # fmt: skip
        assert each["heterogeneity"] is None
        assert each["overall"] is None
        for arm in each["actions"].values():
            assert arm["low"] < arm["estimate"] < arm["high"]
            assert 10 <= arm["n_eff"] <= arm["n"]
            assert sum(network["n"] for network in arm["networks"].values()) == arm["n"]
            assert math.fsum(network["weight"] for network in arm["networks"].values()) == pytest.approx(1.0)
            assert list(arm["networks"]) == sorted(arm["networks"])
    assert sum(arm["n"] for arm in document["dead"]["actions"].values()) == 200


def test_estimate_equals_scikit_learn_over_the_same_neighbours() -> None:
    rng = np.random.default_rng(5)
    points, values = rng.normal(size=(400, 4)), rng.normal(30, 4, 400)
    k, query = 60, rng.normal(size=4)

    def weigh(distances: np.ndarray) -> np.ndarray:
        return np.array([kernel_weights(row, max(0.1, row[-1]), 0.1) for row in distances])

    model = KNeighborsRegressor(k, weights=weigh, algorithm="brute").fit(points, values)
    distance = np.sqrt(((points - query) ** 2).sum(axis=1))
    nearest = np.argsort(distance)[:k]
    rows = [{"yield": float(value)} for value in values[nearest]]
    of = neighbours(rows, distance=distance[nearest].tolist(), radius={"a": float(distance[nearest[-1]])})
    estimate = synthesis(of, ("a",))["yield"]["actions"]["a"]["estimate"]
    assert estimate == pytest.approx(model.predict([query])[0], rel=1e-9)


def test_order_of_neighbours_does_not_matter_to_the_bit() -> None:
    of = cohort(3)
    order = np.random.default_rng(0).permutation(len(of))
    shuffled = Neighbours(
        of.distance[order],
        of.points[order],
        tuple(of.action[i] for i in order),
        tuple(of.network[i] for i in order),
        tuple(of.node[i] for i in order),
        of.weight[order],
        tuple(of.outcomes[i] for i in order),
        of.size[order],
        of.k,
        of.per,
        of.radius,
    )
    assert synthesis(shuffled) == synthesis(of)


def test_a_difference_is_called_observational_unless_drawn_by_lot() -> None:
    rows = [{"yield": value} for value in [*np.linspace(10, 12, 20), *np.linspace(50, 52, 20)]]
    of = neighbours(rows, ["a"] * 20 + ["b"] * 20)
    result = synthesis(of, ("a", "b"))["yield"]
    assert result["verdict"] == DIFFERS_OBSERVATIONAL
    pair = result["differences"][0]
    assert pair["estimate"] == pytest.approx(-40)
    assert pair["low"] < -40 < pair["high"] < 0
    assert pair["level"] == pytest.approx(0.95)
    assert synthesis(of, ("a", "b"), "randomised")["yield"]["verdict"] == "differs"
    assert [caution["code"] for caution in cautions(of, ("a", "b"), "observational")] == ["observational"]
    assert cautions(of, ("a", "b"), "randomised") == []


def test_equal_arms_are_not_distinguishable() -> None:
    rows = [{"yield": value} for value in [*np.linspace(10, 12, 20), *np.linspace(10, 12, 20)]]
    result = synthesis(neighbours(rows, ["a"] * 20 + ["b"] * 20), ("a", "b"))["yield"]
    assert result["verdict"] == NOT_DISTINGUISHABLE
    assert result["differences"][0]["estimate"] == 0.0


def test_unknown_and_unusable_outcomes_are_counted_and_left_out() -> None:
    values: list[Any] = [None, math.nan, math.inf, -5.0, 1e200, 10**400, "7", True, [1.0], (1.0, True)]
    rows: list[dict[str, Any]] = [{"yield": value} for value in [*np.linspace(1, 9, 30), *values]]
    rows.append({})
    bounded = {"yield": outcome("yield", "number", limits=(0.0, 100.0))}
    arm = synthesise(neighbours(rows), bounded, ("a",), "observational", 0.0)["yield"]["actions"]["a"]  # type: ignore[index]
    assert (arm["n"], arm["unknown"], arm["unusable"]) == (31, 2, 8)
    assert 1.0 < arm["estimate"] < 9.0


def test_a_binary_is_0_or_1_and_a_duration_a_pair_from_0() -> None:
    wrong = [{"dead": 0.5, "time": (-1.0, True)}, {"dead": (1.0, True), "time": 3.0}, {"dead": 2, "time": (1.0, 2)}]
    document = synthesis(neighbours([{"dead": 1.0, "time": (2.0, True)}, *wrong]), ("a",))  # type: ignore[list-item]
    for name in ("dead", "time"):
        arm = document[name]["actions"]["a"]
        assert (arm["n"], arm["events"], arm["unusable"]) == (1, 1, 3)


def test_all_outcomes_missing() -> None:
    for each in synthesis(neighbours([{}] * 30), ("a", "b")).values():
        arm = each["actions"]["a"]
        assert (arm["n"], arm["n_eff"], arm["unknown"], arm["networks"]) == (0, 0.0, 30, {})
        assert (arm["estimate"], arm["low"], arm["high"], arm["method"]) == (None, None, None, TOO_FEW)
        assert each["verdict"] == TOO_FEW
        assert each["differences"][0]["verdict"] == TOO_FEW


def test_nobody_found() -> None:
    document = synthesis(neighbours([], action=[]))
    assert all(arm["n"] == 0 for each in document.values() for arm in each["actions"].values())
    assert synthesis(neighbours([], action=[]), ())["dead"]["actions"][""]["method"] == TOO_FEW


def test_one_arm_only_has_its_estimate_and_no_difference() -> None:
    rows = [{"yield": float(value)} for value in range(20)]
    result = synthesis(neighbours(rows), ("a", "b"))["yield"]
    assert result["actions"]["a"]["estimate"] == pytest.approx(9.5)
    assert result["actions"]["b"]["n"] == 0
    assert result["differences"][0]["method"] == TOO_FEW
    assert result["verdict"] == TOO_FEW


def test_without_actions_everybody_is_one_arm_and_there_is_no_verdict() -> None:
    rows = [{"yield": float(value)} for value in range(20)]
    result = synthesis(neighbours(rows, action=["", "x"] * 10), ())["yield"]
    assert list(result["actions"]) == [""]
    assert result["actions"][""]["n"] == 20
    assert (result["differences"], result["verdict"]) == ([], None)


def test_zero_variance_has_an_estimate_and_no_interval() -> None:
    arm = synthesis(neighbours([{"yield": 4.2}] * 20), ("a",))["yield"]["actions"]["a"]
    assert (arm["estimate"], arm["low"], arm["high"], arm["note"]) == (4.2, None, None, NO_SPREAD)


def test_few_events_are_counted_and_not_estimated() -> None:
    rows = [{"dead": float(i < 4)} for i in range(50)]
    arm = synthesis(neighbours(rows), ("a",))["dead"]["actions"]["a"]
    assert (arm["n"], arm["n_eff"], arm["events"], arm["estimate"], arm["method"]) == (50, 50.0, 4, None, TOO_FEW)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_that_cannot_count(weight: float) -> None:
    rows = [{"yield": float(value)} for value in range(20)]
    arm = synthesis(neighbours(rows, weight=[weight] * 20), ("a",))["yield"]["actions"]["a"]
    assert (arm["n"], arm["unusable"], arm["method"]) == (0, 20, TOO_FEW)


def test_one_huge_weight_leaves_too_few() -> None:
    rows = [{"yield": float(value)} for value in range(20)]
    arm = synthesis(neighbours(rows, weight=[1e308] + [1.0] * 19), ("a",))["yield"]["actions"]["a"]
    assert (arm["n"], arm["n_eff"], arm["method"]) == (1, 1.0, TOO_FEW)


def test_unknown_actions_are_left_out_and_said() -> None:
    rows = [{"yield": float(value)} for value in range(20)]
    of = neighbours(rows, ["a"] * 15 + ["zeta"] * 4 + [""])
    result = synthesis(of, ("a",))["yield"]
    assert {name: arm["n"] for name, arm in result["actions"].items()} == {"a": 15, "": 1}
    stray = cautions(of, ("a",), "observational")[1]
    assert stray["code"] == "unknown-action"
    assert stray["text"].startswith("4 neighbours")
    assert "'zeta'" in stray["text"]


def test_everything_censored_is_too_few() -> None:
    arm = synthesis(neighbours([{"time": (float(i), False)} for i in range(50)]), ("a",))["time"]["actions"]["a"]
    assert (arm["n"], arm["events"], arm["method"], arm["survival"]) == (50, 0, TOO_FEW, None)


def test_durations_of_zero() -> None:
    arm = synthesis(neighbours([{"time": (0.0, True)}] * 20), ("a",))["time"]["actions"]["a"]
    assert (arm["estimate"], arm["low"], arm["note"], arm["restricted_to"]) == (0.0, None, NO_SPREAD, 0.0)
    assert arm["survival"]["median"]["estimate"] == 0.0


def test_restricted_means_end_where_the_shortest_follow_up_ends() -> None:
    short = [{"time": (float(i), i < 8)} for i in range(1, 21)]
    long = [{"time": (10.0 * i, i % 2 == 0)} for i in range(1, 21)]
    arms = synthesis(neighbours([*short, *long], ["a"] * 20 + ["b"] * 20), ("a", "b"))["time"]["actions"]
    assert arms["a"]["restricted_to"] == 20.0
    assert [at["time"] for at in arms["a"]["survival"]["at"]] == [10.0, 20.0]
    # Of b's ten events one came by then: its curve stands, its mean would rest on nothing.
    assert (arms["b"]["estimate"], arms["b"]["method"], arms["b"]["note"]) == (None, TOO_FEW, FEW_BY_THEN)
    assert arms["b"]["survival"]["median"]["estimate"] is not None


def test_survival_is_told_at_the_horizon_of_the_schema() -> None:
    def arm(days: float) -> dict[str, Any]:
        timed = {"time": outcome("time", "duration", horizon_s=days * 86_400)}
        of = neighbours([{"time": (float(i), i % 2 == 0)} for i in range(1, 41)][:39])
        return synthesise(of, timed, ("a",), "observational", 0.0)["time"]["actions"]["a"]  # type: ignore[index, no-any-return]

    within = arm(30.0)
    assert within["restricted_to"] == 30.0
    (at,) = within["survival"]["at"]
    assert at["low"] < at["estimate"] < at["high"]
    (beyond,) = arm(365.0)["survival"]["at"]
    assert (beyond["estimate"], beyond["note"]) == (None, BEYOND)


def test_over_all_there_is_one_bandwidth_and_an_overall_arm() -> None:
    rows = [{"yield": float(value)} for value in range(40)]
    of = neighbours(rows, ["a", "b"] * 20, np.linspace(0, 1, 40).tolist(), per="all", radius={"": 2.0})
    result = synthesis(of, ("a", "b"))["yield"]
    weights = kernel_weights(of.distance, 2.0, 0.1)
    assert result["overall"]["estimate"] == pytest.approx(np.average(np.arange(40), weights=weights), rel=1e-12)
    expected = np.average(np.arange(0, 40, 2), weights=weights[::2])
    assert result["actions"]["a"]["estimate"] == pytest.approx(expected, rel=1e-12)


def test_per_action_each_arm_has_its_own_bandwidth() -> None:
    rows = [{"yield": float(value)} for value in range(40)]
    radius = {"a": 1.5, "b": 9.0, "": 100.0}
    of = neighbours(rows, ["a", "b"] * 20, np.linspace(0, 1, 40).tolist(), radius=radius)
    arms = synthesis(of, ("a", "b"))["yield"]["actions"]
    for first, action in enumerate("ab"):
        weights = kernel_weights(of.distance[first::2], radius[action], 0.1)
        expected = np.average(np.arange(first, 40, 2), weights=weights)
        assert arms[action]["estimate"] == pytest.approx(expected, rel=1e-12)


def test_columns_must_fit() -> None:
    with pytest.raises(InputError, match="weight has shape"):
        neighbours([{}] * 3, weight=[1.0])
    for distance in ([math.nan], [-1.0], [math.inf]):
        with pytest.raises(InputError, match="finite number >= 0"):
            neighbours([{}], distance=distance)


numbers = st.one_of(st.floats(), st.floats(-100, 100), st.sampled_from([0.0, 1.0, 5.0, 1e100, -1e100, 5e-324]))
values = st.fixed_dictionaries(
    {},
    optional={
        "dead": st.sampled_from([0.0, 1.0, None]),
        "yield": st.one_of(st.none(), numbers),
        "time": st.one_of(st.none(), st.tuples(numbers, st.booleans()), st.tuples(st.floats(0, 9), st.booleans())),
    },
)
members = st.tuples(
    values,
    st.sampled_from(["a", "b", "", "zeta"]),
    st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 5e-324, 1e150])),
    st.one_of(st.just(1.0), st.floats(0.1, 3), st.floats()),
    st.sampled_from(["north", "south"]),
)


def intervals(node: object) -> Iterator[dict[str, Any]]:
    """Every object of the document that has an estimate."""
    if isinstance(node, dict):
        if "estimate" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from intervals(child)


@given(st.lists(members, max_size=60), st.sampled_from(["action", "all"]), st.floats(0, 10), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_never_nan_and_every_interval_holds_its_estimate(rows: list[Any], per: Any, radius: float, copies: int) -> None:
    rows = rows * copies
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    situation, action, distance, weight, network = columns
    of = neighbours(situation, action, distance, weight, network, per=per, radius={"a": radius, "": radius})
    order = list(reversed(range(len(rows))))
    backwards = [[column[i] for i in order] for column in columns]
    document = synthesis(of, ("a", "b"))
    assert document == synthesis(neighbours(*backwards, per=per, radius=of.radius), ("a", "b"))
    for found in intervals(document):
        assert (found["low"] is None) <= (found["estimate"] is None or found["note"] is not None)
        if found["low"] is not None and found["high"] is not None:
            assert found["low"] <= found["high"]
        if found["estimate"] is not None and found["low"] is not None:
            assert found["low"] <= found["estimate"]
        if found["estimate"] is not None and found["high"] is not None:
            assert found["estimate"] <= found["high"]


def test_quick_enough_for_every_answer() -> None:
    of = cohort(9)
    took = []
    for _ in range(20):
        start = time.process_time()
        synthesise(of, OUTCOMES, ACTIONS, "observational", 0.1)
        took.append(time.process_time() - start)
    assert min(took) < 0.02, "3 ms is the aim; this bound only catches a change of order"
