"""Corroboration: each network by itself, the liar among them, and what too few may not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from gateway.planning.neighbours import Neighbours
from gateway.statistics.corroboration import DISAGREE, DOMINATED, UNCORROBORATED, corroborate, together
from gateway.statistics.kernel import kernel_weights
from gateway.statistics.synthesis import synthesise
from tests.gateway.cohorts import DEAD, TIME, YIELD, neighbours


def network(seed: int, gap: float = 10.0, base: float = 50.0, n: int = 40) -> Neighbours:
    """n neighbours of each of two actions; those of a have `gap` more, and more often the event."""
    rng = np.random.default_rng(seed)
    rows: list[Any] = [
        {
            "yield": float(rng.normal(base + (gap if i < n else 0.0), 4)),
            "dead": float(rng.random() < (0.6 if i < n else 0.3)),
            "time": (float(rng.exponential(100 if i < n else 50)), bool(rng.random() < 0.7)),
        }
        for i in range(2 * n)
    ]
    return neighbours(
        rows,
        ["a"] * n + ["b"] * n,
        np.sort(rng.uniform(0.5, 2.0, 2 * n)).tolist(),
        network=[f"net-{seed}"] * 2 * n,
        radius={"a": 2.0, "b": 2.0},
    )


def told(*networks: Neighbours, outcome: Any = YIELD) -> Any:
    found = corroborate(together({each.network[0]: each for each in networks}), outcome, ("a", "b"), 0.1)
    return found[0] if found else None


def test_a_networks_difference_is_its_own() -> None:
    of = network(1)
    pair = told(of, network(2, base=900.0), network(3, base=-40.0))
    weight = kernel_weights(of.distance, 2.0, 0.1)
    value = np.array([row["yield"] for row in of.outcomes])
    arms = []
    for part in (slice(40), slice(40, None)):
        n_eff = weight[part].sum() ** 2 / (weight[part] ** 2).sum()
        arms.append(DescrStatsW(value[part], weights=weight[part] * n_eff / weight[part].sum()))
    theirs = CompareMeans(*arms)
    first = pair["networks"][0]
    assert first["network"] == "net-1"
    assert first["estimate"] == pytest.approx(arms[0].mean - arms[1].mean, rel=1e-9)
    assert first["se"] == pytest.approx(theirs.std_meandiff_separatevar, rel=1e-9)
    # What is peculiar to a network is in both arms: levels of 50, 900 and -40 do not matter.
    assert pair["random_effects"]["estimate"] == pytest.approx(10.0, abs=1.5)
    assert sum(each["weight"] for each in pair["networks"]) == pytest.approx(1.0)
    assert pair["flags"] == []


@pytest.mark.parametrize("outcome", [DEAD, TIME])
def test_it_is_told_of_every_kind(outcome: Any) -> None:
    pair = told(*(network(seed) for seed in range(6)), outcome=outcome)
    assert len(pair["networks"]) == 6
    found = pair["random_effects"]
    assert 0 < found["low"] < found["estimate"] < found["high"]
    assert pair["prediction"]["low"] < found["low"]
    assert pair["median"]["low"] < pair["median"]["estimate"] < pair["median"]["high"]


@pytest.mark.parametrize("liars", [1, 2])
def test_absurd_outcomes_of_one_of_five_move_the_median_little_and_are_noticed(liars: int) -> None:
    """The outcome's range here is about 40 to 70; a mean over networks moves far out of it."""
    honest = [network(seed) for seed in range(5)]
    lying = [
        replace(each, outcomes=tuple({"yield": 1e4 * (i < 40) + i % 3} for i, _ in enumerate(each.outcomes)))
        if seed < liars
        else each
        for seed, each in enumerate(honest)
    ]
    truth, lied = told(*honest), told(*lying)
    assert DISAGREE in lied["flags"]
    assert DISAGREE not in truth["flags"]
    moved = abs(lied["median"]["estimate"] - truth["median"]["estimate"])
    if liars == 1:
        assert moved <= 0.02 * 30
    assert lied["robust"]["aside"] == [f"net-{seed}" for seed in range(liars)]
    assert truth["robust"]["aside"] == []
    assert abs(lied["robust"]["estimate"] - truth["robust"]["estimate"]) <= 0.02 * 30
    assert abs(lied["random_effects"]["estimate"] - truth["random_effects"]["estimate"]) > 1000


def test_one_among_very_many_who_is_far_away_is_named() -> None:
    """Cochran's Q alone would not notice: among so many its one word drowns."""
    many = [network(seed, n=15) for seed in range(200)]
    pair = told(*many, network(999, n=15, gap=20.0))
    assert pair["random_effects"]["q_p"] > 0.05
    assert pair["robust"]["aside"] == ["net-999"]
    assert DISAGREE in pair["flags"]


def test_few_networks_corroborate_nothing() -> None:
    one = told(network(1))
    assert one["flags"] == [UNCORROBORATED, DOMINATED]
    assert (one["random_effects"], one["prediction"]) == (None, None)
    two = told(network(1), network(2))
    assert UNCORROBORATED in two["flags"]
    assert two["random_effects"] is not None
    many = told(network(1, n=400), network(2, n=12), network(3, n=12))
    assert many["flags"] == [DOMINATED]


def test_a_network_with_too_few_of_an_action_has_no_say() -> None:
    small = network(4, n=8)
    assert told(small) is None
    assert [each["network"] for each in told(network(1), small)["networks"]] == ["net-1"]


def test_a_network_without_spread_has_no_say() -> None:
    """None at all, or so little that nothing could be divided by its square."""
    of = network(1)
    for step in (0.0, 5e-324, 1e-160):
        flat = replace(of, outcomes=tuple({"yield": step * (i % 2)} for i in range(80)))
        assert told(flat) is None


def test_in_the_document_it_is_null_unless_asked_for() -> None:
    of = network(1)
    assert synthesise(of, {"yield": YIELD}, ("a", "b"), "observational", 0.1)["yield"]["heterogeneity"] is None  # type: ignore[index]
    silent = synthesise(of, {"yield": YIELD}, ("a", "b"), "observational", 0.1, {})
    assert silent["yield"]["heterogeneity"] == []  # type: ignore[index]
