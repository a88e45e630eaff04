"""Geometry in few octets, rounded outward: a decoded ball or box contains the one that was encoded.

Float64 arrays of m regions of dimension d in and out; the formulas are part of the wire format
(docs/protocol.md, "Cell records") and are evaluated in IEEE 754 binary64 in the order written here, so that
every reader gets the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from registry.errors import RegionError

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Single = npt.NDArray[np.float32]

HALF_INFLATION = 0.01  # a float16 centre is taken where it inflates the radius by at most this share
LARGEST = float(np.finfo(np.float32).max)
ZERO, STEPS, TOP = 128, 126, 255  # box: the code of offset 0, steps per scale, the code of +unbounded
_TINY = 1e-150  # above the norm of differences whose squares underflow
_ARITHMETIC = 1e-12  # over the relative error of a norm over d <= 128 axes


def _up(values: Array) -> Single:
    """The least float32 >= each value; infinite beyond its range."""
    with np.errstate(over="ignore", under="ignore"):
        near = values.astype(np.float32)
    return np.where(near.astype(np.float64) < values, np.nextafter(near, np.float32(np.inf)), near)


def _shift(original: Array, rounded: Array) -> Array:
    """(m,): at least the Euclidean distance between the rows; infinite where `rounded` is."""
    difference = original - rounded
    norm = np.sqrt(np.einsum("ij,ij->i", difference, difference)) * (1.0 + _ARITHMETIC) + _TINY
    return np.where(difference.any(axis=1), norm, 0.0)


def ball(centre: Array, radius: Array) -> tuple[Array, npt.NDArray[np.bool_], Single]:
    """Round centres (m, d) to float16 or float32, and radii (m,) up about the rounded centres.

    Returns (rounded centres as float64, where float16 was taken (m,), radii as float32).
    Raises RegionError where float32 does not hold them.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        half = centre.astype(np.float16).astype(np.float64)
        single = centre.astype(np.float32).astype(np.float64)
        half_shift = _shift(centre, half)
        single_shift = _shift(centre, single)
        is_half = half_shift <= HALF_INFLATION * radius
        shift = np.where(is_half, half_shift, single_shift)
        grown = np.where(shift > 0, np.nextafter(radius + shift, np.inf), radius)
    rounded = np.where(is_half[:, None], half, single)
    radii = _up(grown)
    if not (np.isfinite(rounded).all() and np.isfinite(radii).all()):
        raise RegionError(f"a region's centre or radius is beyond float32 ({LARGEST:.3g}); choose other units")
    return rounded, is_half, radii


def lower(centre: Array, scale: Array, codes: npt.NDArray[Any]) -> Array:
    """Lower faces (m, d) of boxes: centre + scale * (code - 128) / 126; code 0 is unbounded. scale: (m,)."""
    faces = centre + scale[:, None] * (codes.astype(np.float64) - ZERO) / STEPS
    return np.where(codes == 0, -np.inf, faces)


def upper(centre: Array, scale: Array, codes: npt.NDArray[Any]) -> Array:
    """Upper faces (m, d) of boxes: centre + scale * (code - 128) / 126; code 255 is unbounded. scale: (m,)."""
    faces = centre + scale[:, None] * (codes.astype(np.float64) - ZERO) / STEPS
    return np.where(codes == TOP, np.inf, faces)


def box(centre: Array, lo: Array, hi: Array) -> tuple[Single, Codes, Codes]:
    """Code boxes [lo, hi] (m, d) relative to the rounded centres: (scales (m,), lo codes, hi codes)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        below, above = lo - centre, hi - centre
        reach = np.maximum(
            np.where(np.abs(below) < LARGEST / 2, np.abs(below), 0.0),
            np.where(np.abs(above) < LARGEST / 2, np.abs(above), 0.0),
        ).max(axis=1)
        # The margin lets the farthest face round outward to a code that is still bounded.
        single = _up(reach * (1.0 + 2.0**-50))
        scale = single.astype(np.float64)
        unit = np.where(scale > 0, scale, 1.0)[:, None] / STEPS
        lo_codes = np.clip(np.floor(below / unit) + ZERO, 0, TOP - 1).astype(np.int16)
        hi_codes = np.clip(np.ceil(above / unit) + ZERO, 1, TOP).astype(np.int16)
        # The estimate may err by rounding; what decodes decides. Codes 0 and 255 always contain.
        while (inside := lower(centre, scale, lo_codes) > lo).any():
            lo_codes[inside] -= 1
        while (inside := upper(centre, scale, hi_codes) < hi).any():
            hi_codes[inside] += 1
    return single, lo_codes.astype(np.uint8), hi_codes.astype(np.uint8)


def variances(var: Array) -> tuple[Single, Codes]:
    """Code per-axis variances (m, d) to the nearest of 255 steps: (scales (m,), codes). Estimates, not bounds."""
    single = _up(np.minimum(var.max(axis=1), LARGEST))
    scale = np.where(single > 0, single.astype(np.float64), 1.0)[:, None]
    return single, np.rint(np.minimum(var, LARGEST) / scale * 255.0).astype(np.uint8)


def variance(scale: Array, codes: Codes) -> Array:
    """Per-axis variances (m, d): scale * code / 255. scale: (m,)."""
    result: Array = scale[:, None] * codes.astype(np.float64) / 255.0
    return result
