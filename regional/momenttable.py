"""The second-moment table of a network: one cell per action, outcome and fold, over all its nodes; signed.

It says nothing of a single node: a cell that would tell of fewer than the domain's `min_cohort` is refused, and so is
an outcome's cell that is known of nearly the same nodes as another's (the difference would tell of the few).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regional.cohort import MAX_MAGNITUDE, credible
from regional.moments import FOLDS, Moments, Vector, discloses, fold_of, folds_of, length
from regional.packets.packetcbor import Outcome as Value
from regional.releasing.atombatch import AtomBatch
from registry.errors import DocumentError
from registry.keys import SigningKey, sign_document
from registry.likeness.schema import Outcome, Schema
from registry.publishing.coverage import Digest, DomainName, Finite, Name

VERSION = 1
MAX_CELLS = 65 * 16 * FOLDS

Key = tuple[str, str, int]  # action, outcome, fold


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _CellDocument(_Part):
    action: Annotated[str, Field(max_length=64)]
    outcome: Annotated[str, Field(max_length=64)]
    fold: Annotated[int, Field(ge=0, lt=FOLDS)]
    n: Annotated[int, Field(ge=1, le=2**40)]
    events: Annotated[int, Field(ge=0, le=2**40)]
    sums: Annotated[list[Finite], Field(max_length=length(8))]


class _TableDocument(_Part):
    v: Annotated[int, Field(ge=1, le=1)]
    domain: DomainName
    network: Name
    space: Digest
    serial: Annotated[int, Field(ge=0, le=2**53 - 1)]
    issued: Annotated[Finite, Field(ge=0)]
    columns: Annotated[list[str], Field(max_length=8)]
    refused: Annotated[int, Field(ge=0)]
    cells: Annotated[list[_CellDocument], Field(max_length=MAX_CELLS)]
    signer: str
    sig: str


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """n nodes, or atoms of which each has an id: what a table is made of.

    points: (n, d) fingerprints. action: n names ("" for none). weight: (n,) sample weights. outcomes: n maps.
    fold: n, by the node's id, or its atom's.
    """

    points: Vector
    action: Sequence[str]
    weight: Vector
    outcomes: Sequence[Mapping[str, Value]]
    fold: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class MomentTable:
    """cells by action, outcome and fold. columns: the features adjusted for. refused: cells not told, for privacy.

    serial: of the coverage, or the epoch, that it was made at.
    """

    cells: Mapping[Key, Moments]
    columns: tuple[str, ...]
    refused: int = 0
    serial: int = 0

    @classmethod
    def of(cls, schema: Schema, nodes: Nodes, least: int, serial: int = 0) -> MomentTable:
        """Over all nodes; outcomes that are durations have no cells. least: the domain's `min_cohort`."""
        x = np.asarray(nodes.points, dtype=np.float64)[:, list(schema.adjusted)]
        countable = (nodes.weight >= 1.0 / MAX_MAGNITUDE) & (nodes.weight <= MAX_MAGNITUDE)
        groups: dict[tuple[str, int], list[int]] = {}
        for row in np.flatnonzero(countable).tolist():
            groups.setdefault((nodes.action[row], nodes.fold[row]), []).append(row)
        cells: dict[Key, Moments] = {}
        refused = 0
        for (action, fold), members in sorted(groups.items()):
            told: list[frozenset[int]] = []
            for name, outcome in schema.outcomes.items():
                if outcome.kind == "duration":
                    continue
                rows, y = _known(outcome, members, nodes.outcomes)
                if not rows:
                    continue
                known = frozenset(rows)
                near = any(0 < len(known ^ other) < least for other in told)
                moments = None if near or discloses(x[rows], y, least) else Moments.of(x[rows], y, nodes.weight[rows])
                if moments is None or not np.isfinite(moments.sums).all():
                    refused += 1
                    continue
                told.append(known)
                cells[action, name, fold] = moments
        return cls(cells, schema.adjust_for, refused, serial)

    @classmethod
    def of_atoms(cls, schema: Schema, atoms: AtomBatch, serial: int) -> MomentTable:
        """Over all persons of a network's atoms: nothing but what the atoms tell already, so nothing is refused."""
        x = atoms.fingerprints[:, list(schema.adjusted)]
        groups: dict[Key, list[int]] = {}
        for row, (node, action, figures) in enumerate(zip(atoms.nodes, atoms.actions, atoms.figures, strict=True)):
            for name, each in figures.items():
                if name in schema.outcomes and credible(each, schema.outcomes[name], int(atoms.sizes[row])):
                    groups.setdefault((action, name, fold_of(node)), []).append(row)
        cells = {
            key: Moments.of_atoms(x[rows], [atoms.figures[row][key[1]] for row in rows]) for key, rows in groups.items()
        }
        return cls(cells, schema.adjust_for, 0, serial)

    def document(self, home: tuple[str, str], space: str, issued: float, key: SigningKey) -> dict[str, Any]:
        """The signed JSON document. home: domain and network. issued: seconds since the epoch."""
        cells = [
            {"action": a, "outcome": o, "fold": f, "n": m.n, "events": m.events, "sums": m.sums.tolist()}
            for (a, o, f), m in self.cells.items()
        ]
        domain, network = home
        return sign_document(
            {
                "v": VERSION,
                "domain": domain,
                "network": network,
                "space": space,
                "serial": self.serial,
                "issued": issued,
                "columns": list(self.columns),
                "refused": self.refused,
                "cells": cells,
            },
            key,
        )

    @classmethod
    def from_document(cls, document: object, home: tuple[str, str], schema: Schema) -> MomentTable:
        """Check that it is of this home and schema; the signature is the caller's to verify.

        Cells of outcomes or actions that the schema does not know are left out. Raises DocumentError.
        """
        try:
            parsed = _TableDocument.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(map(str, first["loc"]))
            raise DocumentError(f"moments: {path}: {first['msg']}", path=path) from None
        p = len(schema.adjusted)
        for name, found, right in (
            ("domain, network", (parsed.domain, parsed.network), home),
            ("space", parsed.space, schema.space.hex()),
            ("columns", tuple(parsed.columns), schema.adjust_for),
        ):
            if found != right:
                raise DocumentError(f"moments: {name} is {found!r:.100}, wanted {right!r:.100}", path=name)
        cells: dict[Key, Moments] = {}
        for cell in parsed.cells:
            outcome = schema.outcomes.get(cell.outcome)
            if outcome is None or outcome.kind == "duration" or cell.action not in ("", *schema.actions):
                continue
            moments = Moments(cell.n, cell.events, np.array(cell.sums), p)
            key = (cell.action, cell.outcome, cell.fold)
            if key in cells or not _credible(moments, outcome):
                raise DocumentError(f"moments: no nodes have the sums of the cell {key}", path="cells")
            cells[key] = moments
        return cls(cells, schema.adjust_for, parsed.refused, parsed.serial)


