"""Candidates from many networks become one list of neighbours, in one total order.

Distances are recomputed here in float64 with a fixed order of summation, whatever a network said. The order
is (squared distance, SHA-256 of (network, node)), so equal distances have one order everywhere, and the K
nearest of the parts are the K nearest of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regional.batch import Batch
from regional.packet import Packet, identity_digest
from registry.errors import PacketError
from registry.region import Vector, squared_distances

# A radius is sent as a distance, compared as a square: this share keeps rounding from losing a packet at exactly r.
RADIUS_SLACK = 1e-12


_Place = tuple[float, str, Batch, int]  # squared distance, network, what it sent, the row there


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One neighbour: its packet and its squared distance."""

    distance2: float
    network: str
    packet: Packet


class _Arm:
    """The candidates of one arm that may still be among the K nearest: m rows of (squared distance, batch, row)."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.distance2: Vector = np.zeros(0)
        self.source: npt.NDArray[np.int64] = np.zeros((0, 2), dtype=np.int64)
        self.kth2 = np.inf

    def add(self, distance2: Vector, batch: int, rows: npt.NDArray[np.int64]) -> None:
        near = distance2 <= self.kth2
        source = np.stack([np.full(int(near.sum()), batch), rows[near]], axis=1)
        self.distance2 = np.concatenate([self.distance2, distance2[near]])
        self.source = np.concatenate([self.source, source])
        if len(self.distance2) >= self._k:
            self.kth2 = float(np.partition(self.distance2, self._k - 1)[self._k - 1])
            keep = self.distance2 <= self.kth2
            self.distance2, self.source = self.distance2[keep], self.source[keep]


class Merge:
    """The K nearest packets so far, per arm ("" = one arm for all actions). Each network is added once."""

    def __init__(self, query: Vector, k: int, arms: Sequence[str], wanted: Sequence[str] | None = None) -> None:
        self._query = query
        self._k = k
        self._names = tuple(arms)
        self._wanted = None if wanted is None else frozenset(wanted)
        self._batches: list[tuple[str, Batch, Mapping[str, int]]] = []
        self._clear()

    def add(self, network: str, batch: Batch, tied: Mapping[str, int]) -> None:
        """What one network sent, with how many packets it holds at exactly its last returned distance, per arm."""
        if not len(batch):
            return
        self._order.clear()
        number = len(self._batches)
        self._batches.append((network, batch, tied))
        distance2 = squared_distances(batch.fingerprints.astype(np.float64), self._query)
        actions = np.array(batch.actions, dtype=object)
        for name, arm in self._arms.items():
            if name:
                rows = np.flatnonzero(actions == name)
            elif self._wanted is None:
                rows = np.arange(len(batch))
            else:
                rows = np.flatnonzero([action in self._wanted for action in batch.actions])
            if len(rows):
                self._last[name][network] = (float(distance2[rows].max()), tied.get(name, 0))
                arm.add(distance2[rows], number, rows)

    def drop(self, network: str) -> None:
        """Take back what one network sent, as if it had not answered."""
        kept = [each for each in self._batches if each[0] != network]
        self._batches = []
        self._clear()
        for name, batch, tied in kept:
            self.add(name, batch, tied)

    def faulty(self) -> tuple[str, str] | None:
        """A network of which a neighbour does not decode, and why; None where all are packets."""
        for name in self._names:
            for _, network, batch, row in self._ordered(name):
                try:
                    batch.packet(row)
                except PacketError as error:
                    return network, error.detail
        return None

    def radius(self) -> Vector:
        """(a,): the K-th distance per arm, rounded up; infinite where fewer than K are known."""
        return np.sqrt([self._arms[name].kth2 for name in self._names]) * (1.0 + RADIUS_SLACK)

    def distances(self) -> list[Vector]:
        """Per arm, the ascending distances of the nearest known, at most K."""
        return [np.sqrt(np.sort(self._arms[name].distance2)[: self._k]) for name in self._names]

    def nearby(self, name: str) -> list[tuple[str, Vector, Vector]]:
        """The nearest known of an arm, about K: per network its distances (m,) and offsets from the question (m, d)."""
        arm = self._arms[name]
        found = []
        for number in np.unique(arm.source[:, 0]).tolist():
            network, batch, _ = self._batches[number]
            of_batch = arm.source[:, 0] == number
            points = batch.fingerprints[arm.source[of_batch, 1]].astype(np.float64)
            found.append((network, np.sqrt(arm.distance2[of_batch]), points - self._query))
        return found

    def reached(self, network: str) -> dict[str, float]:
        """Per arm, the distance of the last packet that a network sent; 0 where it sent none."""
        return {name: float(np.sqrt(self._last[name].get(network, (0.0, 0))[0])) for name in self._names}

    def nearest(self) -> list[Candidate]:
        """The K nearest of every arm, arms in order, nearest first. Raises PacketError where `faulty` says so."""
        return [
            Candidate(distance2, network, batch.packet(row))
            for name in self._names
            for distance2, network, batch, row in self._ordered(name)
        ]

    def kth(self, name: str) -> float | None:
        """The distance of the K-th neighbour of an arm, None while there are fewer."""
        kth2 = self._arms[name].kth2
        return float(np.sqrt(kth2)) if np.isfinite(kth2) else None

    def tied_at_k(self) -> int:
        """Packets known to lie at exactly the K-th distance of their arm, beyond those returned there.

        0 where the K-th place is decided by distance alone.
        """
        return sum(self._tied_beyond(name) for name in self._names)

    def _clear(self) -> None:
        self._arms = {name: _Arm(self._k) for name in self._names}
        self._last: dict[str, dict[str, tuple[float, int]]] = {name: {} for name in self._names}
        self._order: dict[str, list[_Place]] = {}

    def _ordered(self, name: str) -> list[_Place]:
        """The K nearest of an arm, in the total order."""
        if name not in self._order:
            arm = self._arms[name]
            found = []
            for distance2, (number, row) in zip(arm.distance2.tolist(), arm.source.tolist(), strict=True):
                network, batch, _ = self._batches[number]
                found.append((distance2, identity_digest(network, batch.nodes[row]), number, row))
            found.sort()
            nearest = [(d2, *self._batches[number][:2], row) for d2, _, number, row in found[: self._k]]
            self._order[name] = nearest
        return self._order[name]

    def _tied_beyond(self, name: str) -> int:
        arm = self._arms[name]
        if not np.isfinite(arm.kth2):
            return 0
        at_kth = arm.distance2 == arm.kth2
        returned = self._k - int((~at_kth).sum())
        held: dict[str, int] = {}
        for number in arm.source[at_kth, 0].tolist():
            network = self._batches[number][0]
            held[network] = held.get(network, 0) + 1
        for network, (last, n) in self._last[name].items():
            if last == arm.kth2:
                held[network] = max(held.get(network, 0), n)
        return sum(held.values()) - returned
