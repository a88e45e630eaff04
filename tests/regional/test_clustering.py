"""Regions contain what they count, count what they must, and do not depend on the packets' order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.clustering import regions_of
from regional.covering import Covering


def blobs(seed, n, d, distinct=None, offset=0.0):
    random = np.random.default_rng(seed)
    points = offset + random.normal(size=(n, d)) + 8 * random.integers(0, 4, size=(n, 1))
    points = points.astype(np.float32)
    return points if distinct is None else points[random.integers(0, min(distinct, n), n)]


def arms(seed, n):
    return np.random.default_rng(seed).choice(["", "a", "b"], n).tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 300),
    d=st.integers(1, 12),
    min_cohort=st.sampled_from([1, 2, 5, 11]),
    distinct=st.sampled_from([1, 3, None]),
)
def test_regions_hold_what_they_count(seed, n, d, min_cohort, distinct):
    points, actions = blobs(seed, n, d, distinct, offset=float(seed % 3) * 1e4), arms(seed, n)
    regions, counted = regions_of(points, actions, min_cohort)
    assert sum(region.size for region in regions) == counted.sum()
    assert len(regions) <= 64
    assert len({region.id for region in regions}) == len(regions)
    for region in regions:
        region.check(d)
        assert region.size >= min_cohort
    covered = Covering(regions).covers(points, actions)
    assert (covered >= counted).all()
    for region in regions:
        for action in region.counts:
            rows = [i for i in range(n) if actions[i] == action]
            assert region.contains(points[rows], action).sum() >= region.counts[action]
    if min_cohort == 1:
        assert counted.all()
    if n < min_cohort:
        assert not regions


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([1, 40]))
def test_covering_agrees_with_contains_for_few_and_many(seed, n, regions_wanted):
    points, actions = blobs(seed, 200, 3), arms(seed, 200)
    regions, _ = regions_of(points, actions, 1, regions_wanted)
    asked = blobs(seed + 1, n, 3)
    asked[0] = points[0]
    wanted = arms(seed + 1, n)
    expected = [any(r.contains(asked[i : i + 1], wanted[i])[0] for r in regions) for i in range(n)]
    assert Covering(regions).covers(asked, wanted).tolist() == expected


def test_the_order_of_packets_does_not_matter():
    points, actions = blobs(1, 500, 6), arms(1, 500)
    shuffled = np.random.default_rng(2).permutation(500)
    first, _ = regions_of(points, actions, 5)
    second, _ = regions_of(points[shuffled], [actions[i] for i in shuffled], 5)
    assert [(r.id, r.counts, r.centre.tolist(), r.radius) for r in first] == [
        (r.id, r.counts, r.centre.tolist(), r.radius) for r in second
    ]


def test_the_lonely_are_left_out_only_where_a_cohort_is_asked_for():
    points = np.concatenate([blobs(3, 200, 4), np.full((1, 4), 1e4, dtype=np.float32)])
    actions = ["a"] * 201
    regions, counted = regions_of(points, actions, 5)
    assert not counted[200]
    assert max(region.radius for region in regions) < 100
    assert regions_of(points, actions, 1)[1].all()


def test_thousands_of_equal_fingerprints():
    points = np.repeat(np.arange(20, dtype=np.float32).reshape(10, 2), 1000, axis=0)
    regions, counted = regions_of(points, ["a"] * len(points), 1)
    assert counted.all()
    assert len(regions) == 10
    assert all(region.radius == 0 for region in regions)


def test_a_packet_whose_action_no_region_counts_is_not_covered():
    regions, _ = regions_of(blobs(1, 50, 2), ["a"] * 50, 1)
    covering = Covering(regions)
    assert covering.covers(blobs(1, 50, 2), ["a"] * 50).all()
    assert not covering.covers(blobs(1, 50, 2), ["b"] * 50).any()
    assert not Covering([]).covers(blobs(1, 50, 2), ["a"] * 50).any()
