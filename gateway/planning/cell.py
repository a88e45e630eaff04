"""The records of one cell as columns, prepared once and then shared by all questions; bounds of many of them at once.

Columns are float32: half the memory to read (docs/decisions/015-a-walk-over-columns.md). They are rounded so that they
contain all that the records contain, and what is computed from them gives way by as much as float32 may err.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern

import numpy as np
import numpy.typing as npt

from gateway.planning.expectation import Array, Seen, Singles, covariance
from registry.geometry.cell import CellRecord
from registry.geometry.region import FLOAT_SLACK

Numbers = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

# An offset in float32 errs by 2^-24 of itself, a sum of up to 128 squares by (128 + 3) 2^-24, its root by half of that:
# by less than 4e-6 of the length. Squares too small for float32 are lost: lengths below 1e-20.
SINGLE_SLACK = 1e-5
_LEAST = 1e-20
_FARTHEST = float(np.finfo(np.float32).max) * (1.0 - SINGLE_SLACK)  # squares beyond overflow
_AT_ONCE = 1024  # regions worked on together, so that their offsets stay in the processor's cache

BEYOND = -(1 << 62)  # the key of a record that leads to another registry


class Cell:
    """m records. geometry: (m, 4d + 3) float32, of each lo, -hi, centre, variance per axis; radius, spread, and the sum
    of the variances.

    actions: those counted, ascending; counts: (m, len(actions)) packets of each. keys: (m,) where a record leads: to a
    network, the `key` of its name; to child n of this cell, -1 - n; to another registry, `BEYOND`. repeated: keys of
    children to which several records lead. plain: no record leads to another registry, and no network is lapsed.
    """

    __slots__ = ("_names", "actions", "counts", "geometry", "keys", "plain", "records", "repeated")

    def __init__(self, records: Sequence[CellRecord], d: int) -> None:
        self.records = tuple(records)
        counts = [record.region.counts for record in records]
        self.actions = tuple(sorted({action for each in counts for action in each}))
        self.counts: Array = np.array(
            [[each.get(action, 0) for action in self.actions] for each in counts], dtype=np.float64
        ).reshape(len(records), len(self.actions))
        self.geometry = _geometry(records, d)
        self._names = [intern(record.network) for record in records if record.network is not None]  # held: see `key`
        self.keys: Numbers = np.array([_leads(record) for record in records], dtype=np.int64)
        self.plain = not any(record.apex or (record.lapsed and record.network) for record in records)
        children = self.keys[self.keys < 0].tolist()
        self.repeated = frozenset([each for each in children if children.count(each) > 1])

    def __len__(self) -> int:
        return len(self.records)


def key(name: str) -> int:
    """A number for a network's name, above 0, the same as long as somebody holds on to the interned name."""
    return id(intern(name))


def _leads(record: CellRecord) -> int:
    if record.network is not None:
        return key(record.network)
    return BEYOND if record.child is None else -1 - record.child[-1]


def _geometry(records: Sequence[CellRecord], d: int) -> Singles:
    result = np.empty((len(records), 4 * d + 3), dtype=np.float32)
    if not records:
        return result
    regions = [record.region for record in records]
    most = float(np.finfo(np.float32).max)
    centre = np.array([region.centre for region in regions], dtype=np.float64)
    result[:, 2 * d : 3 * d] = np.clip(centre, -most, most)
    moved = centre - result[:, 2 * d : 3 * d]
    radius = np.array([region.radius for region in regions])
    result[:, :d] = _down(np.array([region.lo for region in regions]))
    result[:, d : 2 * d] = _down(-np.array([region.hi for region in regions]))
    result[:, 3 * d : 4 * d] = np.minimum(np.array([region.var for region in regions]), most)
    result[:, 4 * d] = -_down(-radius - np.sqrt((moved**2).sum(axis=1)) * (1.0 + FLOAT_SLACK))
    result[:, 4 * d + 1] = np.minimum([region.spread for region in regions], most)
    result[:, 4 * d + 2] = np.minimum(result[:, 3 * d : 4 * d].sum(axis=1, dtype=np.float64), most)
    return result


