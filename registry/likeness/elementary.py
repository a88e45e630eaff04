"""Logarithm, sine and cosine from +, -, * and / alone, in a fixed order.

IEEE 754 fixes the result of those four to the bit, but not of a C library's log and cos, which differ between
machines in the last place. Fingerprints must be equal everywhere, so they are computed from these.
"""

from __future__ import annotations

import math

_LN2 = 0.6931471805599453
_PI = 3.141592653589793
_SQRT_HALF = 0.7071067811865476

# 1/(2k+1): with |s| <= 0.1716 the first term left out is below 2^-53 of the sum.
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(11))
_SIN = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(10))


def ln(x: float) -> float:
    """Natural logarithm of x > 0, within 4e-16 relative or absolute: 2 atanh((m-1)/(m+1)) + e ln 2 for x = m 2^e."""
    m, e = math.frexp(x)
    if m < _SQRT_HALF:
        m, e = m * 2.0, e - 1
    s = (m - 1.0) / (m + 1.0)
    return 2.0 * s * _polynomial(_ATANH, s * s) + e * _LN2


def circle(turn: float) -> tuple[float, float]:
    """(cos, sin) of 2 pi turn, for 0 <= turn < 1, within 4e-16: Taylor series within an eighth of a turn."""
    eighth = int(turn * 8.0)
    quarter = (eighth + 1) // 2  # the nearest quarter turn
    angle = 2.0 * _PI * (turn - quarter * 0.25)
    square = angle * angle
    cos, sin = _polynomial(_COS, square), angle * _polynomial(_SIN, square)
    match quarter % 4:
        case 0:
            return cos, sin
        case 1:
            return -sin, cos
        case 2:
            return -cos, -sin
        case _:
            return sin, -cos


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """Horner's rule."""
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
