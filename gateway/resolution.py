"""The walk over a domain's cells, as a decision without sockets: what is known, what is still closed.

A driver asks `wanted` which cells to open, looks them up however it likes, and feeds `opened` or `failed`.
Every bound is a lower bound on the distance from the question to any covered packet behind the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.expectation import Array, Seen
from gateway.path import Path, address_of, apex_of
from registry.cell import MAX_DEPTH, CellRecord, Naming
from registry.region import Bounds, Region
from registry.statement import holds


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


@dataclass(slots=True, eq=False)
class _Door:
    """Another registry's tree: where its root is, of which tree the records are that lead there, and those records.

    There may be several, since what a registry replaces stays for a while: what is there is behind any one of them.
    """

    number: int
    path: Path
    above: str | None
    rows: list[int] = field(default_factory=list)
    stated: list[Region] = field(default_factory=list)
    root: Cell | None = None


class _Place(NamedTuple):
    """Where so many records come from. floor: nothing there is nearer. tree: the number of its door, or 0."""

    path: Path
    records: int
    floor: float
    tree: int


class Walk:
    """One question's way through one generation of a domain's tree, and of the trees of registries that run parts.

    Nothing behind a cell is nearer than the record that leads there says: so it is published, and only so much is
    relied upon, whatever the cell itself says (docs/decisions/014-subtrees.md).

    Each record met is a row: how it is `seen` from the question, among it `lower` (m,), than which no packet behind
    it is nearer; counts (m, a) packets per arm; network (m,) the index into `networks`, or -1 for a cell; closed (m,)
    whether it is a cell that is neither opened nor failed; failed (m,) whether it is a cell that could not be opened.
    Networks of other registries stand in `networks` by their DNS names.
    """

    def __init__(
        self, query: Array, arms: Sequence[str], wanted: Sequence[str] | None = None, naming: Naming | None = None
    ) -> None:
        """naming: of the registry that the walk starts at; needed where other registries run parts of the domain."""
        self._query = query
        self._naming = naming
        self.arms = tuple(arms)
        self._wanted = wanted
        self._rows_of: dict[Path, list[int]] = {}
        self._path: list[Path | None] = []
        self._doors: dict[str, _Door] = {}
        self._own: Array = np.zeros(0)  # (m,) lower bounds but for those of the doors
        self._tree: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # (m,) numbers of doors, 0 for none
        self._reasons: dict[int, str] = {}
        self._shut: list[int] = []  # new rows of cells that need not or cannot be opened
        self._index_of: dict[str, int] = {}
        self.networks: list[str] = []
        self.lapsed: set[str] = set()
        self.unresolved: dict[Path, str] = {}
        self.cells_opened = 0
        self.seen = Seen.nothing(len(query))
        self.counts: Array = np.zeros((0, len(self.arms)))
        self.network: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.closed: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.failed: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def opened(self, found: Sequence[tuple[Path, Cell]]) -> None:
        """These cells have these records."""
        blocks = []
        for cell, places in self._placed(found):
            counts = cell.arms(self.arms, self._wanted)
            rows = np.flatnonzero(counts.any(axis=1))
            if not len(rows):
                continue
            paths = [place.path for place in places for _ in range(place.records)]
            network = np.array([self._met(paths[row], cell.records[row]) for row in rows.tolist()], dtype=np.int64)
            sizes = [place.records for place in places]
            floor = np.repeat([place.floor for place in places], sizes)
            tree = np.repeat([place.tree for place in places], sizes)
            seen = cell.seen(self._query)
            seen = replace(seen, lower=np.maximum(seen.lower, floor))
            whole = len(rows) == len(cell.records)
            blocks.append((seen if whole else seen[rows], counts if whole else counts[rows], network, tree[rows]))
        if not blocks:
            return
        new = Seen.joined([seen for seen, *_ in blocks])
        counts, network, tree = (np.concatenate(column) for column in list(zip(*blocks, strict=True))[1:])
        self.seen = Seen.joined([self.seen, new])
        self._own = np.concatenate([self._own, new.lower])
        self._tree = np.concatenate([self._tree, tree])
        self.counts = np.concatenate([self.counts, counts])
        self.network = np.concatenate([self.network, network])
        self.closed = np.concatenate([self.closed, network < 0])
        self.failed = np.concatenate([self.failed, np.zeros(len(network), dtype=np.bool_)])
        for row in self._shut:
            self.closed[row], self.failed[row] = False, row in self._reasons
        self._shut.clear()
        self._bound()

    def _placed(self, found: Sequence[tuple[Path, Cell]]) -> list[tuple[Cell, list[_Place]]]:
        """The cells, joined where that is possible, with the places that the records of each come from, in order."""
        places = []
        for path, cell in found:
            led = self._close_no_more(path)
            self.cells_opened += 1
            apex = apex_of(path)
            door = None if apex is None else self._doors[apex]
            if door is not None and door.path == path:
                door.root, led = cell, []  # what is said of it bounds all of its tree
            floor = float(self._own[led[0]]) if led else 0.0
            places.append(_Place(path, len(cell.records), floor, 0 if door is None else door.number))
        joined = Cell.joined([cell for _, cell in found])
        if len(joined) == len(places):
            return [(cell, [place]) for cell, place in zip(joined, places, strict=True)]
        return [(joined[0], places)]

    def could_not_open(self, path: Path, reason: str) -> None:
        """The cell is unresolved: it bounds what can be certified, and is never taken for empty."""
        for row in self._close_no_more(path):
            self.failed[row] = True
            self._reasons[row] = reason
        self.unresolved[path] = reason

    def wanted(self, radius: Array) -> list[Path]:
        """Closed cells that may hold a packet within radius (a,) of some arm, nearest first."""
        if not self.cells_opened and () not in self.unresolved:
            return [()]
        rows = np.flatnonzero(self.closed & self.reaches(radius).any(axis=1))
        order = rows[np.argsort(self.lower[rows], kind="stable")]
        return list(dict.fromkeys(path for row in order if (path := self._path[row]) is not None))

    def reaches(self, radius: Array) -> npt.NDArray[np.bool_]:
        """(m, a): whether a row may hold a packet of the arm within radius (a,) of the question."""
        result: npt.NDArray[np.bool_] = (self.counts > 0) & (self.lower[:, None] <= radius[None, :])
        return result

    def path(self, row: int) -> Path:
        """The cell of a row that is one."""
        path = self._path[row]
        if path is None:
            raise IndexError(f"row {row} is a network's region")
        return path

    def reason(self, row: int) -> str | None:
        """Why the cell of a row could not be opened."""
        return self._reasons.get(row)

    @property
    def lower(self) -> Array:
        """(m,): no packet behind a row is nearer."""
        return self.seen.lower

    @property
    def outside(self) -> set[str]:
        """Apexes of registries whose root reaches beyond what is said of them."""
        return {
            apex
            for apex, door in self._doors.items()
            if door.root is not None
            and not any(holds(region, door.root.actions, door.root.bounds) for region in door.stated)
        }

    def _bound(self) -> None:
        """Bounds for what is behind doors: no less than the least that a record which leads there says."""
        if not self._doors:
            return
        floors = np.zeros(1 + len(self._doors))
        for door in self._doors.values():  # those further up come first
            floors[door.number] = np.maximum(self._own[door.rows], floors[self._tree[door.rows]]).min()
        self.seen = replace(self.seen, lower=np.maximum(self._own, floors[self._tree]))

    def _met(self, path: Path, record: CellRecord) -> int:
        """A new row for a record of the cell at `path`: the network's index, -1 for a cell."""
        if record.network is None:
            self._lead(path, record)
            return -1
        self._path.append(None)
        apex = apex_of(path)
        name = record.network if apex is None else f"{record.network}.net.{apex}"
        if record.lapsed:
            self.lapsed.add(name)
        if name not in self._index_of:
            self._index_of[name] = len(self.networks)
            self.networks.append(name)
        return self._index_of[name]

    def _lead(self, path: Path, record: CellRecord) -> None:
        """A new row for a record of the cell at `path` that points to a cell."""
        row = len(self._path)
        if record.apex is None:
            target: Path = (*path[: len(path) - len(address_of(path))], *(record.child or ()))
            refusal = None
        else:
            refusal = self._refusal(path, record.apex)
            target = (*path, record.apex)
            if refusal is None:
                above = apex_of(path)
                door = self._doors.setdefault(record.apex, _Door(1 + len(self._doors), target, above))
                door.rows.append(row)
                door.stated.append(record.region)
                target = door.path
        if len(target) > MAX_DEPTH:
            refusal = f"it lies deeper than {MAX_DEPTH} cells"
        self._path.append(target)
        refusal = refusal or self.unresolved.get(target)
        if refusal is not None:
            self._reasons[row] = refusal
        if refusal is not None or (record.apex is not None and self._doors[record.apex].root is not None):
            self._shut.append(row)
        else:
            self._rows_of.setdefault(target, []).append(row)

    def _refusal(self, path: Path, apex: str) -> str | None:
        """Why the way does not go on from the cell at `path` to the registry at `apex`."""
        if self._naming is None or apex == self._naming.apex or apex in path:
            return f"it leads in a circle, to {apex} again"
        door = self._doors.get(apex)
        return None if door is None or door.above == apex_of(path) else f"two registries lead to {apex}"

    def _close_no_more(self, path: Path) -> list[int]:
        rows = self._rows_of.pop(path, [])
        for row in rows:
            self.closed[row] = False
        return rows
