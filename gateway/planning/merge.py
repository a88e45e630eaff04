"""Candidates from many networks become one list of neighbours, in one total order.

Distances are recomputed here in float64 with a fixed order of summation, whatever a network said. The order
is (squared distance, SHA-256 of (network, node)), so equal distances have one order everywhere, and the K
nearest of the parts are the K nearest of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gateway.planning.candidates import Candidates
from gateway.planning.sent import Sent, overtaken
from regional.packets.batch import Batch
from regional.packets.packet import identity_digest
from regional.releasing.atombatch import AtomBatch
from registry.errors import PacketError
from registry.geometry.region import Vector, squared_distances

# A radius is sent as a distance, compared as a square: this share keeps rounding from losing a packet at exactly r.
RADIUS_SLACK = 1e-12

_Sizes = npt.NDArray[np.int64]
_Places = npt.NDArray[np.int64]  # of packets: the number of their batch and, in the lower bits, the row there
_ROW_BITS = 32
_ROW = (1 << _ROW_BITS) - 1


class _Arm:
    """The candidates of one arm that may still be among the K nearest: m squared distances, places and sizes.

    kth2: the squared distance of the atom with which K nodes are reached.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self.distance2: Vector = np.zeros(0)
        self.place: _Places = np.zeros(0, dtype=np.int64)
        self.size: _Sizes = np.zeros(0, dtype=np.int64)
        self.kth2 = np.inf

    def add(self, distance2: Vector, place: _Places, size: _Sizes) -> None:
        if len(self.distance2):
            near = distance2 <= self.kth2
            distance2 = np.concatenate([self.distance2, distance2[near]])
            place = np.concatenate([self.place, place[near]])
            size = np.concatenate([self.size, size[near]])
        self.kth2 = self._reached(distance2, size)
        if np.isfinite(self.kth2):
            keep = distance2 <= self.kth2
            distance2, place, size = distance2[keep], place[keep], size[keep]
        self.distance2, self.place, self.size = distance2, place, size

    def _reached(self, distance2: Vector, size: _Sizes) -> float:
        if size.sum() < self._k:
            return np.inf
        if len(size) == size.sum():  # packets: no need to put them in order
            return float(np.partition(distance2, self._k - 1)[self._k - 1])
        order = distance2.argsort()
        return float(distance2[order[size[order].cumsum().searchsorted(self._k)]])


