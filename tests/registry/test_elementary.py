"""Logarithm, sine and cosine against the C library's, and fixed to the bit."""

import math

from hypothesis import given
from hypothesis import strategies as st

from registry.likeness.elementary import circle, ln


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_ln_is_the_logarithm(x: float) -> None:
    assert math.isclose(ln(x), math.log(x), rel_tol=1e-15, abs_tol=4e-16)


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_circle_is_cosine_and_sine(turn: float) -> None:
    cos, sin = circle(turn)
    assert math.isclose(cos, math.cos(2 * math.pi * turn), abs_tol=1e-15)
    assert math.isclose(sin, math.sin(2 * math.pi * turn), abs_tol=1e-15)


def test_fixed_to_the_bit() -> None:
    """A machine that gets other bits here would get other fingerprints."""
    assert [ln(x).hex() for x in (2.0, 10.0, 0.3)] == [
        "0x1.62e42fefa39efp-1",
        "0x1.26bb1bbb55515p+1",
        "-0x1.34378fcbda720p+0",
    ]
    assert [part.hex() for part in circle(0.1)] == ["0x1.9e3779b97f4a8p-1", "0x1.2cf2304755a5ep-1"]
    assert circle(0.0) == (1.0, 0.0)
