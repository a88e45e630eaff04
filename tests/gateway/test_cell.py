"""A cell's columns and the bounds seen in them: rounded, and never too near to the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.planning.cell import BEYOND, Cell, View, arms_of, key
from gateway.planning.merge import Merge
from gateway.planning.plan import Plan
from gateway.planning.resolution import Walk
from registry.geometry.cell import CellRecord
from registry.geometry.region import Region

SCALES = st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e25])


def region(points: np.ndarray, name: str = "r", unbounded: bool = False) -> Region:
    centre = points.mean(axis=0)
    radius = float(np.sqrt(((points - centre) ** 2).sum(axis=1)).max()) * (1.0 + 1e-12)
    edge = np.full(points.shape[1], np.inf)
    lo, hi = (-edge, edge) if unbounded else (points.min(axis=0), points.max(axis=0))
    return Region(name, {"": len(points)}, centre, radius, lo, hi, points.var(axis=0), 0.0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 128), SCALES, SCALES, st.booleans())
def test_no_packet_is_nearer_than_its_regions_bound_nor_farther_than_the_other(
    seed: int, d: int, wide: float, away: float, single: bool
) -> None:
    """Packets and questions that float32 holds, or does not; regions of a point; boxes without an end."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(8, 5, d)) * wide + random.normal(size=(8, 1, d)) * away
    points[0, 1:] = points[0, 0]
    query = random.choice(points[3]) if seed % 2 else random.normal(size=d) * away
    if single:
        points, query = points.astype(np.float32).astype(np.float64), query.astype(np.float32).astype(np.float64)
    records = [CellRecord(region(each, f"r{i}", unbounded=i == 7), network=f"n{i}") for i, each in enumerate(points)]
    geometry = Cell(records, d).geometry
    view = View(query)
    with np.errstate(over="ignore"):
        lower, middle = view.bounds(geometry)
        upper = view.seen(geometry, lower).upper
    distance = np.linalg.norm((points - query).astype(np.longdouble), axis=2)
    assert (lower <= distance.min(axis=1)).all()
    assert (upper >= distance.max(axis=1)).all()
    if wide == away == 1.0:
        exact = np.linalg.norm(
            np.maximum(np.maximum(points.min(axis=1) - query, query - points.max(axis=1)), 0), axis=1
        )
        assert (lower[:7] >= exact[:7] * (1.0 - 3e-5) - 1e-6).all(), "the bounds give way by little only"
        assert (lower <= middle * (1.0 + 1e-6)).all()


def test_keys_tell_where_records_lead() -> None:
    spot = region(np.zeros((3, 2)))
    records = [
        CellRecord(spot, network="one"),
        CellRecord(spot, child=(4, 7)),
        CellRecord(spot, apex="made.asia.kindred.internal."),
        CellRecord(spot, network="".join(["o", "ne"])),
        CellRecord(spot, child=(4, 0)),
        CellRecord(spot, child=(4, 0)),
    ]
    cell = Cell(records, 2)
    assert cell.keys.tolist() == [key("one"), -8, BEYOND, key("one"), -1, -1]
    assert cell.repeated == {-1}
    assert not cell.plain
    assert Cell(records[:2], 2).plain
    assert not Cell([CellRecord(spot, network="one", lapsed=True)], 2).plain


def test_arms_count_what_cells_of_different_actions_hold() -> None:
    def cell(**counts: int) -> Cell:
        spot = Region("r", counts, np.zeros(1), 1.0, -np.ones(1), np.ones(1), np.ones(1))
        return Cell([CellRecord(spot, network="n")], 1)

    cells = [cell(a=1, b=2), cell(b=4), cell(a=8, b=16)]
    assert arms_of(cells, ("a", "b"), None).tolist() == [[1, 2], [0, 4], [8, 16]]
    assert arms_of(cells, ("",), None).tolist() == [[3], [4], [24]]
    assert arms_of(cells, ("",), ("a",)).tolist() == [[1], [0], [8]]
    assert arms_of(cells[:1], ("",), ("c",)).tolist() == [[0]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_is_behind_two_records_is_no_nearer_than_the_nearer_of_them(order: tuple[int, int]) -> None:
    """While one replaces another, both are there: what has come is within the new one only."""
    near, far = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[5.0, 0.0], [6.0, 0.0]])
    pointers = [CellRecord(region(near), child=(0,)), CellRecord(region(far), child=(0,))]
    walk = Walk(np.zeros(2), ("",))
    walk.opened([((), Cell([pointers[i] for i in order], 2))])
    assert walk.wanted(np.array([3.0])) == [(0,)]
    walk.opened([((0,), Cell([CellRecord(region(near), network="n")], 2))])
    assert walk.lower[-1] == pytest.approx(1.0, rel=1e-4)
    assert not walk.closed.any(), "nor is it opened twice"
    plan = Plan(walk, Merge(np.zeros(2), 1, ("",)), 1, ("",))
    assert [ask.network for ask in plan.next(soft=False).ask] == ["n"]