class Merge:
    """The nearest atoms so far that have K nodes together, per arm ("" = one arm for all actions); packets are atoms of
    one. Each network is added once."""

    def __init__(self, query: Vector, k: int, arms: Sequence[str], wanted: Sequence[str] | None = None) -> None:
        self._query = query
        self._k = k
        self._names = tuple(arms)
        self._wanted = None if wanted is None else frozenset(wanted)
        self._batches: list[Sent] = []
        self._clear()

    def add(
        self, network: str, batch: Batch | AtomBatch, tied: Mapping[str, int], home: str | None = None
    ) -> frozenset[str]:
        """What one network sent, with how many packets it holds at exactly its last returned distance, per arm.

        home: the network whose packets these are, where it is another one. Of a node that several members of one home
        have sent, the packet of the highest seq counts, once; returned are the networks of which one was older.
        """
        if not len(batch):
            return frozenset()
        sent = Sent(network, batch, tied, home or network)
        others = [each for each in self._batches if each.home == sent.home]
        self._batches.append(sent)
        older, touched = overtaken(sent, others)
        if not touched:
            self._take(len(self._batches) - 1)
        else:
            self._clear()
            for number in range(len(self._batches)):
                self._take(number)
        return older

    def drop(self, network: str) -> None:
        """Take back what one network sent, as if it had not answered."""
        kept = [each for each in self._batches if each.network != network]
        self._batches = []
        self._clear()
        for each in kept:
            self.add(each.network, each.batch, each.tied, each.home)

    def faulty(self) -> tuple[str, str] | None:
        """A network of which a neighbour does not decode, and why; None where all are packets."""
        rows: dict[int, list[int]] = {}
        for name in self._names:
            for place in self._ordered(name)[1].tolist():
                rows.setdefault(place >> _ROW_BITS, []).append(place & _ROW)
        for number, own in rows.items():
            sent = self._batches[number]
            try:
                sent.batch.read(own)
            except PacketError as error:
                return sent.network, error.detail
        return None

    def count(self) -> int:
        """Candidates at hand in all arms."""
        return sum(len(arm.distance2) for arm in self._arms.values())

    def radius(self) -> Vector:
        """(a,): the K-th distance per arm, rounded up; infinite where fewer than K are known."""
        return np.sqrt([self._arms[name].kth2 for name in self._names]) * (1.0 + RADIUS_SLACK)

    def distances(self) -> list[Vector]:
        """Per arm, the ascending distances of the nearest nodes known, at most K."""
        found = []
        for arm in self._arms.values():
            order = arm.distance2.argsort()
            found.append(np.sqrt(arm.distance2[order].repeat(arm.size[order])[: self._k]))
        return found

    def nearby(self, name: str) -> list[tuple[str, Vector, Vector]]:
        """The nearest nodes known of an arm, about K: per network its distances (m,) and offsets from the question
        (m, d)."""
        arm = self._arms[name]
        found = []
        source = arm.place >> _ROW_BITS
        for number in np.unique(source).tolist():
            sent = self._batches[number]
            of_batch = source == number
            rows = (arm.place[of_batch] & _ROW).repeat(arm.size[of_batch])
            points = sent.batch.fingerprints[rows].astype(np.float64)
            distance = np.sqrt(arm.distance2[of_batch].repeat(arm.size[of_batch]))
            found.append((sent.network, distance, points - self._query))
        return found

    def reached(self, network: str) -> dict[str, float]:
        """Per arm, the distance of the last packet that a network sent; 0 where it sent none."""
        return {name: float(np.sqrt(self._last[name].get(network, (0.0, 0))[0])) for name in self._names}

    def nearest(self) -> Candidates:
        """The K nearest of every arm, arms in order, nearest first. Decode them with `faulty` before."""
        ordered = [self._ordered(name) for name in self._names]
        place = np.concatenate([place for _, place in ordered])
        return Candidates(
            np.concatenate([distance2 for distance2, _ in ordered]),
            [(each.home, each.batch) for each in self._batches],
            (place >> _ROW_BITS).tolist(),
            (place & _ROW).tolist(),
            [each.network for each in self._batches],
        )

    def kth(self, name: str) -> float | None:
        """The distance of the K-th neighbour of an arm, None while there are fewer."""
        kth2 = self._arms[name].kth2
        return float(np.sqrt(kth2)) if np.isfinite(kth2) else None

    def kths(self) -> dict[str, float]:
        """`kth` of every arm that has one."""
        return {name: kth for name in self._names if (kth := self.kth(name)) is not None}

    def tied_at_k(self) -> int:
        """Packets known to lie at exactly the K-th distance of their arm, beyond those returned there.

        0 where the K-th place is decided by distance alone.
        """
        return sum(self._tied_beyond(name) for name in self._names)

    def _take(self, number: int) -> None:
        """Let what was sent under this number count, but for what was overtaken."""
        sent, first = self._batches[number], number << _ROW_BITS
        self._order.clear()
        distance2 = squared_distances(sent.batch.fingerprints.astype(np.float64), self._query)
        for name, rows in self._rows(sent.batch).items():
            own = distance2 if rows is None else distance2[rows]
            self._last[name][sent.network] = (float(own.max()), sent.tied.get(name, 0))
            place = np.arange(first, first + len(sent.batch)) if rows is None else rows + first
            size = sent.batch.sizes if rows is None else sent.batch.sizes[rows]
            if sent.overtaken:
                kept = ~np.isin(place - first, list(sent.overtaken))
                own, place, size = own[kept], place[kept], size[kept]
            self._arms[name].add(own, place, size)

    def _clear(self) -> None:
        self._arms = {name: _Arm(self._k) for name in self._names}
        self._last: dict[str, dict[str, tuple[float, int]]] = {name: {} for name in self._names}
        self._order: dict[str, tuple[Vector, _Places]] = {}
        self._returned: dict[str, int] = {}  # nodes in what is ordered

    def _rows(self, batch: Batch | AtomBatch) -> dict[str, npt.NDArray[np.int64] | None]:
        """The rows of a batch that are of each arm of which there are any; None for all."""
        if self._names == ("",) and self._wanted is None:
            return {"": None}
        of_action: dict[str, list[int]] = {}
        for row, action in enumerate(batch.actions):
            of_action.setdefault(action, []).append(row)
        if self._names == ("",):
            wanted = self._wanted or frozenset()
            all_rows = [row for action, rows in of_action.items() if action in wanted for row in rows]
            return {"": np.array(sorted(all_rows), dtype=np.int64)} if all_rows else {}
        return {name: np.array(of_action[name], dtype=np.int64) for name in self._names if name in of_action}

    def _ordered(self, name: str) -> tuple[Vector, _Places]:
        """Squared distances and places of the K nearest of an arm, in the total order."""
        if name not in self._order:
            arm = self._arms[name]
            order = np.argsort(arm.distance2, kind="stable")
            distance2, place, size = arm.distance2[order], arm.place[order], arm.size[order]
            equal = distance2[1:] == distance2[:-1]
            if equal.any():  # the order among equals is that of their digests
                tied = np.zeros(len(distance2), dtype=np.bool_)
                tied[1:] |= equal
                tied[:-1] |= equal
                at = np.flatnonzero(tied)
                equals = zip(distance2[at].tolist(), map(self._digest, place[at].tolist()), at.tolist(), strict=True)
                swapped = [each for _, _, each in sorted(equals)]
                place[at], size[at] = place[swapped], size[swapped]
            reached = size.cumsum()
            enough = int(reached.searchsorted(self._k)) + 1
            self._order[name] = distance2[:enough], place[:enough]
            self._returned[name] = int(reached[:enough][-1:].sum())
        return self._order[name]

    def _digest(self, place: int) -> bytes:
        sent = self._batches[place >> _ROW_BITS]
        return identity_digest(sent.home, sent.batch.nodes[place & _ROW])

    def _tied_beyond(self, name: str) -> int:
        arm = self._arms[name]
        if not np.isfinite(arm.kth2):
            return 0
        self._ordered(name)
        at_kth = arm.distance2 == arm.kth2
        returned = self._returned[name] - int(arm.size[~at_kth].sum())
        # Members of one home that hold the same packets do not count them twice.
        shared = {each.home for each in self._batches if each.overtaken}
        holder = {each.network: each.home if each.home in shared else each.network for each in self._batches}
        held: dict[str, int] = {}
        for number, size in zip((arm.place[at_kth] >> _ROW_BITS).tolist(), arm.size[at_kth].tolist(), strict=True):
            network = holder[self._batches[number].network]
            held[network] = held.get(network, 0) + size
        for sender, (last, n) in self._last[name].items():
            if last == arm.kth2:
                held[holder[sender]] = max(held.get(holder[sender], 0), n)
        return sum(held.values()) - returned
