"""Durations and sizes as people write them in configuration: `500ms`, `1KiB`."""

from __future__ import annotations

import re

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def duration(text: object) -> float:
    """Seconds of `500ms`, `5s`, `2m`, `1h`, `1d`. Raises ValueError that says what would be right."""
    return _quantity(text, _DURATION, "a duration carries a unit: 500ms, 5s, 2m, 1h, 1d")


def size(text: object) -> int:
    """Bytes of `512B`, `1KiB`, `64MiB`, `1GB`. Raises ValueError that says what would be right."""
    return round(_quantity(text, _SIZE, "a size carries a unit: 512B, 1KiB, 64MiB, 2GiB"))


def _quantity(text: object, units: dict[str, float] | dict[str, int], hint: str) -> float:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not understood; {hint}")
    return float(match[1]) * units[match[2]]
