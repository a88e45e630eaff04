"""Exact nearest packets by a scan in memory.

A coarse pass in float32 picks candidates, a fine pass in float64 (`registry.region.squared_distances`, whose
order of summation is fixed) decides. The coarse pass may keep too many, never too few:

Let m be an arm's centre, c = x - m and q' = q - m exact, C and Q their float32 roundings, u = 2^-24, and
S = |C|^2 + |Q|^2. Then, for the true squared distance D of x and q,

    | D - (|C|^2 + |Q|^2 - 2 C.Q) |  <= 4.01 u S     rounding c and q (each within u of its length)
    | fl(C.Q) - C.Q | * 2            <= 1.01 d u S   any order of summation (Higham 2002, section 3.1)
    storing |C|^2, scaling, subtracting <= 4.1 u S

so with margin = (d + 16) u, rounded up to a multiple of 2^-23 so that 1 +- margin is exact in float32,

    |C|^2 (1 - margin) - 2 fl(C.Q) + |Q|^2 (1 - margin)  <=  D
    |C|^2 (1 + margin) - 2 fl(C.Q) + |Q|^2 (1 + margin)  >=  D

as computed, float64's own error in D (below 2e-14 D) included. A packet is a candidate if its lower bound does
not exceed the k-th least upper bound. Centring on the mean keeps S, and with it the slack, small where the data
lie far from the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.engine import Census, NearestQuery, NearestResult
from regional.packet import identity_digest
from regional.packetcbor import Fingerprint
from registry.region import squared_distances

_COARSE_ABOVE: Final = 512  # rows; fewer are measured in float64 at once
_BLOCK: Final = 1 << 19  # numbers; larger products make OpenBLAS wake its threads, which costs more than it saves
_TINY: Final = 1e-35  # what float32 loses below its normal range
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)

Rows = npt.NDArray[np.intp]
Float64s = npt.NDArray[np.float64]
Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Rows of one arm in the total order, their squared distances, and how many lie at the last one."""

    rows: Rows
    distances2: Float64s
    tied: int