def nodes_of(
    points: Vector, ids: Sequence[bytes], action: Sequence[str], weight: Vector, outcomes: Sequence[Mapping[str, Value]]
) -> Nodes:
    """Nodes each in the fold of its own id."""
    return Nodes(points, action, weight, outcomes, folds_of(ids).tolist())


def _known(
    outcome: Outcome, members: Sequence[int], outcomes: Sequence[Mapping[str, Value]]
) -> tuple[list[int], Vector]:
    """Of which members the outcome is known, and its values."""
    found = [(row, value) for row in members if isinstance(value := outcomes[row].get(outcome.name), float)]
    kept = [(row, value) for row, value in found if abs(value) <= MAX_MAGNITUDE]
    return [row for row, _ in kept], np.array([value for _, value in kept], dtype=np.float64)


def _credible(moments: Moments, outcome: Outcome) -> bool:
    """Whether nodes can have these sums."""
    p, n = moments.p, moments.n
    if len(moments.sums) != length(p) or not 0 <= moments.events <= n:
        return False
    w, w2 = float(moments.sums[0]), float(moments.sums[1])
    if not (0 < w <= n * MAX_MAGNITUDE and 0 < w2 <= w * w * (1 + 1e-9) <= w2 * n * (1 + 2e-9)):
        return False
    low, high = outcome.range or ((0.0, 1.0) if outcome.kind == "binary" else (-MAX_MAGNITUDE, MAX_MAGNITUDE))
    with np.errstate(over="ignore", invalid="ignore"):
        second = float(moments.sums[3]) / w
        squares = np.diag(moments.covariance) + moments.means**2
    slack = 1e-9 * max(abs(low), abs(high))
    return (
        low - slack <= moments.mean <= high + slack
        and math.isfinite(second)
        and second >= moments.mean**2 * (1 - 1e-9)
        and bool((np.isfinite(squares) & (np.diag(moments.covariance) >= -1e-9 * (squares + 1e-300))).all())
    )
