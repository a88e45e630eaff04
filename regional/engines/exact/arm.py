"""The packets of one action, in memory, and the nearest of them, exactly.

A coarse pass in float32 picks candidates (regional/engines/exact/coarse.py), a fine pass in float64
(`registry.region.squared_distances`, whose order of summation is fixed) decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.engines.exact.coarse import BLOCKS_ABOVE, Coarse, Points
from registry.geometry.region import squared_distances

COARSE_ABOVE: Final = 512  # rows; fewer are measured in float64 at once
_SLACK: Final = 64  # candidates beyond k; so few are sorted with the others

Rows = npt.NDArray[np.intp]
Float64s = npt.NDArray[np.float64]
Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Rows of one arm in the total order, their squared distances, and how many lie at the last one."""

    rows: Rows
    distances2: Float64s
    tied: int


class Arm:
    """Rows that are overwritten in place, and removed by moving the last one."""

    def __init__(self, d: int) -> None:
        self.size = 0
        self.nodes: list[bytes] = []
        self.packets: list[bytes] = []
        self._points = np.empty((0, d), dtype=np.float32)
        self._digests = np.empty((0, 4), dtype=np.uint64)
        self._coarse = Coarse(d)
        self._touched: set[int] | None = None  # rows that changed since blocks are being gathered

    @property
    def points(self) -> Points:
        """(size, d) float32, as deposited."""
        return self._points[: self.size]

    def digests(self, rows: Rows) -> Digests:
        """(len(rows), 4): identity digests as four big-endian numbers."""
        return self._digests[rows]

    def extend(self, nodes: Sequence[bytes], digests: bytes, points: Points, packets: Sequence[bytes]) -> int:
        """Append packets; the first one's row. digests: 32 bytes each; points: (len(nodes), d) float32."""
        start, size = self.size, self.size + len(nodes)
        if size > len(self._points):
            self._reserve(size + max(8, start // 2))
        rows = np.arange(start, size)
        self._digests[start:size] = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)
        self._points[start:size] = points
        self.nodes += nodes
        self.packets += packets
        self.size = size
        self._coarse.extend(rows, points, self.points)
        self._touch(rows)
        return start

    def overwrite(self, rows: Rows, points: Points, packets: Sequence[bytes]) -> None:
        """Put newer packets of the same nodes and action into their rows, each named once."""
        for row, packet in zip(rows.tolist(), packets, strict=True):
            self.packets[row] = packet
        moved = (self._points[rows] != points).any(axis=1)
        rows, points = rows[moved], points[moved]
        if len(rows):
            self._points[rows] = points
            self._coarse.move(rows, points, self.points)
            self._touch(rows)

    def remove(self, row: int) -> bytes | None:
        """Take a row out. The last row moves into its place: the node that moved, or None."""
        last = self.size - 1
        self._coarse.remove(row)
        if row != last:
            self._coarse.rename(last, row)
        for array in (self._points, self._digests):
            array[row] = array[last]
        self.nodes[row], self.packets[row] = self.nodes[last], self.packets[last]
        self.nodes.pop()
        self.packets.pop()
        self.size = last
        self._touch(np.array([row, last]))
        return self.nodes[row] if row != last else None

    def nearest(self, query: Float64s, k: int, within: float, limit2: float) -> Found:
        """The first k rows in the total order, of those no farther than `within` and sqrt(limit2)."""
        if self.size <= max(k, COARSE_ABOVE):
            rows = np.arange(self.size)
        else:
            reach2 = within * within * (1.0 + 1e-12) if within < 1e18 else np.inf
            rows = self._coarse.candidates(query, k, min(reach2, limit2))
        distances2 = squared_distances(np.take(self._points, rows, axis=0).astype(np.float64), query)
        if within != np.inf:
            inside = np.sqrt(distances2) <= within
            rows, distances2 = rows[inside], distances2[inside]
        if len(rows) > k + _SLACK:
            last = np.partition(distances2, k - 1)[k - 1]
            nearer = np.flatnonzero(distances2 < last)
            at_last = np.flatnonzero(distances2 == last)
            tied, wanted = len(at_last), k - len(nearer)
            if tied > wanted:  # thousands may lie at the last distance: sort only those that can be wanted
                leading = self._digests[rows[at_last], 0]
                at_last = at_last[leading <= np.partition(leading, wanted - 1)[wanted - 1]]
            chosen = np.concatenate((nearer, at_last))
            rows, distances2 = rows[chosen], distances2[chosen]
            order = total_order(distances2, lambda which: self._digests[rows[which]])[:k]
        else:
            order = total_order(distances2, lambda which: self._digests[rows[which]])[:k]
            tied = int(np.count_nonzero(distances2 == distances2[order[-1]])) if len(order) else 0
        return Found(rows[order], distances2[order], tied)

    def scattered(self) -> bool:
        """Whether so much is not, or not well, in blocks that gathering it anew pays."""
        coarse = self._coarse
        least = BLOCKS_ABOVE if coarse.blocks is None else BLOCKS_ABOVE // 4
        return coarse.behind > max(least, self.size // 3)

    def gather(self) -> Points:
        """The points, to be gathered into blocks while packets come and go; `adopt` the outcome.

        They are no copy: what is read of a row that changes meanwhile does not matter, `adopt` replaces it.
        """
        self._touched = set()
        return self.points

    def adopt(self, coarse: Coarse, n: int) -> None:
        """Take what was made of the n points of `gather`, and bring it up to now."""
        touched, self._touched = np.array(sorted(self._touched or ()), dtype=np.intp), None
        coarse.void(touched[touched < n])
        now = touched[touched < self.size]
        coarse.extend(now, self._points[now], self.points)
        self._coarse = coarse

    def _touch(self, rows: Rows) -> None:
        if self._touched is not None:
            self._touched.update(rows.tolist())

    def _reserve(self, room: int) -> None:
        for name in ("_points", "_digests"):
            old = getattr(self, name)
            new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
            new[: self.size] = old[: self.size]
            setattr(self, name, new)


def total_order(distances2: Float64s, digests: Callable[[Rows], Digests]) -> Rows:
    """The order by squared distance, then by identity digest; `digests` gives those of the indices asked for."""
    order = np.argsort(distances2)
    ordered = distances2[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():  # only those of equal distance change places, among each other
        places = np.flatnonzero(np.append(same, False) | np.append(False, same))
        which = order[places]
        keys = digests(which)
        order[places] = which[np.lexsort((keys[:, 3], keys[:, 2], keys[:, 1], keys[:, 0], ordered[places]))]
    return order