class Arm:
    """The packets of one action: rows that are overwritten in place, and removed by moving the last one."""

    def __init__(self, d: int) -> None:
        self.size = 0
        self.nodes: list[bytes] = []
        self.packets: list[bytes] = []
        self._points = np.empty((0, d), dtype=np.float32)
        self._centre = np.zeros(d, dtype=np.float64)
        self._centred = np.empty((0, d), dtype=np.float32)
        self._norms = np.empty(0, dtype=np.float32)
        self._digests = np.empty((0, 4), dtype=np.uint64)
        margin = math.ceil((d + 16) / 2) * 2.0**-23
        self._margin = margin
        self._low, self._high = np.float32(1.0 - margin), np.float32(1.0 + margin)

    @property
    def points(self) -> npt.NDArray[np.float32]:
        """(size, d) float32, as deposited."""
        return self._points[: self.size]

    def digests(self, rows: Rows) -> Digests:
        """(len(rows), 4): identity digests as four big-endian numbers."""
        return self._digests[rows]

    def add(self, node: bytes, digest: bytes, fingerprint: Fingerprint, packet: bytes) -> int:
        """Append a packet; its row."""
        row = self.size
        if row == len(self._norms):
            self._grow()
        self.size += 1
        self.nodes.append(node)
        self.packets.append(packet)
        self._digests[row] = np.frombuffer(digest, dtype=">u8")
        self._write(row, fingerprint)
        return row

    def overwrite(self, row: int, fingerprint: Fingerprint, packet: bytes) -> None:
        """Put a newer packet of the same node and action into its row."""
        self.packets[row] = packet
        self._write(row, fingerprint)

    def remove(self, row: int) -> bytes | None:
        """Take a row out. The last row moves into its place: the node that moved, or None."""
        last = self.size - 1
        for array in (self._points, self._centred, self._norms, self._digests):
            array[row] = array[last]
        self.nodes[row], self.packets[row] = self.nodes[last], self.packets[last]
        self.nodes.pop()
        self.packets.pop()
        self.size = last
        return self.nodes[row] if row != last else None

    def _write(self, row: int, fingerprint: Fingerprint) -> None:
        self._points[row] = fingerprint
        centred = (fingerprint.astype(np.float64) - self._centre).astype(np.float32)
        self._centred[row] = centred
        exact = centred.astype(np.float64)
        self._norms[row] = exact @ exact

    def _grow(self) -> None:
        """Half as much room again, and the centre moved to the mean of what is there."""
        room = max(8, self.size + self.size // 2)
        for name in ("_points", "_centred", "_norms", "_digests"):
            old = getattr(self, name)
            new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
            new[: self.size] = old[: self.size]
            setattr(self, name, new)
        if self.size:
            exact = self.points.astype(np.float64)
            self._centre = exact.mean(axis=0)
            self._centred[: self.size] = exact - self._centre
            exact = self._centred[: self.size].astype(np.float64)
            self._norms[: self.size] = np.einsum("ij,ij->i", exact, exact)

    def nearest(self, query: Float64s, k: int, within: float) -> _Found:
        """The first k rows in the total order among those at a distance of at most `within`."""
        rows = self._candidates(query, k, within)
        distances2 = squared_distances(self._points[rows].astype(np.float64), query)
        if within != np.inf:
            inside = np.sqrt(distances2) <= within
            rows, distances2 = rows[inside], distances2[inside]
        if len(rows) > k:
            last = np.partition(distances2, k - 1)[k - 1]
            nearer = np.flatnonzero(distances2 < last)
            at_last = np.flatnonzero(distances2 == last)
            tied, wanted = len(at_last), k - len(nearer)
            if tied > wanted:  # thousands may lie at the last distance: sort only those that can be wanted
                leading = self._digests[rows[at_last], 0]
                at_last = at_last[leading <= np.partition(leading, wanted - 1)[wanted - 1]]
            chosen = np.concatenate((nearer, at_last))
            rows, distances2 = rows[chosen], distances2[chosen]
        else:
            tied = int(np.count_nonzero(distances2 == distances2.max())) if len(rows) else 0
        order = total_order(distances2, self._digests[rows])[:k]
        return _Found(rows[order], distances2[order], tied)

    def _candidates(self, query: Float64s, k: int, within: float) -> Rows:
        n = self.size
        if n <= max(k, _COARSE_ABOVE):
            return np.arange(n)
        centred = (query - self._centre).astype(np.float32)
        exact = centred.astype(np.float64)
        norm = float(exact @ exact)
        products = np.empty(n, dtype=np.float32)
        step = max(1, _BLOCK // len(query))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            np.dot(self._centred[rows], centred, out=products[rows])
        products *= np.float32(2.0)
        upper = self._norms[:n] * self._high
        upper -= products
        limit = float(np.partition(upper, k - 1)[k - 1]) + 2.0 * self._margin * norm
        if within < 1e18:
            limit = min(limit, within * within * (1.0 + 1e-12) - norm * (1.0 - self._margin))
        lower = np.multiply(self._norms[:n], self._low, out=upper)
        lower -= products
        rounded = np.nextafter(np.float32(min(limit + _TINY, _FLOAT32_MAX)), np.float32(np.inf))
        return np.flatnonzero(lower <= rounded)


def total_order(distances2: Float64s, digests: Digests) -> Rows:
    """The order by squared distance, then by identity digest."""
    return np.lexsort((digests[:, 3], digests[:, 2], digests[:, 1], digests[:, 0], distances2))


class Scan:
    """All packets of a network by action, each findable. Not safe for threads: the engine holds a lock."""

    def __init__(self, network: str, d: int) -> None:
        self._network = network
        self._d = d
        self._arms: dict[str, Arm] = {}
        self._rows: dict[bytes, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, node: bytes, action: str, fingerprint: Fingerprint, packet: bytes) -> None:
        """Make this the node's packet."""
        held = self._rows.get(node)
        if held is not None and held[0] == action:
            self._arms[action].overwrite(held[1], fingerprint, packet)
            return
        self.remove(node)
        arm = self._arms.get(action)
        if arm is None:
            arm = self._arms[action] = Arm(self._d)
        self._rows[node] = action, arm.add(node, identity_digest(self._network, node), fingerprint, packet)

    def remove(self, node: bytes) -> None:
        """Forget the node's packet, if there is one."""
        held = self._rows.pop(node, None)
        if held is None:
            return
        action, row = held
        moved = self._arms[action].remove(row)
        if moved is not None:
            self._rows[moved] = action, row
        if not self._arms[action].size:
            del self._arms[action]

    def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly (see NearestResult)."""
        exact = query.fingerprint.astype(np.float64)
        names = sorted(self._arms if query.actions is None else set(self._arms) & set(query.actions))
        arms = [self._arms[name] for name in names]
        found = [arm.nearest(exact, query.k, query.bound(name)) for name, arm in zip(names, arms, strict=True)]
        packets = [arm.packets[row] for arm, each in zip(arms, found, strict=True) for row in each.rows.tolist()]
        distances2 = np.concatenate([np.empty(0), *(each.distances2 for each in found)])
        if query.per == "action":
            return NearestResult(packets, distances2, {n: f.tied for n, f in zip(names, found, strict=True)})
        if not packets:
            return NearestResult([], distances2, {"": 0})
        digests = np.concatenate([arm.digests(each.rows) for arm, each in zip(arms, found, strict=True)])
        order = total_order(distances2, digests)[: query.k]
        last = distances2[order[-1]]
        tied = sum(_tied_at(each, last) for each in found)
        return NearestResult([packets[i] for i in order.tolist()], distances2[order], {"": tied})

    def census(self) -> Census:
        """A copy of all fingerprints, actions and nodes."""
        names = sorted(self._arms)
        points = [self._arms[name].points for name in names]
        return Census(
            np.concatenate([np.empty((0, self._d), dtype=np.float32), *points]),
            [name for name in names for _ in range(self._arms[name].size)],
            [node for name in names for node in self._arms[name].nodes],
        )


def _tied_at(found: _Found, last: float) -> int:
    """How many packets of the arm lie at the squared distance `last`, which is its own last or nearer."""
    if len(found.rows) and found.distances2[-1] == last:
        return found.tied
    return int(np.count_nonzero(found.distances2 == last))