def _down(numbers: Array) -> Singles:
    """As float32, no number above what it was."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(np.float32)
    result: Singles = np.where(rounded > numbers, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return result


def arms_of(cells: Sequence[Cell], arms: Sequence[str], wanted: Sequence[str] | None) -> Array:
    """(m, a) packets per record of all cells and arm; for the one arm "" all `wanted` actions (None: every action)."""
    actions = cells[0].actions
    if any(cell.actions != actions for cell in cells):
        return np.concatenate([arms_of([cell], arms, wanted) for cell in cells])
    counts = np.concatenate([cell.counts for cell in cells])
    if tuple(arms) == ("",):
        columns = [i for i, action in enumerate(actions) if wanted is None or action in wanted]
        summed: Array = counts if counts.shape[1:] == (1,) and columns else counts[:, columns].sum(1, keepdims=True)
        return summed
    result: Array = np.zeros((len(counts), len(arms)))
    for column, arm in enumerate(arms):
        if arm in actions:
            result[:, column] = counts[:, actions.index(arm)]
    return result


class View:
    """A question (d,) looking at regions, given as columns `geometry` (m, 4d + 3)."""

    __slots__ = ("_inverted", "_slack", "point")

    def __init__(self, query: Array) -> None:
        self.point: Singles = query.astype(np.float32)
        self._inverted = np.concatenate([self.point, -self.point, self.point])
        apart = query - self.point  # 0 where the question is a fingerprint
        self._slack = float(np.sqrt(apart @ apart)) * (1.0 + FLOAT_SLACK)

    def bounds(self, geometry: Singles) -> tuple[Array, Array]:
        """(m,) twice: no packet is nearer to the question than this; and that is about where the middle one is."""
        d = len(self.point)
        lower, middle = np.empty(len(geometry)), np.empty(len(geometry))
        shorter = 1.0 - SINGLE_SLACK
        for first in range(0, len(geometry), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            part = geometry[some]
            apart = part[:, : 3 * d] - self._inverted
            outside = np.maximum(apart[:, :d], apart[:, d : 2 * d])
            np.maximum(outside, 0.0, out=outside)
            box, centre = _squares(outside), _squares(apart[:, 2 * d :])
            np.sqrt(centre + part[:, 4 * d + 2], out=middle[some])
            ball = np.sqrt(np.minimum(centre, _FARTHEST)) * shorter - part[:, 4 * d]
            np.maximum(np.sqrt(np.minimum(box, _FARTHEST)) * shorter, ball, out=lower[some])
        lower -= self._slack + _LEAST
        return np.maximum(lower, 0.0, out=lower), middle

    def seen(self, geometry: Singles, lower: Array) -> Seen:
        """Regions in full, whose lower bounds are known."""
        d = len(self.point)
        apart = geometry[:, : 3 * d] - self._inverted
        offset = apart[:, 2 * d :]
        ball = np.sqrt(_squares(offset)) + geometry[:, 4 * d]
        box = np.sqrt(_squares(np.minimum(apart[:, :d], apart[:, d : 2 * d])))
        upper = np.minimum(ball, box) * (1.0 + SINGLE_SLACK) + (self._slack + _LEAST)
        return Seen(offset, geometry[:, 3 * d : 4 * d], geometry[:, 4 * d + 1], lower, upper)

    def covariance(self, geometry: Singles, weight: Array, group: Numbers) -> Array:
        """See `gateway.planning.expectation.covariance`."""
        d = len(self.point)
        return covariance(geometry[:, 2 * d : 3 * d] - self.point, geometry[:, 3 * d : 4 * d], weight, group)


def _squares(vectors: Singles) -> Array:
    """(m,) squared lengths of (m, d)."""
    squares: Array = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    return squares
