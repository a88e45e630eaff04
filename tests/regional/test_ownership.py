"""Cuts of the space: every point in one share, shares of about one size, whatever the points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.shares.ownership import Cut, cut
from registry.errors import Conflict, Corrupt
from registry.jsontext import canonical, loads


@given(st.integers(2, 9), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_point_belongs_to_one_share(shares: int, d: int, random: object) -> None:
    chance = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    points = chance.normal(size=(400, d)).astype(np.float32)
    found = cut(points, shares)
    assert found.shares == shares
    numbers = found.of(points)
    sizes = np.bincount(numbers, minlength=shares)
    assert len(sizes) == shares
    assert sizes.min() >= 0.5 * 400 / shares
    again = Cut.from_document(loads(canonical(found.document())))
    assert (again.of(points) == numbers).all()
    assert (again.of(points[:1]) == numbers[:1]).all()
    assert again.of(points[:0]).shape == (0,)


def test_equal_points_are_not_parted() -> None:
    with pytest.raises(Conflict, match="do not lie apart"):
        cut(np.ones((50, 3), dtype=np.float32), 2)
    with pytest.raises(Conflict, match="do not lie apart"):
        cut(np.zeros((0, 3), dtype=np.float32), 2)
    lopsided = np.zeros((50, 2), dtype=np.float32)
    lopsided[0, 1] = 7
    assert np.bincount(cut(lopsided, 2).of(lopsided)).tolist() == [49, 1]


@pytest.mark.parametrize("note", [{}, [], None, {"axis": 0, "at": 1.0, "low": 0}, {"axis": "x", "at": 1, "low": 0}])
def test_a_broken_note_is_said_to_be_one(note: object) -> None:
    with pytest.raises(Corrupt, match="backup"):
        Cut.from_document(note)
