"""How much memory a value holds on to, so that what is kept can be bounded in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof

import numpy as np

ARRAY_HEAD = 112  # bytes of an array beside its elements
SAMPLE = 4  # of the rows of a tuple or list; a cell's records are alike, and all of them would take too long
_FLAT = frozenset({int, float, str, bytes, bool, type(None)})


def weight(value: object) -> int:
    """Bytes of the value and of all that it refers to, nearly: rows are sampled. Classes and functions weigh nothing.

    The value must not refer to itself.
    """
    return round(_weight(value, set()))


def _weight(value: object, seen: set[int]) -> float:
    kind = type(value)
    if id(value) in seen or callable(value):
        return 0
    seen.add(id(value))
    if kind in _FLAT:
        return getsizeof(value)
    if isinstance(value, np.ndarray):
        return ARRAY_HEAD + value.nbytes
    if isinstance(value, tuple | list):
        sample = value[:: -(-len(value) // SAMPLE)] if len(value) > SAMPLE else value
        rows = sum(_weight(each, seen) for each in sample)
        return getsizeof(value) + (rows * len(value) / len(sample) if sample else 0)
    if isinstance(value, Mapping):
        return getsizeof(value) + sum(_weight(each, seen) for item in value.items() for each in item)
    parts = [getattr(value, name, None) for name in _members(kind)]
    return getsizeof(value) + sum(_weight(part, seen) for part in parts)


def _members(kind: type) -> tuple[str, ...]:
    slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
    return (*slots, "__dict__") if kind.__dictoffset__ else tuple(slots)
