"""The kinds of feature that a schema may hold, and where each puts its values.

Every kind maps a value to a point whose Euclidean distances are the kind's dissimilarity, in *steps* (1 = a
difference that an expert would call one step). The formulas are in docs/fingerprint.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import chain, pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from registry.likeness.elementary import circle, ln
from registry.likeness.embedding import NotEuclidean, embed
from registry.likeness.kind import MAX_STEPS, Finite, Kind, Point, Positive, Range, Text, listed, member, number, parsed
from registry.yamltext import nearest

MAX_VALUES = 100

_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class Number(Kind):
    """A quantity. log: `scale` is the ratio that makes one step (2 = a doubling)."""

    kind: Literal["number"]
    unit: Text
    scale: Positive
    log: bool = False
    range: Range

    @model_validator(mode="after")
    def _check(self) -> Number:
        low, high = self.range
        if low >= high:
            raise ValueError(f"the range [{low:g}, {high:g}] is empty; write the lower end first")
        if self.log and (low <= 0 or self.scale <= 1):
            raise ValueError("with `log: true` the range starts above 0, and the scale is a ratio above 1, such as 2")
        if abs(self.locate(low)[0]) * 2 > MAX_STEPS:
            raise ValueError(f"the range is more than {MAX_STEPS:g} steps of {self.scale:g} long; is the scale right?")
        return self

    @property
    def expected(self) -> str:
        return f"a number in {self.unit} from {self.range[0]:g} to {self.range[1]:g}"

    @cached_property
    def _origin_and_step(self) -> tuple[float, float]:
        low, high = self.range
        if self.log:
            return (ln(low) + ln(high)) / 2.0, ln(self.scale)
        return (low + high) / 2.0, self.scale

    def locate(self, value: object) -> Point:
        x = number(value)
        if not self.range[0] <= x <= self.range[1]:
            raise ValueError("out of range")
        origin, step = self._origin_and_step
        return (((ln(x) if self.log else x) - origin) / step,)

    def parse(self, text: str) -> object:
        return parsed(text)

    def definition(self) -> dict[str, Any]:
        return {"kind": self.kind, "unit": self.unit, "scale": self.scale, "log": self.log, "range": list(self.range)}


class Cycle(Kind):
    """A quantity that comes round, such as the day of the year: 0 and `period` are the same."""

    kind: Literal["cycle"]
    unit: Text
    period: Positive
    scale: Positive

    @model_validator(mode="after")
    def _check(self) -> Cycle:
        if self.period / self.scale > MAX_STEPS:
            raise ValueError(f"the period is more than {MAX_STEPS:g} steps of {self.scale:g} long; is the scale right?")
        return self

    @property
    def expected(self) -> str:
        return f"a number in {self.unit} from 0 to {self.period:g}"

    @property
    def axes(self) -> int:
        return 2

    @property
    def _radius(self) -> float:
        return self.period / (2.0 * math.pi * self.scale)

    def locate(self, value: object) -> Point:
        x = number(value)
        if not 0 <= x <= self.period:
            raise ValueError("out of range")
        turn = x / self.period
        cos, sin = circle(turn if turn < 1.0 else 0.0)
        return self._radius * cos, self._radius * sin

    def aloof(self, apart: float) -> tuple[Point, float]:
        if apart < self._radius:
            raise ValueError(
                f"no point is {apart:g} from all of the circle; `apart` must be at least {self._radius:.4g}"
            )
        return (0.0, 0.0), math.sqrt(apart * apart - self._radius * self._radius)

    def parse(self, text: str) -> object:
        return parsed(text)

    def definition(self) -> dict[str, Any]:
        return {"kind": self.kind, "unit": self.unit, "period": self.period, "scale": self.scale}


def _levels(value: object) -> object:
    if isinstance(value, list) and len(set(map(str, value))) == len(value):
        return {str(level): float(position) for position, level in enumerate(value)}
    return value


class Ordinal(Kind):
    """Levels in order, one step from one to the next, or at the positions given (`levels: {low: 0, high: 3}`)."""

    kind: Literal["ordinal"]
    levels: Annotated[dict[Text, Finite], BeforeValidator(_levels), Field(min_length=2, max_length=MAX_VALUES)]

    @model_validator(mode="after")
    def _check(self) -> Ordinal:
        positions = list(self.levels.values())
        if any(a >= b for a, b in pairwise(positions)):
            raise ValueError("the positions of the levels must grow from each to the next")
        if positions[-1] - positions[0] > MAX_STEPS:
            raise ValueError(f"the levels span more than {MAX_STEPS:g} steps")
        return self

    @property
    def expected(self) -> str:
        return f"one of {listed(self.levels)}"

    @cached_property
    def _first(self) -> float:
        return next(iter(self.levels.values()))

    def locate(self, value: object) -> Point:
        return (self.levels[member(value, self.levels)] - self._first,)

    def definition(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "levels": [[level, position - self._first] for level, position in self.levels.items()],
        }


class Flag(Kind):
    """True or false, one step apart."""

    kind: Literal["flag"]

    @property
    def expected(self) -> str:
        return "true or false"

    def locate(self, value: object) -> Point:
        if not isinstance(value, bool):
            raise ValueError("not true or false")
        return (1.0 if value else 0.0,)

    def aloof(self, apart: float) -> tuple[Point, float]:
        if apart < 0.5:
            raise ValueError("`apart` must be at least 0.5: true and false are 1 apart")
        return (0.5,), math.sqrt(apart * apart - 0.25)

    def parse(self, text: str) -> object:
        return _FLAGS.get(text.lower(), text)

    def definition(self) -> dict[str, Any]:
        return {"kind": self.kind}


class Category(Kind):
    """Values without an order. Squared dissimilarity = 1 - similarity.

    similarity: of single pairs, 0 (nothing in common) to 1; else `alike` inside one group; else 0.
    """

    kind: Literal["category"]
    values: Annotated[list[Text], Field(min_length=2, max_length=MAX_VALUES)] | None = None
    groups: Annotated[dict[Text, list[Text]], Field(min_length=1)] | None = None
    alike: Annotated[float, Field(ge=0, lt=1)] = 0.5
    similarity: Annotated[dict[Text, dict[Text, Annotated[float, Field(ge=0, lt=1)]]], Field(default_factory=dict)]

    @model_validator(mode="after")
    def _check(self) -> Category:
        if (self.values is None) == (self.groups is None):
            raise ValueError("either `values` (a list) or `groups` (named lists) is wanted, one of the two")
        names = self.names
        if len(set(names)) != len(names) or not 2 <= len(names) <= MAX_VALUES:
            raise ValueError(f"each value stands once, and there are 2 to {MAX_VALUES} of them")
        seen: set[frozenset[str]] = set()
        for one, other in self._pairs():
            for name in (one, other):
                if name not in names:
                    raise ValueError(f"similarity: {name!r} is not among the values; {nearest(name, names)}")
            if one == other or frozenset((one, other)) in seen:
                raise ValueError(f"similarity: {one!r} and {other!r} must be two values, and be given once")
            seen.add(frozenset((one, other)))
        try:
            embed(self._squares)
        except NotEuclidean as error:
            fault = ", ".join(repr(names[index]) for index in error.at_fault)
            raise ValueError(
                f"similarity: no points lie as {fault} should: what is like two values makes those two alike; raise "
                "the lowest similarities among these, or lower the highest (it always fits where each value's "
                "similarities add up to at most 1)"
            ) from None
        return self

    @cached_property
    def names(self) -> list[str]:
        """The values in order."""
        return list(self.values if self.values is not None else chain.from_iterable((self.groups or {}).values()))

    def _pairs(self) -> list[tuple[str, str]]:
        return [(one, other) for one, others in self.similarity.items() for other in others]

    @cached_property
    def _squares(self) -> list[list[float]]:
        """The squared dissimilarities, (n, n)."""
        group = {value: name for name, values in (self.groups or {}).items() for value in values}
        given = {frozenset(pair): 1.0 - self.similarity[pair[0]][pair[1]] for pair in self._pairs()}

        def square(one: str, other: str) -> float:
            alike = one in group and group[one] == group[other]
            return given.get(frozenset((one, other)), 1.0 - self.alike if alike else 1.0)

        return [[0.0 if one == other else square(one, other) for other in self.names] for one in self.names]

    @cached_property
    def _points(self) -> Mapping[str, Point]:
        return dict(zip(self.names, embed(self._squares), strict=True))

    @property
    def axes(self) -> int:
        return len(self._points[self.names[0]])

    @property
    def expected(self) -> str:
        return f"one of {listed(self.names)}"

    def locate(self, value: object) -> Point:
        return self._points[member(value, self._points)]

    def aloof(self, apart: float) -> tuple[Point, float]:
        square = apart * apart
        table = [[*row, square] for row in self._squares]
        table.append([square] * len(table) + [0.0])
        try:
            point = embed(table)[-1]
        except NotEuclidean:
            raise ValueError(f"no point is only {apart:g} from each of the values; raise `apart`") from None
        return point[: self.axes], point[self.axes] if len(point) > self.axes else 0.0

    def definition(self) -> dict[str, Any]:
        squares = [row[:index] for index, row in enumerate(self._squares)][1:]
        return {"kind": self.kind, "values": self.names, "squares": squares}


AnyKind = Annotated[Number | Cycle | Ordinal | Flag | Category, Field(discriminator="kind")]
