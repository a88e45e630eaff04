"""The walk over a domain's cells, as a decision without sockets: what is known, what is still closed.

A driver asks `wanted` which cells to open, looks them up however it likes, and feeds `opened` or `failed`.
Every bound is a lower bound on the distance from the question to any covered packet behind the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gateway.expectation import Array, Seen
from registry.cell import Address, CellRecord
from registry.region import Bounds


class Cell:
    """The records of one cell as arrays, prepared once and then shared by all questions."""

    __slots__ = ("actions", "bounds", "counts", "records", "spread", "var")

    def __init__(self, records: Sequence[CellRecord], d: int) -> None:
        self.records = tuple(records)
        regions = [record.region for record in records]
        self.bounds = Bounds.of(regions)
        self.var: Array = np.array([region.var for region in regions]).reshape(len(regions), d)
        self.spread: Array = np.array([region.spread for region in regions])
        self.actions = tuple(sorted({action for region in regions for action in region.counts}))
        self.counts: Array = np.array(
            [[region.counts.get(action, 0) for action in self.actions] for region in regions], dtype=np.float64
        ).reshape(len(regions), len(self.actions))

    @classmethod
    def joined(cls, cells: Sequence[Cell]) -> Sequence[Cell]:
        """The same records as one cell, where all count the same actions: what is few is quicker done at once."""
        if len(cells) < 2 or any(cell.actions != cells[0].actions for cell in cells):
            return cells
        one = cls.__new__(cls)
        one.records = tuple([record for cell in cells for record in cell.records])
        one.actions = cells[0].actions
        one.bounds = Bounds.joined([cell.bounds for cell in cells])
        one.var = np.concatenate([cell.var for cell in cells])
        one.spread = np.concatenate([cell.spread for cell in cells])
        one.counts = np.concatenate([cell.counts for cell in cells])
        return [one]

    def seen(self, query: Array) -> Seen:
        """The records as seen from query (d,)."""
        offset, lower, upper = self.bounds.seen(query)
        return Seen(offset=offset, var=self.var, spread=self.spread, lower=lower, upper=upper)

    def arms(self, arms: Sequence[str], wanted: Sequence[str] | None) -> Array:
        """(m, a) packets per record and arm; for the one arm "" all `wanted` actions (None: every action)."""
        if tuple(arms) == ("",):
            columns = [i for i, action in enumerate(self.actions) if wanted is None or action in wanted]
            summed: Array = self.counts[:, columns].sum(axis=1, keepdims=True)
            return summed
        result: Array = np.zeros((len(self.records), len(arms)))
        for column, arm in enumerate(arms):
            if arm in self.actions:
                result[:, column] = self.counts[:, self.actions.index(arm)]
        return result


class Walk:
    """One question's way through one generation of a domain's tree.

    Each record met is a row: how it is `seen` from the question, among it `lower` (m,), than which no packet behind
    it is nearer; counts (m, a) packets per arm; network (m,) the index into `networks`, or -1 for a cell; closed (m,)
    whether it is a cell that is neither opened nor failed; failed (m,) whether it is a cell that could not be opened.
    """

    def __init__(self, query: Array, arms: Sequence[str], wanted: Sequence[str] | None = None) -> None:
        self._query = query
        self.arms = tuple(arms)
        self._wanted = wanted
        self._row_of: dict[Address, int] = {}
        self._address: list[Address | None] = []
        self._index_of: dict[str, int] = {}
        self.networks: list[str] = []
        self.lapsed: set[str] = set()
        self.unresolved: dict[Address, str] = {}
        self.cells_opened = 0
        self.seen = Seen.nothing(len(query))
        self.counts: Array = np.zeros((0, len(self.arms)))
        self.network: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.closed: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.failed: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def opened(self, found: Sequence[tuple[Address, Cell]]) -> None:
        """These cells have these records."""
        for address, _ in found:
            self._close_no_more(address)
        self.cells_opened += len(found)
        blocks = []
        for cell in Cell.joined([cell for _, cell in found]):
            counts = cell.arms(self.arms, self._wanted)
            rows = np.flatnonzero(counts.any(axis=1))
            if not len(rows):
                continue
            network = np.array([self._met(cell.records[row]) for row in rows.tolist()], dtype=np.int64)
            seen = cell.seen(self._query)
            whole = len(rows) == len(cell.records)
            blocks.append((seen if whole else seen[rows], counts if whole else counts[rows], network))
        if not blocks:
            return
        self.seen = Seen.joined([self.seen, *(seen for seen, _, _ in blocks)])
        counts, network = (np.concatenate(column) for column in list(zip(*blocks, strict=True))[1:])
        self.counts = np.concatenate([self.counts, counts])
        self.network = np.concatenate([self.network, network])
        self.closed = np.concatenate([self.closed, network < 0])
        self.failed = np.concatenate([self.failed, np.zeros(len(network), dtype=np.bool_)])

    def could_not_open(self, address: Address, reason: str) -> None:
        """The cell is unresolved: it bounds what can be certified, and is never taken for empty."""
        row = self._close_no_more(address)
        if row is not None:
            self.failed[row] = True
        self.unresolved[address] = reason

    def wanted(self, radius: Array) -> list[Address]:
        """Closed cells that may hold a packet within radius (a,) of some arm, nearest first."""
        if not self.cells_opened and () not in self.unresolved:
            return [()]
        rows = np.flatnonzero(self.closed & self.reaches(radius).any(axis=1))
        order = rows[np.argsort(self.lower[rows], kind="stable")]
        return [address for row in order if (address := self._address[row]) is not None]

    def reaches(self, radius: Array) -> npt.NDArray[np.bool_]:
        """(m, a): whether a row may hold a packet of the arm within radius (a,) of the question."""
        result: npt.NDArray[np.bool_] = (self.counts > 0) & (self.lower[:, None] <= radius[None, :])
        return result

    def address(self, row: int) -> Address:
        """The cell of a row that is one."""
        address = self._address[row]
        if address is None:
            raise IndexError(f"row {row} is a network's region")
        return address

    @property
    def lower(self) -> Array:
        """(m,): no packet behind a row is nearer."""
        return self.seen.lower

    def _met(self, record: CellRecord) -> int:
        if record.child is not None:
            self._row_of[record.child] = len(self._address)
            self._address.append(record.child)
            return -1
        self._address.append(None)
        name = str(record.network)
        if record.lapsed:
            self.lapsed.add(name)
        if name not in self._index_of:
            self._index_of[name] = len(self.networks)
            self.networks.append(name)
        return self._index_of[name]

    def _close_no_more(self, address: Address) -> int | None:
        row = self._row_of.pop(address, None)
        if row is not None:
            self.closed[row] = False
        return row
