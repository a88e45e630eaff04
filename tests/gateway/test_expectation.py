"""How far the K-th packet is expected, and where it must be by bounds alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.planning.expectation import Seen, kth_bound, kth_distance


def regions(random: np.random.Generator, m: int, d: int, width: float) -> Seen:
    offset = random.normal(size=(m, d)) * 2.0
    var = random.random((m, d)) * width
    to_centre, reach = np.sqrt((offset**2).sum(axis=1)), np.sqrt(9.0 * var.sum(axis=1))
    return Seen(offset, var, var.sum(axis=1) ** 2 / d, np.maximum(to_centre - reach, 0.0), to_centre + reach)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.integers(1, 8),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.1, 3.0]),
)
def test_k_are_expected_within_the_kth_distance(seed: int, m: int, d: int, k: int, width: float) -> None:
    random = np.random.default_rng(seed)
    seen = regions(random, m, d, width)
    counts = random.integers(0, 9, (m, 2)).astype(np.float64)
    known = [np.sort(random.random(random.integers(0, k + 5)) * 9.0) for _ in range(2)]
    temper = np.array([0.8, 0.6])
    moments = seen.moments(np.eye(d))
    floor, ceiling = kth_bound(seen.lower, counts, k), kth_bound(seen.upper, counts, k)
    distance = kth_distance(moments, counts, k, known, temper, (floor, ceiling))

    def expected(radius: np.ndarray) -> np.ndarray:
        found = [each.searchsorted(r, side="right") for each, r in zip(known, radius, strict=True)]
        return (counts * moments.within(radius, temper)).sum(axis=0) + found

    enough = counts.sum(axis=0) + [len(each) for each in known] >= k
    np.testing.assert_array_equal(np.isfinite(distance), enough)
    at = np.where(enough, distance, 0.0)
    assert (expected(at)[enough] >= k - 1e-9).all()
    # Unless they are hardly more than K, a thousandth of the way nearer they would be too few.
    way = max(moments.farthest, *(each.max(initial=0.0) for each in known))
    less = expected(np.maximum(at - way / 1000.0, 0.0))[enough]
    assert ((less < k) | (expected(at)[enough] <= 1.03 * k)).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 40))
def test_the_kth_packet_is_where_the_bounds_say(seed: int, m: int, k: int) -> None:
    random = np.random.default_rng(seed)
    lower = random.random(m) * 5.0
    upper = lower + random.random(m) * 3.0
    counts = random.integers(0, 6, (m, 1)).astype(np.float64)
    packets = np.sort(
        np.concatenate([random.uniform(a, b, int(n)) for a, b, n in zip(lower, upper, counts[:, 0], strict=True)])
    )
    floor, ceiling = kth_bound(lower, counts, k), kth_bound(upper, counts, k)
    if len(packets) < k:
        assert floor[0] == ceiling[0] == np.inf
    else:
        assert floor[0] <= packets[k - 1] <= ceiling[0]
