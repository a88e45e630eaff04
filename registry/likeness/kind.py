"""What every kind of feature shares, and the parts that a schema document is made of."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from registry.yamltext import nearest

Point = tuple[float, ...]

MAX_STEPS = 10_000.0  # from one end of a range to the other; more is a slip in the scale


class Part(BaseModel):
    """A part of a schema document: strict types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _pair(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Text = Annotated[str, Field(min_length=1, max_length=600)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Range = Annotated[tuple[Finite, Finite], BeforeValidator(_pair)]


class Missing(Part):
    """What an unknown value means: as far as `as` is from everything, and `apart` steps beside.

    Without `as`, an unknown value is exactly `apart` steps from every known one.
    """

    value: Annotated[str | float | bool | None, Field(alias="as")] = None
    apart: Annotated[float, Field(ge=0, le=MAX_STEPS)] = 0.0


class Kind(Part):
    """What all kinds share. weight multiplies the squared dissimilarity."""

    label: Text
    note: Text | None = None
    weight: Positive = 1.0
    before_action: bool = True
    missing: Missing | None = None

    @property
    @abstractmethod
    def expected(self) -> str:
        """What would be right, for errors."""

    @property
    def axes(self) -> int:
        """Coordinates that a known value takes."""
        return 1

    @abstractmethod
    def locate(self, value: object) -> Point:
        """Where a known value lies, in steps. Raises ValueError that says what is wrong with it."""

    def parse(self, text: str) -> object:
        """A value from its text in a file; what is no value of the kind is left for `locate` to refuse."""
        return text

    def aloof(self, apart: float) -> tuple[Point, float]:
        """Foot and height of a point `apart` steps from every value. Raises ValueError where there is none."""
        raise ValueError(f"a missing {self.label!r} needs `as`: the value that it is taken for (apart: {apart:g})")

    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """All that decides where values lie, for the digest of the space."""


def number(value: object) -> int | float:
    """A finite number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def parsed(text: str) -> object:
    """The number that a text is, or the text."""
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def member(value: object, names: Mapping[str, object]) -> str:
    """One of the names. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    if value not in names:
        close = nearest(value, names)
        raise ValueError(f"not known; {close}" if close.startswith("did") else "not known")
    return value


def listed(names: Iterable[str]) -> str:
    """The first of the names, for errors."""
    shown = list(names)
    return ", ".join(map(repr, shown[:20])) + (f" ... ({len(shown)} in all)" if len(shown) > 20 else "")
