"""One row's texts as a packet's content: the `table:` section of a schema at work."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from registry.errors import DocumentError, SchemaError, SituationError
from registry.likeness.columns import Column, Moment, OutcomeColumns
from registry.likeness.feature import Feature
from registry.likeness.schema import Outcome, Schema
from registry.yamltext import nearest

OutcomeValue = float | tuple[float, bool] | None
Columns = Mapping[str, str]
Content = tuple[bytes, float, float, dict[str, object], str | None, dict[str, OutcomeValue], float]

T = TypeVar("T")

MAX_NODE = 32  # bytes; a longer name is replaced by its SHA-256
_CACHE = 65_536  # texts remembered per column
_FLAGS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}


class RowReader:
    """Reads rows in the order of the file (a node's further rows may each be a step later in time).

    now: outcomes whose horizon passes later than this are unknown.
    """

    def __init__(self, schema: Schema, now: float | None) -> None:
        if schema.table is None:
            raise SchemaError(f"{schema.title}: the schema has no `table:` section; add it to read files")
        table = schema.table
        features = {feature.name: feature for feature in schema.features}
        self._now = math.inf if now is None else now
        self._node = table.node
        self._moment = _moment(table.t0)
        self._step = table.t0.step
        self._rows_of_node: dict[bytes, int] = {}
        self._weight = table.weight
        self._action = None if table.action is None else _action(table.action, schema.actions)
        self._features = [(name, _feature(column, features[name])) for name, column in table.features.items()]
        self._outcomes = [(schema.outcomes[name], columns) for name, columns in table.outcomes.items()]

    def read(self, number: int, columns: Columns) -> Content:
        """(node, t0, time, situation, action, outcomes, weight) of row `number` (from 1).

        Raises DocumentError naming the column.
        """
        node = self._name(number, columns)
        t0 = self._moment(columns)
        if self._step:
            t0 += self._step * self._rows_of_node.get(node, 0)
        situation = {name: read(columns) for name, read in self._features}
        action = None if self._action is None else self._action(columns)
        outcomes: dict[str, OutcomeValue] = {}
        time = t0
        for outcome, names in self._outcomes:
            value, known_after = _outcome(outcome, names, columns)
            if t0 + known_after > self._now:
                value = None
            outcomes[outcome.name] = value
            if value is not None:
                time = max(time, t0 + known_after)
        weight = 1.0 if self._weight is None else _quantity(columns, self._weight)
        if weight is None or weight < 0:
            raise DocumentError("a weight is a number of at least 0", column=self._weight)
        if self._step:
            self._rows_of_node[node] = self._rows_of_node.get(node, 0) + 1
        return node, t0, time, situation, action, outcomes, weight

    def _name(self, number: int, columns: Columns) -> bytes:
        if self._node == "row":
            return str(number).encode()
        for name in self._node:
            if not columns[name]:
                raise DocumentError("is empty, and names the node", column=name)
        joined = "\x1f".join(columns[name] for name in self._node).encode()
        return joined if len(joined) <= MAX_NODE else hashlib.sha256(joined).digest()


def _cached(names: tuple[str, ...], convert: Callable[[str], T]) -> Callable[[Columns], T]:
    """`convert` over the text of the columns (joined with +), remembered per text; its errors name the column."""
    cache: dict[str, T] = {}

    def read(columns: Columns) -> T:
        text = columns[names[0]] if len(names) == 1 else "+".join(columns[name] for name in names)
        if text in cache:
            return cache[text]
        try:
            value = convert(text)
        except (ValueError, SituationError) as error:
            raise DocumentError(str(error), column=names[0]) from None
        if len(cache) < _CACHE:
            cache[text] = value
        return value

    return read


def _feature(column: Column, feature: Feature) -> Callable[[Columns], object]:
    def convert(text: str) -> object:
        value = _mapped(column, text, feature.kind.parse)
        feature.place(value)
        return value

    return _cached(column.column, convert)


def _action(column: Column, actions: tuple[str, ...]) -> Callable[[Columns], str | None]:
    def convert(text: str) -> str | None:
        value = _mapped(column, text, str)
        if value is None:
            return None
        if value not in actions:
            raise ValueError(f"{value!r:.80} is no action of the schema; {nearest(str(value), actions)}")
        return str(value)

    return _cached(column.column, convert)


def _mapped(column: Column, text: str, parse: Callable[[str], object]) -> object:
    """What a text means; None where it means a missing value."""
    if text in column.map:
        return column.map[text]
    if not text.strip("+") or text in column.missing or _as_number(text) in column.missing:
        return None
    starts = [
        (len(word), value)
        for value, words in column.words.items()
        for word in words
        if re.search(r"(?<![A-Za-z0-9])" + re.escape(word), text)
    ]
    if starts:
        return max(starts, key=lambda start: start[0])[1]
    if column.otherwise is not None:
        return column.otherwise
    if column.date is not None:
        date = _date(text, column.date)
        return date.timetuple().tm_yday if column.part == "day_of_year" else date.year
    return parse(text)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _moment(moment: Moment) -> Callable[[Columns], float]:
    if moment.column is None:
        constant = datetime.fromisoformat(moment.constant or "").replace(tzinfo=UTC).timestamp()
        return lambda _: constant
    pattern = moment.date or ""
    return _cached((moment.column,), lambda text: _date(text, pattern).timestamp())


def _date(text: str, pattern: str) -> datetime:
    try:
        return datetime.strptime(text, pattern).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r:.60} is no date of the form {pattern!r}") from None


def _outcome(outcome: Outcome, names: OutcomeColumns, columns: Columns) -> tuple[OutcomeValue, float]:
    """The outcome's value, and how many seconds after t0 it was known."""
    known_after = outcome.horizon_s or 0.0
    if names.column is not None:
        return _plain(outcome, names.column, names, columns), known_after
    length, event = _quantity(columns, names.duration or ""), _flag(columns, names.event or "", names.map)
    if length is None or event is None or (names.unknown_above is not None and length > names.unknown_above):
        return None, known_after
    if length < 0:
        raise DocumentError(f"{length:g} is no duration; it is at least 0", column=names.duration)
    if outcome.kind == "duration":
        return (length, event), length * outcome.unit_s
    # A binary outcome at a horizon: one who left before it without the event is unknown.
    if event and length * outcome.unit_s <= known_after:
        return 1.0, known_after
    return (0.0 if length * outcome.unit_s >= known_after else None), known_after


def _plain(outcome: Outcome, name: str, names: OutcomeColumns, columns: Columns) -> float | None:
    """A binary outcome, a level or a number out of one column."""
    if outcome.kind == "binary":
        flag = _flag(columns, name, names.map)
        return None if flag is None else float(flag)
    if outcome.kind == "ordinal":
        return _place(outcome, columns[name], name)
    value = _quantity(columns, name)
    if value is None or (names.unknown_above is not None and value > names.unknown_above):
        return None
    if outcome.range is not None and not outcome.range[0] <= value <= outcome.range[1]:
        low, high = outcome.range
        raise DocumentError(f"{value:g} is out of range; {low:g} to {high:g} {outcome.unit}", column=name)
    return value


def _place(outcome: Outcome, text: str, name: str) -> float | None:
    """The place of a level among the levels."""
    if not text:
        return None
    if text not in outcome.levels:
        raise DocumentError(f"{text!r:.60} is no level; {nearest(text, outcome.levels)}", column=name)
    return float(outcome.levels.index(text))


def _flag(columns: Columns, name: str, meanings: Mapping[str, bool]) -> bool | None:
    text = columns[name]
    if text in meanings:
        return meanings[text]
    if not text:
        return None
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        known = ", ".join(meanings) or "1/0, true/false, yes/no; others go into `map`"
        raise DocumentError(f"{text!r:.60} is neither yes nor no; known: {known}", column=name) from None


def _quantity(columns: Columns, name: str) -> float | None:
    text = columns[name]
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise DocumentError(f"{text!r:.60} is not a number", column=name)
    return value
