"""Cohorts merge exactly, and say what numpy says of the same nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.cohort import Cohort

VALUES = st.floats(-1e100, 1e100, allow_nan=False)
WEIGHTS = st.floats(1e-100, 1e100, exclude_min=True)
NODES = st.lists(st.tuples(VALUES, WEIGHTS), max_size=30)


@given(NODES, st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_gives_the_same_cohort(nodes: list[tuple[float, float]], random) -> None:  # type: ignore[no-untyped-def]
    whole = Cohort.of(nodes)
    shuffled = list(nodes)
    random.shuffle(shuffled)
    parts = [Cohort.of([node]) for node in shuffled]
    while len(parts) > 1:
        first, second = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        parts.append(first + second)
    assert (parts[0] if parts else Cohort()) == whole


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_figures_are_the_weighted_ones(offset: float) -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=200), rng.uniform(0.5, 2, 200)
    figures = Cohort.of(zip((values + offset).tolist(), weights.tolist(), strict=True)).figures()
    assert figures is not None
    assert figures.n == 200
    assert figures.weight == pytest.approx(weights.sum(), rel=1e-14)
    assert figures.weight2 == pytest.approx((weights**2).sum(), rel=1e-14)
    assert figures.mean == pytest.approx(offset + np.average(values, weights=weights), rel=1e-14)
    shifted = (values + offset) - offset
    spread = np.average((shifted - np.average(shifted, weights=weights)) ** 2, weights=weights)
    assert figures.variance == pytest.approx(spread, rel=1e-12)


def test_events_are_the_ones() -> None:
    figures = Cohort.of([(1.0, 1.0), (0.0, 1.0), (1.0, 3.0)]).figures()
    assert figures == (3, 2, 5.0, 11.0, 0.8, pytest.approx(0.16, rel=1e-15))


def test_one_node_has_no_variance_and_nobody_no_figures() -> None:
    assert Cohort.of([(1e-300, 0.3)]).figures() == (1, 0, 0.3, 0.09, 1e-300, 0.0)
    assert Cohort().figures() is None
