"""Balance of the arms: the standardised mean difference, and what chance gives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from gateway.planning.neighbours import Neighbours
from gateway.statistics.balance import balance
from gateway.statistics.kernel import kernel_weights
from registry.likeness.schema import Schema
from tests.gateway.cohorts import neighbours

SCHEMA = Schema.from_yaml(Path("examples/domains/icu.yaml"))
FEATURES = SCHEMA.features
AXES = {
    feature.name: slice(start, start + feature.dimension)
    for feature, start in zip(FEATURES, np.cumsum([0, *(each.dimension for each in FEATURES)]).tolist(), strict=False)
}


def arms(points: np.ndarray, split: int, seed: int = 0) -> Neighbours:
    """The first `split` of arm a, the others of arm b, at random distances with random sample weights."""
    rng = np.random.default_rng(seed)
    n = len(points)
    of = neighbours(
        [{}] * n,
        ["a"] * split + ["b"] * (n - split),
        sorted(rng.uniform(0.5, 2.0, n)),
        rng.uniform(0.5, 2.0, n).tolist(),
        radius={"a": 2.0, "b": 2.0},
    )
    return replace(of, points=points)


def pair(of: Neighbours) -> Any:
    [found] = balance(of, ("a", "b"), FEATURES, 0.1)
    return found


def test_of_one_axis_it_is_the_familiar_one() -> None:
    rng = np.random.default_rng(1)
    of = arms(rng.normal(size=(120, SCHEMA.dimension)), 70)
    of.points[:70, AXES["age"]] += 3.0
    worst = pair(of)["features"][0]
    assert (worst["feature"], worst["label"]) == ("age", "age")
    axis = of.points[:, AXES["age"]][:, 0]
    weight = of.weight * kernel_weights(of.distance, 2.0, 0.1)
    theirs = [DescrStatsW(axis[part], weights=weight[part]) for part in (slice(70), slice(70, None))]
    gap = theirs[0].mean - theirs[1].mean
    assert worst["smd"] == pytest.approx(abs(gap) / math.sqrt((theirs[0].var + theirs[1].var) / 2), rel=1e-9)
    n_eff = [weight[part].sum() ** 2 / (weight[part] ** 2).sum() for part in (slice(70), slice(70, None))]
    assert worst["chance"] == pytest.approx(1.959963984540054 * math.sqrt(1 / n_eff[0] + 1 / n_eff[1]), rel=1e-9)
    scaled = [DescrStatsW(axis[part], weights=weight[part] * n / weight[part].sum()) for part, n in
              zip((slice(70), slice(70, None)), n_eff, strict=True)]  # fmt: skip
    assert CompareMeans(*scaled).ztest_ind(usevar="unequal")[1] < 0.05


def test_what_chance_gives_is_below_its_level_in_95_of_100() -> None:
    """Arms of one population, also with skewed and with one-hot features: as many beyond as the level says."""
    rng = np.random.default_rng(2)
    beyond = told = 0
    for seed in range(60):
        points = np.zeros((100, SCHEMA.dimension))
        for feature in FEATURES:
            axes = AXES[feature.name]
            if feature.dimension > 1:
                points[:, axes] = np.eye(feature.dimension)[rng.integers(0, feature.dimension, 100)]
            else:
                points[:, axes] = rng.exponential(size=(100, 1))
        found = pair(arms(points, 50, seed))
        beyond += found["beyond_chance"]
        told += found["of"]
    assert told == 60 * len(FEATURES)
    assert 0.035 <= beyond / told <= 0.065


def test_nobody_differs_or_too_few_to_tell() -> None:
    flat = pair(arms(np.ones((60, SCHEMA.dimension)), 30))
    assert (flat["beyond_chance"], flat["of"], flat["features"]) == (0, len(FEATURES), [])
    assert balance(arms(np.ones((60, SCHEMA.dimension)), 5), ("a", "b"), FEATURES, 0.1) == []
    assert balance(arms(np.ones((60, SCHEMA.dimension)), 5), (), FEATURES, 0.1) == []


def test_the_least_balanced_come_first_and_few_are_told() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(200, SCHEMA.dimension))
    points[:100] += rng.uniform(0.5, 3, SCHEMA.dimension)
    found = pair(arms(points, 100))
    assert found["beyond_chance"] > 30
    excess = [each["smd"] / each["chance"] for each in found["features"]]
    assert len(excess) == 8
    assert excess == sorted(excess, reverse=True)


def test_the_order_of_equally_near_neighbours_changes_no_bit() -> None:
    """Among equals it follows from the networks' names, which say nothing about them."""
    rng = np.random.default_rng(3)
    of = arms(rng.normal(size=(120, 24)) * 10.0 ** rng.integers(-3, 4, (120, 1)), 60)
    of = replace(of, distance=np.round(of.distance, 1))
    order = np.lexsort((rng.random(120), of.distance, np.arange(120) >= 60))
    mixed = replace(
        of,
        distance=of.distance[order],
        points=of.points[order],
        weight=of.weight[order],
        action=tuple(of.action[row] for row in order),
    )
    assert not np.array_equal(of.points, mixed.points)
    assert balance(mixed, ["a", "b"], FEATURES, 0.1) == balance(of, ["a", "b"], FEATURES, 0.1)
