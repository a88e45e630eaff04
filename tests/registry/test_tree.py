"""The tree: everything below a cell lies within it, every region is in it once, whatever the regions are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import RegionError
from registry.geometry.cell import MAX_DEPTH, MAX_RECORDS, Address, CellRecord
from registry.geometry.region import Bounds, Region, Vector
from registry.geometry.summary import round_up
from registry.geometry.tree import build_tree

Points = npt.NDArray[np.float32]
Tree = Mapping[Address, tuple[CellRecord, ...]]


def region_of(name: str, points: Points, counts: Mapping[str, int] | None = None) -> Region:
    """The region of float32 points (n, d), as a network describes it."""
    exact = points.astype(np.float64)
    centre = exact.mean(axis=0)
    squared = ((exact - centre) ** 2).sum(axis=1)
    return Region(
        id=name,
        counts=counts or {"": len(points)},
        centre=centre,
        radius=float(np.sqrt(squared.max())) * (1 + 1e-9),
        lo=exact.min(axis=0),
        hi=exact.max(axis=0),
        var=exact.var(axis=0),
        spread=float(squared.var()),
    )


def leaves_of(clusters: list[Points]) -> list[CellRecord]:
    return [
        CellRecord(region_of(str(i), points, {"yes": len(points)} if i % 3 else None), network=f"n{i % 7}")
        for i, points in enumerate(clusters)
    ]


def below(tree: Tree, address: Address) -> Iterator[CellRecord]:
    """All leaf records of the subtree at `address`."""
    for record in tree[address]:
        if record.child is None:
            yield record
        else:
            yield from below(tree, record.child)


def check_shape(tree: Tree, leaves: list[CellRecord]) -> None:
    found = list(below(tree, ()))
    assert sorted(map(id, found)) == sorted(map(id, leaves))
    reached = {record.child for cell in tree.values() for record in cell if record.child is not None}
    assert reached == set(tree) - {()}
    for address, cell in tree.items():
        assert len(address) <= MAX_DEPTH
        assert 0 < len(cell) <= 16
        for record in cell:
            assert (record.child is None) != (record.network is None)
            if record.child is not None:
                assert record.child[:-1] == address
                assert record.region.id == str(record.child[-1])


@st.composite
def clusters(draw: st.DrawFn) -> list[Points]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.sampled_from([1, 2, 5, 24, 128]))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e4]))
    places = draw(st.integers(1, 8))
    homes = rng.standard_normal((places, d)) * scale * 5
    flat = draw(st.booleans())
    made = []
    for _ in range(draw(st.integers(1, 150))):
        points = homes[rng.integers(places)] + (0 if flat else rng.standard_normal((rng.integers(1, 6), d)) * scale)
        made.append(np.atleast_2d(points).astype(np.float32))
    return made


@settings(max_examples=40, deadline=None)
@given(clusters())
def test_no_point_is_outside_any_cell_above_it(made: list[Points]) -> None:
    leaves = leaves_of(made)
    tree = build_tree(leaves)
    check_shape(tree, leaves)
    for cell in tree.values():
        for record in cell:
            if record.child is None:
                continue
            under = list(below(tree, record.child))
            for leaf in under:
                points = made[int(leaf.region.id)]
                for action in leaf.region.counts:
                    assert record.region.contains(points, action).all()
            for action, count in record.region.counts.items():
                true = sum(leaf.region.counts.get(action, 0) for leaf in under)
                assert true <= count <= 1.25 * true


@settings(max_examples=30, deadline=None)
@given(clusters(), st.integers(0, 2**32 - 1))
def test_no_bound_of_a_cell_excludes_what_it_holds(made: list[Points], seed: int) -> None:
    tree = build_tree(leaves_of(made))
    question: Vector = np.random.default_rng(seed).standard_normal((1, made[0].shape[1]))[0] * 10
    for cell in tree.values():
        for record in cell:
            if record.child is None:
                continue
            points = np.concatenate([made[int(leaf.region.id)] for leaf in below(tree, record.child)])
            distance = np.sqrt(((points.astype(np.float64) - question) ** 2).sum(axis=1))
            bounds = Bounds.of([record.region])
            _, (lower,), (upper,) = bounds.seen(question)
            assert lower == bounds.lower(question)[0] <= distance.min() * (1 + 1e-12)
            assert upper >= distance.max() * (1 - 1e-12)


def test_summary_statistics_are_those_of_the_packets() -> None:
    rng = np.random.default_rng(5)
    made = [(rng.standard_normal(6) + rng.standard_normal((9, 6)) * 0.3).astype(np.float32) for _ in range(200)]
    tree = build_tree(leaves_of(made))
    for record in tree[()]:
        if record.child is None:
            continue
        points = np.concatenate([made[int(leaf.region.id)] for leaf in below(tree, record.child)]).astype(np.float64)
        squared = ((points - record.region.centre) ** 2).sum(axis=1)
        np.testing.assert_allclose(record.region.centre, points.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(record.region.var, points.var(axis=0), atol=1e-9)
        assert record.region.spread == pytest.approx(squared.var(), rel=0.35)


def test_empty_and_single() -> None:
    assert build_tree([]) == {(): ()}
    leaf = leaves_of([np.zeros((1, 3), dtype=np.float32)])
    assert build_tree(leaf) == {(): tuple(leaf)}


def test_thousands_of_equal_regions_split_by_order() -> None:
    leaves = leaves_of([np.ones((1, 4), dtype=np.float32)] * 3000)
    tree = build_tree(leaves)
    check_shape(tree, leaves)
    assert max(map(len, tree)) <= 4


def test_far_strays_do_not_make_the_tree_deep() -> None:
    made = [np.full((1, 2), 10.0 ** (i % 38), dtype=np.float32) for i in range(2000)]
    leaves = leaves_of(made)
    check_shape(build_tree(leaves), leaves)


def test_depth_stays_within_the_limit_even_where_it_leaves_no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.geometry.tree.MAX_DEPTH", 8)
    leaves = leaves_of([np.array([[1.07**i]], dtype=np.float32) for i in range(250)])
    tree = build_tree(leaves, capacity=1, fanout=2)
    assert len(list(below(tree, ()))) == 250
    assert max(map(len, tree)) <= 8
    with pytest.raises(RegionError, match="deeper than 8"):
        build_tree(leaves * 2, capacity=1, fanout=2)


def test_unbounded_boxes_and_lapsed_leases_reach_the_root() -> None:
    made = [np.full((2, 3), float(i), dtype=np.float32) for i in range(400)]
    leaves = leaves_of(made)
    odd = leaves[17].region
    unbounded = Region("17", odd.counts, odd.centre, odd.radius, np.full(3, -np.inf), np.full(3, np.inf), odd.var)
    leaves[17] = CellRecord(unbounded, network="n3", lapsed=True)
    tree = build_tree(leaves)
    check_shape(tree, leaves)
    for cell in tree.values():
        for record in cell:
            record.region.check(3)
            if record.child is not None:
                assert record.lapsed == any(leaf.lapsed for leaf in below(tree, record.child))
    assert sum(record.lapsed for record in tree[()]) == 1


def test_the_same_leaves_give_the_same_tree() -> None:
    rng = np.random.default_rng(3)
    leaves = leaves_of([rng.standard_normal((3, 8)).astype(np.float32) for _ in range(300)])

    def shape(tree: Tree) -> list[tuple[Address, list[str]]]:
        return [(address, [record.region.id for record in cell]) for address, cell in tree.items()]

    assert shape(build_tree(leaves)) == shape(build_tree(leaves))


def test_mixed_dimensions_and_impossible_limits_are_refused() -> None:
    leaves = leaves_of([np.zeros((1, 3), dtype=np.float32), np.zeros((1, 4), dtype=np.float32)])
    with pytest.raises(RegionError, match="dimension d=3"):
        build_tree(leaves)
    with pytest.raises(ValueError, match="at most 64"):
        build_tree([], capacity=MAX_RECORDS + 1)


def test_a_walk_opens_a_small_share_of_a_clustered_domain() -> None:
    rng = np.random.default_rng(8)
    homes = rng.standard_normal((64, 24)) * 2
    made = [(home + rng.standard_normal((4, 24)) * 0.3).astype(np.float32) for home in homes for _ in range(40)]
    leaves = leaves_of(made)
    began = time.process_time()
    tree = build_tree(leaves)
    assert time.process_time() - began < 5
    bounds = {address: Bounds.of([record.region for record in cell]) for address, cell in tree.items()}
    opened = 0
    for home in homes:
        walk: list[Address] = [()]
        while walk:
            address = walk.pop()
            opened += 1
            near = bounds[address].lower(np.asarray(home + 0.05)) <= 1.5
            walk += [r.child for r, reached in zip(tree[address], near, strict=True) if reached and r.child is not None]
    assert opened / len(homes) < 0.1 * len(tree)


@pytest.mark.parametrize(("count", "rounded"), [(1, 1), (7, 7), (9, 10), (11, 12), (2**40 + 1, 5 * 2**38)])
def test_counts_round_up(count: int, rounded: int) -> None:
    assert round_up(count) == rounded
