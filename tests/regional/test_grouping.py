"""Groups: small, compact, enough in each count, and no outcome the same of everybody where a cut made it so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.releasing.grouping import Candidates, groups, mixed


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 6), st.sampled_from([1, 2, 5, 11]), st.floats(0, 1))
def test_groups_are_disjoint_whole_and_large_enough(seed: int, n: int, d: int, least: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    outcomes = np.where(rng.random((n, 2)) < 0.1, np.nan, np.round(rng.random((n, 2)) * share))
    counted = np.column_stack([rng.random(n) < 0.8, ~np.isnan(outcomes)])
    of = Candidates(rng.normal(size=(n, d)), counted, outcomes)
    found = groups(of, least, rng)
    if counted[:, 0].sum() < least:
        assert found == []
        return
    assert sorted(np.concatenate(found).tolist()) == list(range(n))
    needed = counted.sum(axis=0) >= least
    diverse = mixed(outcomes)
    for rows in found:
        assert (counted[rows].sum(axis=0)[needed] >= least).all()
        assert mixed(outcomes[rows])[diverse].all()


def test_most_groups_are_as_small_as_may_be() -> None:
    rng = np.random.default_rng(5)
    outcomes = (rng.random((2000, 1)) < 0.35).astype(float)
    of = Candidates(rng.normal(size=(2000, 8)), np.ones((2000, 1), dtype=np.bool_), outcomes)
    sizes = [len(rows) for rows in groups(of, 11, rng)]
    assert np.mean(sizes) < 14
    assert max(sizes) < 60


def test_who_is_unknown_costs_few_groups() -> None:
    """Of one in 25 the outcome is unknown: were that not seen when cutting, 22 with one of them would stay whole."""
    rng = np.random.default_rng(6)
    outcomes = np.where(rng.random((1000, 1)) < 0.04, np.nan, rng.normal(size=(1000, 1)))
    known = int((~np.isnan(outcomes)).sum())
    counted = np.column_stack([np.ones(1000, dtype=np.bool_), ~np.isnan(outcomes)])
    assert len(groups(Candidates(rng.normal(size=(1000, 8)), counted, outcomes), 11, rng)) > 0.9 * (known // 11)


def test_those_of_a_group_are_alike() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(size=(1100, 3))
    found = groups(Candidates.plain(points), 11, rng)
    within = sum(((points[rows] - points[rows].mean(axis=0)) ** 2).sum() for rows in found)
    assert within < 0.1 * ((points - points.mean(axis=0)) ** 2).sum()


def test_who_does_not_know_the_secret_cannot_do_the_grouping_again() -> None:
    points = np.random.default_rng(5).normal(size=(400, 3))
    made = [
        {tuple(sorted(rows.tolist())) for rows in groups(Candidates.plain(points), 11, np.random.default_rng(seed))}
        for seed in (1, 2)
    ]
    assert len(made[0] & made[1]) < len(made[0]) / 2


@pytest.mark.parametrize("n", [11, 30, 500])
def test_equals_can_be_parted_too(n: int) -> None:
    found = groups(Candidates.plain(np.ones((n, 4))), 11, np.random.default_rng(1))
    assert [11 <= len(rows) < 22 for rows in found] == [True] * len(found)
