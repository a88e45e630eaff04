"""The `table:` section of a schema: how the columns of a file become situations, actions and outcomes.

It says how one kind of file is read, and nothing about what is alike or what the data mean; so it counts
neither for the digest of the space nor for that of the schema.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from registry.likeness.kind import Part, Text
from registry.units import duration

Seconds = Annotated[float, BeforeValidator(duration)]


def _short(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[Text, ...], BeforeValidator(_several), Field(min_length=1)]


class Column(Part):
    """Where a value comes from; `age` alone is short for `{column: age}`.

    column: one name, or several whose texts are joined with `+`. An empty text, or one of `missing` (0 stands for 0.0
    too), is a missing value. `map` then replaces the whole text; `words` (value: list of words) gives the value
    of the longest of them with which a word of the text begins; what neither knows is `otherwise`, or where that is
    left out, kept as it is.
    `date` (strptime's format) with `part` takes a number out of a date.
    """

    column: Names
    missing: Annotated[list[str | float], Field(default_factory=list)]
    map: Annotated[dict[str, str | float | bool], Field(default_factory=dict)]
    words: Annotated[dict[Text, list[Text]], Field(default_factory=dict)]
    otherwise: str | float | bool | None = None
    date: Text | None = None
    part: Literal["day_of_year", "year"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Column:
        if (self.date is None) != (self.part is None):
            raise ValueError("`date` (the format) and `part` (day_of_year or year) belong together")
        return self


class Moment(Part):
    """When the action was decided: an ISO date `constant`, or a `column` in strptime's format `date` (UTC).

    step: each further row of the same node is that much later.
    """

    constant: Text | None = None
    column: Text | None = None
    date: Text | None = None
    step: Seconds = 0.0

    @model_validator(mode="after")
    def _check(self) -> Moment:
        if (self.constant is None) == (self.column is None) or (self.column is None) != (self.date is None):
            raise ValueError("either `constant` (such as 1990-01-31), or `column` with `date`, its format, is wanted")
        if self.constant is not None:
            try:
                datetime.fromisoformat(self.constant)
            except ValueError:
                raise ValueError(f"{self.constant!r} is no date; write it as 1990-01-31") from None
        return self


class OutcomeColumns(Part):
    """Where an outcome comes from: one `column`, or `duration` and `event` (also for a binary with a horizon).

    map: the event or the binary outcome where it is not written as 1/0, yes/no or true/false.
    unknown_above: a measured value beyond it is faulty, and so unknown.
    """

    column: Text | None = None
    duration: Text | None = None
    event: Text | None = None
    map: Annotated[dict[str, bool], Field(default_factory=dict)]
    unknown_above: float | None = None

    @model_validator(mode="after")
    def _check(self) -> OutcomeColumns:
        if (self.column is None) == (self.duration is None) or (self.duration is None) != (self.event is None):
            raise ValueError("either `column`, or `duration` and `event`, are wanted")
        return self

    @property
    def names(self) -> list[str]:
        """The columns read."""
        return [name for name in (self.column, self.duration, self.event) if name is not None]


class Table(Part):
    """How a file of rows is read.

    node: the columns that name a node (joined), or `row`: every row is a node of its own.
    """

    node: Literal["row"] | Names
    t0: Moment
    weight: Text | None = None
    action: Annotated[Column, BeforeValidator(_short)] | None = None
    features: dict[str, Annotated[Column, BeforeValidator(_short)]]
    outcomes: dict[str, Annotated[OutcomeColumns, BeforeValidator(_short)]]

    @property
    def columns(self) -> list[str]:
        """Every column that is read, once, in the order of the section."""
        names: list[str | None] = [] if self.node == "row" else list(self.node)
        names += [self.t0.column, self.weight]
        for column in [*([self.action] if self.action else []), *self.features.values()]:
            names += column.column
        for outcome in self.outcomes.values():
            names += outcome.names
        return list(dict.fromkeys(name for name in names if name is not None))
