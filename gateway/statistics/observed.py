"""One outcome as it was observed among the neighbours: columns of figures, and which of them can be used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import Neighbours, OutcomeValue
from regional.cohort import MAX_MAGNITUDE, Figures, bounds, credible
from regional.releasing.lifetable import Lives
from registry.likeness.schema import Outcome

Vector = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

BLOCK = 256  # neighbours, whose outcomes the processor's cache holds

_FLOATS = frozenset({float, type(None)})
_BOOLS = frozenset({bool})
_SEVERAL = frozenset({Figures, Lives})


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Columns of n atoms, 0 where not usable.

    value: the mean of what is known. variance: within the atom; 0 for one node. known: nodes that it is known of.
    events: of those, with the event (durations) or the value 1 (binaries). weight: sum of their sample weights.
    n_eff: effective number of them (Kish), 1 for one node. unknown: nodes of whom nobody has said yet.
    usable: whether anything is known that can be used. entry: when the node came under observation; 0 where the schema
    declares no entry. A duration whose entry is not known is unknown, and unusable where it ends by its entry.

    What is neither usable nor unknown was sent, but is no value of this outcome: wrong type, not finite, not 0
    or 1, a negative duration, out of the schema's range, figures that no cohort has.
    """

    value: Vector
    variance: Vector
    known: Counts
    events: Counts
    weight: Vector
    n_eff: Vector
    unknown: Counts
    usable: npt.NDArray[np.bool_]
    entry: Vector

    @classmethod
    def of(cls, outcome: Outcome, neighbours: Neighbours) -> Observed:
        """Read `outcome` out of each neighbour's."""
        return cls.all_of((outcome,), neighbours)[outcome.name]

    @classmethod
    def all_of(cls, outcomes: Iterable[Outcome], neighbours: Neighbours) -> dict[str, Observed]:
        """By name; each neighbour's are read one after the other while they are at hand."""
        outcomes = list(outcomes)
        columns: dict[str, list[OutcomeValue]] = {outcome.name: [] for outcome in outcomes}
        for start in range(0, len(neighbours), BLOCK):
            rows = neighbours.outcomes[start : start + BLOCK]
            for name, column in columns.items():
                column.extend(_values(name, rows))
        return {outcome.name: cls._of_column(outcome, columns[outcome.name], neighbours) for outcome in outcomes}

    @classmethod
    def _of_column(cls, outcome: Outcome, raws: list[OutcomeValue], neighbours: Neighbours) -> Observed:
        several = not _SEVERAL.isdisjoint(map(type, raws))
        grouped = [i for i, raw in enumerate(raws) if isinstance(raw, Figures | Lives)] if several else []
        single = cls._of_single(outcome, raws, neighbours)
        return single._with_figures(outcome, grouped, raws, neighbours.size) if grouped else single

    @classmethod
    def _of_single(cls, outcome: Outcome, raws: list[OutcomeValue], neighbours: Neighbours) -> Observed:
        """Every atom as if it were of one node; figures are not usable."""
        missing = [raw is None for raw in raws] if None in raws else np.zeros(len(raws), np.bool_)
        unknown = np.where(missing, neighbours.size, 0)
        event = np.zeros(len(raws), np.bool_)
        if outcome.kind == "duration":
            value, event = _pairs(raws)
        else:
            value = _numbers(raws)
        low, high = bounds(outcome)
        usable = (value >= low) & (value <= high) & (neighbours.size == 1)
        entry = np.zeros(len(raws))
        if outcome.kind == "binary":
            event = value == 1.0
            usable &= event | (value == 0.0)
        elif outcome.kind == "ordinal":
            usable &= value == np.floor(value)
        elif outcome.entry is not None:
            entries = [row.get(outcome.entry) for row in neighbours.outcomes]
            entry = _numbers(entries)
            unknown = np.where([each is None for each in entries], neighbours.size, unknown)
            usable &= (entry >= 0.0) & (entry < value)
        return cls(
            value=np.where(usable, value, 0.0),
            variance=np.zeros(len(raws)),
            known=usable.astype(np.int64),
            events=(event & usable).astype(np.int64),
            weight=neighbours.weight,
            n_eff=np.ones(len(raws)),
            unknown=unknown,
            usable=usable,
            entry=np.where(usable, entry, 0.0),
        )

    def _with_figures(self, outcome: Outcome, grouped: list[int], raws: list[OutcomeValue], size: Counts) -> Observed:
        """The same, with the atoms of several nodes at the positions `grouped`."""
        value, variance, known, events = self.value.copy(), self.variance.copy(), self.known.copy(), self.events.copy()
        weight, n_eff, unknown, usable = self.weight.copy(), self.n_eff.copy(), self.unknown.copy(), self.usable.copy()
        for i in grouped:
            raw = raws[i]
            if isinstance(raw, Lives) and outcome.kind == "duration" and 0 < raw.n <= int(size[i]):
                value[i], known[i], events[i] = raw.duration, raw.n, raw.n * raw.event
                weight[i] = n_eff[i] = raw.n
                unknown[i], usable[i] = 0, True
            if isinstance(raw, Figures) and credible(raw, outcome, int(size[i])):
                value[i], variance[i], known[i], events[i] = raw.mean, raw.variance, raw.n, raw.events
                weight[i], n_eff[i] = raw.weight, raw.weight**2 / raw.weight2
                unknown[i], usable[i] = size[i] - raw.n, True
        return Observed(value, variance, known, events, weight, n_eff, unknown, usable, self.entry)


def _values(name: str, rows: Sequence[Mapping[str, OutcomeValue]]) -> list[OutcomeValue]:
    """(n,) None where it is not told."""
    try:
        return list(map(itemgetter(name), rows))  # the usual case, in one go
    except KeyError:
        return [row.get(name) for row in rows]


def _numbers(raws: Sequence[object]) -> Vector:
    """(n,) NaN where it is no number."""
    plain = _FLOATS.issuperset(map(type, raws))  # the usual case, in one go
    return np.array(raws if plain else [_number(raw) for raw in raws], np.float64)


def _pairs(raws: Sequence[object]) -> tuple[Vector, npt.NDArray[np.bool_]]:
    """(n,) durations, NaN where there is none, and (n,) whether they ended in the event."""
    if set(map(type, raws)) == {tuple} and set(map(len, raws)) == {2}:  # type: ignore[arg-type]
        both: list[object] = list(chain.from_iterable(raws))  # type: ignore[arg-type]
        durations, events = both[::2], both[1::2]
        if _FLOATS.issuperset(map(type, durations)) and _BOOLS.issuperset(map(type, events)):
            return np.array(durations, np.float64), np.array(events, np.bool_)
    pairs = [_pair(raw) for raw in raws]
    return np.array([number for number, _ in pairs], np.float64), np.array([event for _, event in pairs], np.bool_)


def _number(raw: object) -> float:
    """NaN where it is no number, or one beyond float64."""
    if isinstance(raw, float):
        return raw
    if isinstance(raw, int) and -MAX_MAGNITUDE <= raw <= MAX_MAGNITUDE:
        return float(raw)
    return math.nan


def _pair(raw: object) -> tuple[float, bool]:
    """(duration, event); the duration is NaN where it is no such pair."""
    if isinstance(raw, tuple | list) and len(raw) == 2 and raw[1] in (0, 1):
        return _number(raw[0]), bool(raw[1])
    return math.nan, False
