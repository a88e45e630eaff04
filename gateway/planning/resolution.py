"""The walk over a domain's cells, as a decision without sockets: what is known, what is still closed.

A driver asks `wanted` which cells to open, looks them up however it likes, and feeds `opened` or `could_not_open`.
Every bound is a lower bound on the distance from the question to any covered packet behind the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import NamedTuple

import numpy as np

from gateway.planning.cell import Cell, Flags, Numbers, Rows, View, arms_of, key
from gateway.planning.doors import Doors
from gateway.planning.expectation import Array, Seen, Singles
from gateway.planning.path import Path, apex_of
from registry.geometry.cell import MAX_DEPTH, Naming

_ROOM = 512  # rows that there is room for from the start
_TOO_DEEP = f"it lies deeper than {MAX_DEPTH} cells"


class _Place(NamedTuple):
    """An opened cell. apex: of the other registry whose tree it is of."""

    path: Path
    cell: Cell
    apex: str | None


class Walk:
    """One question's way through one generation of a domain's tree, and of the trees of registries that run parts.

    Nothing behind a cell is nearer than the record that leads there says: so it is published, and only so much is
    relied upon, whatever the cell itself says (docs/decisions/014-subtrees.md).

    Each record met that counts a packet of an arm is a row. lower (m,): no packet behind it is nearer; middle (m,):
    about half of them are; counts (m, a) packets per arm; closed (m,) whether it is a cell that is neither opened nor
    failed; failed (m,) whether it is a cell that could not be opened.
    Networks of other registries stand in `networks` by their DNS names.
    """

    def __init__(
        self, query: Array, arms: Sequence[str], wanted: Sequence[str] | None = None, naming: Naming | None = None
    ) -> None:
        """naming: of the registry that the walk starts at; needed where other registries run parts of the domain."""
        self.arms = tuple(arms)
        self._wanted = wanted
        self._view = View(query)
        self._doors = Doors(naming)
        self._places: list[_Place] = []
        self._geometry: Singles = np.empty((0, 4 * len(query) + 3), dtype=np.float32)  # (m or more, ...) see Cell
        self._path: dict[int, Path] = {}  # of rows that are wanted, or lead to other registries
        self._rows_of: dict[Path, list[int]] = {}  # the same the other way round, while they are closed
        self._reasons: dict[int, str] = {}
        self._place: Numbers = np.zeros(0, dtype=np.int64)  # (m,) indices into places
        self._record: Numbers = np.zeros(0, dtype=np.int64)  # (m,) indices into the place's records
        self._key: Numbers = np.zeros(0, dtype=np.int64)  # (m,) see gateway.cell
        self._own: Array = np.zeros(0)  # (m,) lower bounds but for those of the doors
        self._network: Numbers = np.zeros(0, dtype=np.int64)
        self._first_of: list[int] = []  # the first row of each network met, as far as `_network` goes
        self._names: list[str] = []  # of networks, as many as somebody wanted to know
        self._kept: list[str] = []  # names whose keys are used
        self.lapsed: set[str] = set()
        self.unresolved: dict[Path, str] = {}
        self.lower: Array = np.zeros(0)
        self.middle: Array = np.zeros(0)
        self.counts: Array = np.zeros((0, len(self.arms)))
        self.closed: Flags = np.zeros(0, dtype=np.bool_)
        self.failed: Flags = np.zeros(0, dtype=np.bool_)

    @property
    def cells_opened(self) -> int:
        return len(self._places)

    def opened(self, found: Sequence[tuple[Path, Cell]]) -> None:
        """These cells have these records."""
        if not found:
            return
        floor = self._entered(found)
        cells = [cell for _, cell in found]
        sizes = [len(cell) for cell in cells]
        counts = arms_of(cells, self.arms, self._wanted)
        keys = np.concatenate([cell.keys for cell in cells])
        first_place = len(self._places) - len(found)
        place = np.arange(first_place, len(self._places)).repeat(sizes)
        record = np.arange(len(keys)) - (np.cumsum(sizes) - sizes).repeat(sizes)
        first, came = len(self._key), len(keys)
        self._make_room(first + came)
        columns = np.concatenate([cell.geometry for cell in cells], out=self._geometry[first : first + came])
        lower, middle = self._view.bounds(columns)
        np.maximum(lower, floor.repeat(sizes), out=lower)
        counted = counts.any(axis=1) if counts.shape[1] != 1 else counts[:, 0] > 0
        if not counted.all():
            columns[: np.count_nonzero(counted)] = columns[counted]
            keys, place, record = keys[counted], place[counted], record[counted]
            counts, lower, middle = counts[counted], lower[counted], middle[counted]
        self._place, self._record = np.concatenate([self._place, place]), np.concatenate([self._record, record])
        self._key, self._own = np.concatenate([self._key, keys]), np.concatenate([self._own, lower])
        self.middle, self.counts = np.concatenate([self.middle, middle]), np.concatenate([self.counts, counts])
        self.closed = np.concatenate([self.closed, keys < 0])
        self.failed = np.concatenate([self.failed, np.zeros(len(keys), dtype=np.bool_)])
        for number, (path, cell, apex) in enumerate(self._places[first_place:], first_place):
            if apex is not None or not cell.plain or len(path) >= MAX_DEPTH:
                for row in (first + np.flatnonzero(place == number)).tolist():
                    self._look_closer(row)
        self.lower = self._behind_doors()

    def could_not_open(self, path: Path, reason: str) -> None:
        """The cell is unresolved: it bounds what can be certified, and is never taken for empty."""
        for row in self._leading_to(path):
            self._fail(row, reason)
        self.unresolved[path] = reason

    def wanted(self, radius: Array) -> list[Path]:
        """Closed cells that may hold a packet within radius (a,) of some arm, nearest first."""
        if not self._places and () not in self.unresolved:
            return [()]
        rows = np.flatnonzero(self.closed & self.reaches(radius))
        order = rows[np.argsort(self.lower[rows], kind="stable")]
        return list(dict.fromkeys([self._path.get(row) or self._led(row) for row in order.tolist()]))

    def reaches(self, radius: Array, rows: Rows | None = None) -> Flags:
        """(m,): whether a row, or each of `rows`, may hold a packet of some arm within radius (a,) of the question."""
        lower = self.lower if rows is None else self.lower[rows]
        if len(radius) == 1:  # every row counts some arm
            near: Flags = lower <= radius[0]
            return near
        counts = self.counts if rows is None else self.counts[rows]
        return np.asarray(((counts > 0) & (lower[:, None] <= radius)).any(axis=1))

    def nearest_of(self, rows: Rows, most: int) -> Rows:
        """The `most` nearest of `rows`, and those that are as near as the last of them."""
        lower = self.lower[rows]
        return rows if len(rows) <= most else rows[lower <= np.partition(lower, most - 1)[most - 1]]

    def seen(self, rows: Rows) -> Seen:
        """Rows as seen from the question."""
        return self._view.seen(self._geometry[rows], self.lower[rows])

    def covariance(self, rows: Rows) -> Array:
        """(d, d): how the packets behind rows lie about the mean of their network (gateway.planning.expectation)."""
        return self._view.covariance(self._geometry[rows], self.counts[rows].sum(axis=1), self._key[rows])

    def path(self, row: int) -> Path:
        """The cell of a row that is one."""
        if self._key[row] >= 0:
            raise IndexError(f"row {row} is a network's region")
        return self._path.get(row) or self._led(row)

    def reason(self, row: int) -> str | None:
        """Why the cell of a row could not be opened."""
        return self._reasons.get(row)

    @property
    def held(self) -> Flags:
        """(m,): whether a row is a network's region."""
        return np.asarray(self._key > 0)

    @property
    def front(self) -> Flags:
        """(m,): whether nothing else is known of what is behind a row: it is no cell that was opened."""
        return self.held | self.closed | self.failed

    @property
    def keys(self) -> Numbers:
        """(m,): the same for rows of the same network; below 0 for a cell."""
        return self._key

    @property
    def networks(self) -> list[str]:
        """Every network met, in the order in which they were."""
        number = int(self.network.max(initial=-1)) + 1
        self._names += [self.name(each) for each in range(len(self._names), number)]
        return self._names

    @property
    def network(self) -> Numbers:
        """(m,): the index into `networks`, or -1 for a cell."""
        if len(self._network) != len(self._key):
            rows = np.flatnonzero(self.held)
            unique, inverse = np.unique(self._key[rows], return_inverse=True)
            first = np.empty(len(unique), dtype=np.int64)
            first[inverse[::-1]] = rows[::-1]
            order = first.argsort()
            number = np.empty(len(unique), dtype=np.int64)
            number[order] = np.arange(len(unique))
            self._network = np.full(len(self._key), -1, dtype=np.int64)
            self._network[rows] = number[inverse]
            self._first_of = first[order].tolist()
        return self._network

    def reached(self, radius: Array) -> Flags:
        """(n,): which networks may hold a packet of some arm within radius (a,) of the question."""
        result = np.zeros(int(self.network.max(initial=-1)) + 1, dtype=np.bool_)
        result[self.network[self.held & self.reaches(radius)]] = True
        return result

    def nearest(self) -> Array:
        """(n,): no packet of a network is nearer."""
        result = np.full(int(self.network.max(initial=-1)) + 1, np.inf)
        held = self.held
        np.minimum.at(result, self.network[held], self.lower[held])
        return result

    def name(self, network: int) -> str:
        """The network of this number."""
        row = self._first_of[network]
        place = self._places[self._place[row]]
        name = str(place.cell.records[self._record[row]].network)
        return name if place.apex is None else f"{name}.net.{place.apex}"

    @property
    def outside(self) -> set[str]:
        """Apexes of registries whose root reaches beyond what is said of them."""
        return self._doors.outside()

    def _make_room(self, rows: int) -> None:
        if rows > len(self._geometry):
            room = np.empty((max(rows, 2 * len(self._geometry), _ROOM), self._geometry.shape[1]), dtype=np.float32)
            room[: len(self._key)] = self._geometry[: len(self._key)]
            self._geometry = room

    def _entered(self, found: Sequence[tuple[Path, Cell]]) -> Array:
        """Takes note of opened cells; (cells,) than which nothing in each is nearer, by the records that lead there."""
        nearest: list[int] = []
        closed: list[int] = []
        for path, cell in found:
            rows = self._leading_to(path)
            closed += rows
            apex = apex_of(path) if self._doors else None
            if apex is not None and (door := self._doors[apex]).path == path:
                door.root, rows = cell, []  # what is said of it bounds all of its tree
            nearest.append(-1 if not rows else rows[0] if len(rows) == 1 else min(rows, key=self._own.__getitem__))
            self._places.append(_Place(path, cell, apex))
        self.closed[closed] = False
        own = np.append(self._own, 0.0)  # of none: no bound
        result: Array = own[nearest]
        return result

    def _leading_to(self, path: Path) -> list[int]:
        """The closed rows that lead to a cell."""
        rows = self._rows_of.pop(path, None)
        if rows is None and path and isinstance(path[-1], int):  # it was not wanted before
            above = next((number for number, place in enumerate(self._places) if place.path == path[:-1]), -1)
            rows = self._beside(above, -1 - path[-1])
        return rows or []

    def _beside(self, place: int, key_of_child: int) -> list[int]:
        return np.flatnonzero((self._place == place) & (self._key == key_of_child) & self.closed).tolist()

    def _led(self, row: int) -> Path:
        """The path of the child that a row leads to; it is remembered, and which rows lead there."""
        number, leads = int(self._place[row]), int(self._key[row])
        place = self._places[number]
        path = (*place.path, -1 - leads)
        rows = self._beside(number, leads) if leads in place.cell.repeated else [row]
        self._path.update(dict.fromkeys(rows, path))
        self._rows_of[path] = rows
        return path

    def _look_closer(self, row: int) -> None:
        """A new row that may lead out of the registry's tree, or too deep, or to a network not plainly named."""
        path, cell, apex = self._places[self._place[row]]
        record = cell.records[self._record[row]]
        if record.network is not None:
            name = record.network if apex is None else f"{record.network}.net.{apex}"
            if record.lapsed:
                self.lapsed.add(name)
            if apex is not None:
                self._kept.append(intern(name))
                self._key[row] = key(name)
            return
        if record.apex is None:
            if len(path) >= MAX_DEPTH:
                self._refuse(row, (*path, -1 - int(self._key[row])), _TOO_DEEP)
            return
        refusal = self._doors.refusal(path, record.apex)
        if refusal is not None:
            self._refuse(row, (*path, record.apex), refusal)
            return
        door = self._doors.lead(path, record.apex, row, record.region)
        refusal = _TOO_DEEP if len(door.path) > MAX_DEPTH else self.unresolved.get(door.path)
        if refusal is not None:
            self._refuse(row, door.path, refusal)
            return
        self._path[row] = door.path
        if door.root is None:
            self._rows_of.setdefault(door.path, []).append(row)
        else:
            self.closed[row] = False

    def _refuse(self, row: int, path: Path, reason: str) -> None:
        self._path[row] = path
        self._fail(row, reason)

    def _fail(self, row: int, reason: str) -> None:
        self.closed[row], self.failed[row] = False, True
        self._reasons[row] = reason

    def _behind_doors(self) -> Array:
        """(m,) bounds: what is behind a door is no nearer than the door."""
        if not self._doors:
            return self._own
        numbers = [0 if place.apex is None else self._doors[place.apex].number for place in self._places]
        tree = np.array(numbers, dtype=np.int64)[self._place]
        result: Array = np.maximum(self._own, self._doors.floors(self._own, tree)[tree])
        return result
