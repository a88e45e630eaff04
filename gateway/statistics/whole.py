"""The whole of a domain: what the networks' second-moment tables say together, and the lines drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.statistics.ridge import Line
from regional.moments import FOLDS, Moments
from regional.momenttable import Key, MomentTable


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """cells: of all networks together. columns: features adjusted for; axes: (p,) theirs in the fingerprint.

    Its sums and lines depend on no question: each is made once.

    networks: how many gave a table. missing: why each other did not. refused: cells that were not told, for privacy.
    """

    cells: Mapping[Key, Moments]
    columns: tuple[str, ...]
    axes: tuple[int, ...]
    networks: int
    missing: Mapping[str, str]
    refused: int
    _totals: dict[tuple[str | None, str], Moments | None] = field(default_factory=dict)
    _lines: dict[tuple[str, str], tuple[Line | None, ...]] = field(default_factory=dict)
    _line: dict[tuple[str, str], Line | None] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Mapping[str, MomentTable], axes: tuple[int, ...], missing: Mapping[str, str]) -> Whole:
        """From the table of each network, by name; at least one."""
        parts: dict[Key, list[Moments]] = {}
        for name in sorted(tables):
            for key, moments in tables[name].cells.items():
                parts.setdefault(key, []).append(moments)
        merged = {key: Moments.merged(found) for key, found in parts.items()}
        cells = {key: moments for key, moments in merged.items() if np.isfinite(moments.sums).all()}
        columns = next(iter(tables.values())).columns
        refused = sum(table.refused for table in tables.values())
        return cls(cells, columns, axes, len(tables), dict(missing), refused)

    def total(self, action: str, outcome: str) -> Moments | None:
        """Over all folds; None where nothing is told."""
        key = (action, outcome)
        if key not in self._totals:
            self._totals[key] = self._over(action, outcome, range(FOLDS))
        return self._totals[key]

    def everyone(self, outcome: str) -> Moments | None:
        """Over all actions and folds."""
        key = (None, outcome)
        if key not in self._totals:
            self._totals[key] = _together([moments for (_, name, _), moments in self.cells.items() if name == outcome])
        return self._totals[key]

    def lines(self, action: str, outcome: str) -> tuple[Line | None, ...]:
        """FOLDS lines, each drawn through the nodes of the other folds."""
        key = (action, outcome)
        if key not in self._lines:
            folds = range(FOLDS)
            others = [self._over(action, outcome, [each for each in folds if each != fold]) for fold in folds]
            self._lines[key] = tuple(map(_drawn, others))
        return self._lines[key]

    def line(self, action: str, outcome: str) -> Line | None:
        """Through the nodes of all folds."""
        key = (action, outcome)
        if key not in self._line:
            self._line[key] = _drawn(self.total(action, outcome))
        return self._line[key]

    def _over(self, action: str, outcome: str, folds: range | list[int]) -> Moments | None:
        return _together([self.cells[action, outcome, fold] for fold in folds if (action, outcome, fold) in self.cells])


def _together(parts: list[Moments]) -> Moments | None:
    """None of nothing, and of sums beyond float64."""
    merged = Moments.merged(parts) if parts else None
    return merged if merged is not None and np.isfinite(merged.sums).all() else None


def _drawn(moments: Moments | None) -> Line | None:
    return None if moments is None else Line.of(moments)
