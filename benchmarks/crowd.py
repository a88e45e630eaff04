"""The nodes of a data set, asked about by hand: whom the calibration of the estimates is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.populations import FILES
from benchmarks.report import ROOT
from gateway.planning.neighbours import Neighbours
from gateway.statistics.whole import Whole
from regional.files.table import read_rows
from regional.momenttable import MomentTable, nodes_of
from registry.likeness.fingerprint import encode
from registry.likeness.schema import Schema

Float64s = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """n nodes: points (n, d), action (n,), group (n,) of those that are held out together, outcomes n maps."""

    schema: Schema
    points: Float64s
    action: npt.NDArray[np.str_]
    group: Rows
    outcomes: tuple[Mapping[str, Any], ...]

    @classmethod
    def real(cls, name: str, together: str | None = None) -> Crowd:
        """A data set of examples/; each row of the file is a node. together: the column that names the groups."""
        schema = Schema.from_yaml(ROOT / "examples" / "domains" / f"{name}.yaml")
        rows = list(read_rows(ROOT / "examples" / "data" / f"{FILES[name]}.csv.gz", schema))
        texts = [str(i) if together is None else row.columns[together] for i, row in enumerate(rows)]
        return cls(
            schema,
            np.array([encode(schema, row.situation) for row in rows], dtype=np.float64),
            np.array([row.action or "" for row in rows]),
            np.unique(texts, return_inverse=True)[1].astype(np.intp),
            tuple(row.outcomes for row in rows),
        )

    def part(self, rows: Rows) -> Crowd:
        """These of them."""
        at = rows.tolist()
        outcomes = tuple(self.outcomes[i] for i in at)
        return Crowd(self.schema, self.points[rows], self.action[rows], self.group[rows], outcomes)

    def with_outcomes(self, outcomes: tuple[Mapping[str, Any], ...]) -> Crowd:
        """The same nodes, to whom something else has happened."""
        return replace(self, outcomes=outcomes)

    def of(self, outcome: str) -> Float64s:
        """(n,) values, NaN where not known."""
        return np.array([value if isinstance(value := row.get(outcome), float) else np.nan for row in self.outcomes])

    def folds(self, parts: int, seed: int) -> Rows:
        """(n,): 0 to parts - 1, whole groups."""
        draw = np.random.default_rng(seed)
        return np.asarray(draw.integers(0, parts, self.group.max() + 1)[self.group], dtype=np.intp)

    def nearest(self, query: Float64s, k: int, actions: tuple[str, ...]) -> tuple[Rows, Neighbours]:
        """The k nearest of each action, as rows and as the synthesis takes them."""
        distance = np.sqrt(((self.points - query) ** 2).sum(axis=1))
        found, radius = [], {}
        for action in actions:
            rows = np.flatnonzero(self.action == action)
            near = rows[np.argsort(distance[rows], kind="stable")[:k]]
            found.append(near)
            if len(near) == k:
                radius[action] = float(distance[near[-1]])
        rows = np.concatenate(found)
        at = rows.tolist()
        neighbours = Neighbours(
            distance=distance[rows],
            points=self.points[rows],
            action=tuple(self.action[rows].tolist()),
            network=("all",) * len(at),
            node=tuple(str(i).encode() for i in at),
            weight=np.ones(len(at)),
            outcomes=tuple(self.outcomes[i] for i in at),
            size=np.ones(len(at), np.int64),
            k=k,
            per="action",
            radius=radius,
        )
        return rows, neighbours

    def whole(self) -> Whole:
        """What one table over all of them says."""
        ids = [str(i).encode() for i in range(len(self.points))]
        nodes = nodes_of(self.points, ids, self.action.tolist(), np.ones(len(ids)), self.outcomes)
        return Whole.of({"all": MomentTable.of(self.schema, nodes, 1)}, self.schema.adjusted, {})
