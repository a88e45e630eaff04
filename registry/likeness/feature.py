"""A feature of a schema: where each of its values lies on its axes of the fingerprint."""

from __future__ import annotations

import math
import struct
from typing import Any

from registry.errors import SituationError
from registry.likeness.kind import Kind, Missing, Point

_CACHE = 65_536  # values kept per feature; what lies beyond is computed anew


class Feature:
    """One feature that encodes: name, kind, weight, missing rule, and its `dimension` axes.

    Squared distance over its axes = weight * (dissimilarity of the kind)^2.
    Raises ValueError where the missing rule does not fit the kind.
    """

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.label = kind.label
        self.weight = kind.weight
        self._root = math.sqrt(kind.weight)
        self._unknown, self._extra = _place_unknown(kind)
        self._cache: dict[tuple[type, object], bytes] = {}
        self.dimension = kind.axes + self._extra

    @property
    def required(self) -> bool:
        """Whether a situation must give it."""
        return self._unknown is None

    @property
    def expected(self) -> str:
        """What would be right, for errors and forms."""
        return self.kind.expected + ("" if self.required else ", or null where it is not known")

    def place(self, value: object) -> bytes:
        """The feature's coordinates as float32 little-endian bytes; None is a missing value.

        Raises SituationError naming the feature, the value, and what would be right.
        """
        key = (type(value), value)
        try:
            return self._cache[key]
        except (KeyError, TypeError):
            placed = struct.pack(f"<{self.dimension}f", *(self._root * axis + 0.0 for axis in self._point(value)))
        if len(self._cache) < _CACHE:
            self._cache[key] = placed
        return placed

    def _point(self, value: object) -> Point:
        if value is None:
            if self._unknown is None:
                raise SituationError(
                    f"{self.name}: is missing; it must be given: {self.expected}", feature=self.name, path=self.name
                )
            return self._unknown
        try:
            point = self.kind.locate(value)
        except ValueError as error:
            raise SituationError(
                f"{self.name}: {value!r:.80} is {error}; what would be right: {self.expected}",
                feature=self.name,
                path=self.name,
            ) from None
        return (*point, 0.0) if self._extra else point

    def definition(self) -> dict[str, Any]:
        """All that encodes, for the digest of the space."""
        rule = self.kind.missing
        missing = None if rule is None else {"as": rule.value, "apart": rule.apart}
        return {
            "name": self.name,
            "weight": self.weight,
            "missing": missing,
            **self.kind.definition(),
        }


def _place_unknown(kind: Kind) -> tuple[Point | None, bool]:
    """Where a missing value lies (None: it is refused), and whether that takes an axis of its own."""
    rule: Missing | None = kind.missing
    if rule is None:
        return None, False
    try:
        foot, height = (kind.aloof(rule.apart)) if rule.value is None else (kind.locate(rule.value), rule.apart)
    except ValueError as error:
        what = str(error) if rule.value is None else f"{rule.value!r} is {error}; {kind.expected}"
        raise ValueError(f"missing: {what}") from None
    return ((*foot, height), True) if height > 0 else (foot, False)
