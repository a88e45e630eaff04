"""Intervals for one more value, whatever its distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.statistics.estimate import Mean, Sample
from gateway.statistics.kernel import effective_n, kernel_weights
from gateway.statistics.prediction import predicted


def sample(value: np.ndarray, weight: np.ndarray, known: int = 1) -> Sample:
    n = len(value)
    ones = np.ones(n, np.int64)
    return Sample(
        value, np.zeros(n), ones * known, ones * 0, weight, np.zeros(n, np.intp), ("north",),
        effective_n(weight, ones), np.arange(n), np.zeros(n),
    )  # fmt: skip


@pytest.mark.parametrize("draw", [
    lambda rng, n: rng.normal(5, 2, n), lambda rng, n: rng.gamma(0.5, 3, n), lambda rng, n: rng.standard_t(3, n),
])  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_one_more_value_lies_inside_in_95_of_100(draw, weighted: bool) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    held = []
    for _ in range(4000):
        values = draw(rng, 51)
        weight = kernel_weights(np.sort(rng.uniform(0, 1, 50)), 1.0, 0.0) if weighted else np.ones(50)
        found = predicted(sample(values[:50], weight / weight.max()), 0.95)
        assert found is not None
        held.append(found.low <= values[50] <= found.high)
    assert 0.935 <= np.mean(held) <= 0.965


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=45, max_size=60), st.randoms())
def test_it_lies_within_the_values_in_whatever_order(values: list[float], random: object) -> None:
    of = np.array(values)
    found = predicted(sample(of, np.ones(len(of))), 0.95)
    assert (found is None) == (of.min() == of.max())
    if found is not None:
        assert of.min() <= found.low <= found.high <= of.max()
        assert predicted(sample(of[::-1].copy(), np.ones(len(of))), 0.95) == found


def test_of_few_and_of_atoms_it_is_students() -> None:
    values = np.random.default_rng(2).normal(0, 1, 60)
    few = sample(values[:20], np.ones(20))
    assert predicted(few, 0.95) == Mean.of(few).predicted(0.95)
    atoms = sample(values, np.ones(60), known=12)
    assert predicted(atoms, 0.95) == Mean.of(atoms).predicted(0.95)
    assert predicted(sample(np.full(20, 3.0), np.ones(20)), 0.95) is None
