"""Candidates from many networks become one list of neighbours, in one total order.

Distances are recomputed here in float64 with a fixed order of summation, whatever a network said. The order
is (squared distance, SHA-256 of (network, node)), so equal distances have one order everywhere, and the K
nearest of the parts are the K nearest of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regional.packet import Packet, identity_digest
from registry.region import Vector, squared_distances

# A radius is sent as a distance, compared as a square: this share keeps rounding from losing a packet at exactly r.
RADIUS_SLACK = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One packet with its squared distance and its place in the order of equals."""

    distance2: float
    digest: bytes
    network: str
    packet: Packet

    @property
    def key(self) -> tuple[float, bytes]:
        return self.distance2, self.digest


class Merge:
    """The K nearest distinct packets so far, per arm ("" = one arm for all actions)."""

    def __init__(self, query: Vector, k: int, arms: Sequence[str], wanted: Sequence[str] | None = None) -> None:
        self._query = query
        self._wanted = None if wanted is None else frozenset(wanted)
        self._k = k
        self._arms = tuple(arms)
        self._nodes: dict[tuple[str, bytes], Candidate] = {}
        self._nearest: dict[str, list[Candidate]] = {arm: [] for arm in arms}
        self._ties: dict[str, dict[str, tuple[float, int]]] = {arm: {} for arm in arms}

    def add(self, network: str, packets: Sequence[Packet], tied: Mapping[str, int]) -> None:
        """Packets of one network, with how many it holds at exactly its last returned distance, per arm."""
        if not packets:
            return
        points = np.array([packet.fingerprint for packet in packets], dtype=np.float64)
        fresh: dict[str, list[Candidate]] = {}
        for packet, distance2 in zip(packets, squared_distances(points, self._query), strict=True):
            arm = (packet.action or "") if self._arms != ("",) else ""
            if arm not in self._nearest or (self._wanted is not None and packet.action not in self._wanted):
                continue
            node = (network, packet.node)
            known = self._nodes.get(node)
            if known is not None and known.packet.seq >= packet.seq:
                continue
            candidate = Candidate(float(distance2), identity_digest(network, packet.node), network, packet)
            self._nodes[node] = candidate
            fresh.setdefault(arm, []).append(candidate)
        for arm, candidates in fresh.items():
            last = max(candidate.distance2 for candidate in candidates)
            self._ties[arm][network] = (last, tied.get(arm, 0))
            standing = [each for each in self._nearest[arm] if self._nodes[each.network, each.packet.node] is each]
            merged = sorted([*standing, *candidates], key=lambda candidate: candidate.key)
            self._nearest[arm] = merged

    def radius(self) -> Vector:
        """(a,): the K-th distance per arm, rounded up; infinite where fewer than K are known."""
        return np.array(
            [
                np.sqrt(found[self._k - 1].distance2) * (1.0 + RADIUS_SLACK) if len(found) >= self._k else np.inf
                for found in (self._nearest[arm] for arm in self._arms)
            ]
        )

    def distances(self) -> list[Vector]:
        """Per arm, the ascending distances of the nearest known, at most K."""
        return [np.sqrt([each.distance2 for each in self._nearest[arm][: self._k]]) for arm in self._arms]

    def reached(self, network: str) -> dict[str, float]:
        """Per arm, the distance of the last packet that a network sent; 0 where it sent none."""
        ties = {arm: self._ties[arm].get(network) for arm in self._arms}
        return {arm: float(np.sqrt(tie[0])) if tie is not None else 0.0 for arm, tie in ties.items()}

    def nearest(self) -> list[Candidate]:
        """The K nearest of every arm, arms in order, nearest first."""
        return [candidate for arm in self._arms for candidate in self._nearest[arm][: self._k]]

    def kth(self, arm: str) -> float | None:
        """The distance of the K-th neighbour of an arm, None while there are fewer."""
        found = self._nearest[arm]
        return float(np.sqrt(found[self._k - 1].distance2)) if len(found) >= self._k else None

    def tied_at_k(self) -> int:
        """Packets known to lie at exactly the K-th distance of their arm, beyond those returned there.

        0 where the K-th place is decided by distance alone.
        """
        beyond = 0
        for arm in self._arms:
            found = self._nearest[arm]
            if len(found) < self._k:
                continue
            kth = found[self._k - 1].distance2
            returned = sum(1 for candidate in found[: self._k] if candidate.distance2 == kth)
            held: dict[str, int] = {}
            for candidate in found:
                if candidate.distance2 == kth:
                    held[candidate.network] = held.get(candidate.network, 0) + 1
            for network, (last, n) in self._ties[arm].items():
                if last == kth:
                    held[network] = max(held.get(network, 0), n)
            beyond += sum(held.values()) - returned
        return beyond
