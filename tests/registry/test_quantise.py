"""What is rounded contains what it was rounded from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.errors import RegionError
from registry.zones.quantise import HALF_INFLATION, LARGEST, ball, box, lower, upper, variance, variances

COORDINATES = st.one_of(
    st.floats(-1e6, 1e6),
    st.floats(-1e-3, 1e-3),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 65504.0, 65520.0, 1e6, -1e6, 1e-8, 5e-324, 1e-160, 1e30]),
)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(centre, lo, hi, radius) of one region; some faces unbounded, some axes without extent."""
    d = draw(st.one_of(st.integers(1, 6), st.just(128)))
    centre = np.array(draw(st.lists(COORDINATES, min_size=d, max_size=d)))
    extents = st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats(0, 1e-6), st.just(np.inf), st.just(1e39))
    below = np.array(draw(st.lists(extents, min_size=d, max_size=d)))
    above = np.array(draw(st.lists(extents, min_size=d, max_size=d)))
    return centre, centre - below, centre + above, draw(st.one_of(st.just(0.0), st.floats(0, 1e7)))


@given(boxes())
@example((np.array([1e-20]), np.zeros(1), np.zeros(1), 1.0))  # the shift vanishes beside the radius
@example((np.array([1e-170]), np.zeros(1), np.zeros(1), 0.0))  # the square of the shift underflows
def test_ball_contains_the_original(region: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> None:
    centre, _, _, radius = region
    rounded, is_half, radii = ball(centre[None], np.array([radius]))
    # In exact arithmetic: |centre - rounded| + radius <= radii, so every point of the one is in the other.
    from fractions import Fraction

    moved = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(centre.tolist(), rounded[0].tolist(), strict=True))
    room = Fraction(float(radii[0])) - Fraction(radius)
    assert room >= 0
    assert moved <= room**2
    if is_half[0]:
        assert float(radii[0]) <= radius * (1 + HALF_INFLATION) * (1 + 1e-6) + 1e-44
    else:
        assert float(radii[0]) <= radius + np.abs(centre).sum() * 2**-23 + radius * 2**-22 + 1e-40


@given(boxes())
@example((np.array([-(2.0**-23)]), np.array([-(2.0**-23)]), np.array([2.0**30]), 0.0))  # the reach rounds down
def test_box_contains_the_original_and_little_more(region: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> None:
    centre, lo, hi, radius = region
    rounded, _, _ = ball(centre[None], np.array([radius]))
    scales, lo_codes, hi_codes = box(rounded, lo[None], hi[None])
    scale = scales.astype(np.float64)
    low, high = lower(rounded, scale, lo_codes)[0], upper(rounded, scale, hi_codes)[0]
    assert (low <= lo).all()
    assert (high >= hi).all()
    assert (lo_codes <= hi_codes).all()
    assert not (lo_codes == 255).any()
    assert not (hi_codes == 0).any()
    step = scale[0] / 126 * 1.001 + np.abs(rounded[0]) * 2**-51
    bounded = np.isfinite(lo) & (np.abs(lo - rounded[0]) < LARGEST / 2)
    assert (low[bounded] >= lo[bounded] - step[bounded]).all()
    bounded = np.isfinite(hi) & (np.abs(hi - rounded[0]) < LARGEST / 2)
    assert (high[bounded] <= hi[bounded] + step[bounded]).all()


def test_a_region_of_one_packet_stays_a_point() -> None:
    packet = np.float32([[0.1, 7.3, -2e5]]).astype(np.float64)
    rounded, is_half, radii = ball(packet, np.zeros(1))
    scales, lo_codes, hi_codes = box(rounded, packet, packet)
    assert not is_half[0]
    assert radii[0] == 0
    assert (lower(rounded, scales.astype(np.float64), lo_codes) == packet).all()
    assert (upper(rounded, scales.astype(np.float64), hi_codes) == packet).all()


def test_unbounded_faces_stay_unbounded_and_bounded_ones_bounded() -> None:
    lo, hi = np.array([[-np.inf, -1.0]]), np.array([[2.0, np.inf]])
    scales, lo_codes, hi_codes = box(np.zeros((1, 2)), lo, hi)
    assert lo_codes[0, 0] == 0
    assert hi_codes[0, 1] == 255
    assert lower(np.zeros((1, 2)), scales.astype(np.float64), lo_codes)[0, 1] == pytest.approx(-1, abs=0.02)
    assert upper(np.zeros((1, 2)), scales.astype(np.float64), hi_codes)[0, 0] == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize(("centre", "radius"), [(1e39, 1.0), (0.0, 1e39), (-1e300, 0.0)])
def test_what_float32_does_not_hold_is_refused(centre: float, radius: float) -> None:
    with pytest.raises(RegionError, match="float32"):
        ball(np.array([[centre]]), np.array([radius]))


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=8))
def test_variances_err_by_half_a_step(values: list[float]) -> None:
    var = np.array([values])
    scales, codes = variances(var)
    decoded = variance(scales.astype(np.float64), codes)
    assert (np.abs(decoded - var) <= max(values) / 255 * 0.501 + 1e-40).all()
