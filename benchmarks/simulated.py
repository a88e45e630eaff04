"""A federation without sockets: real regions, real tree, real plan, merge and certificate; networks are arrays.

Every cell passes through its DNS records, so what is walked is rounded as on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.certificate import Certificate, certify
from gateway.disposition import Disposition, Outcome
from gateway.merge import Candidate, Merge
from gateway.plan import Plan
from gateway.resolution import Cell, Walk
from regional.batch import Batch
from regional.packet import Packet, identity_digest
from registry.cell import Address, CellRecord, Naming
from registry.record import decode_cell, encode_cell
from registry.region import Region, squared_distances
from registry.tree import build_tree

Fingerprints = npt.NDArray[np.float32]
Cluster = Callable[[Fingerprints, Sequence[str]], Sequence[Region]]

NAMING = Naming("simulated", "kindred.internal.")
GENERATION = 1


class Holder:
    """One network's packets as arrays: fingerprints (n, d), actions (n,)."""

    def __init__(self, name: str, fingerprints: Fingerprints, actions: Sequence[str]) -> None:
        self.name = name
        self.fingerprints = fingerprints
        self.actions = np.array(actions, dtype=object)
        self._exact = fingerprints.astype(np.float64)
        self._digests = [identity_digest(name, node_of(row)) for row in range(len(fingerprints))]

    def order(self, query: npt.NDArray[np.float64]) -> list[tuple[float, bytes, int]]:
        """Every packet as (squared distance, digest, row), in the total order."""
        distances = squared_distances(self._exact, query)
        return sorted(zip(distances.tolist(), self._digests, range(len(distances)), strict=True))

    def nearest(
        self, query: npt.NDArray[np.float64], k: int, arms: Sequence[str], within: Mapping[str, float]
    ) -> list[Packet]:
        """At most k per arm, within the radius of the arm where one is given."""
        distances = squared_distances(self._exact, query)
        found = []
        for arm in arms:
            rows = np.flatnonzero(self.actions == arm) if arm else np.arange(len(distances))
            rows = rows[np.sqrt(distances[rows]) <= within.get(arm, np.inf)]
            if len(rows) > k:
                kth = np.partition(distances[rows], k - 1)[k - 1]
                rows = rows[distances[rows] <= kth]
            best = sorted(rows.tolist(), key=lambda row: (distances[row], self._digests[row]))[:k]
            found.extend(self.packet(row) for row in best)
        return found

    def packet(self, row: int) -> Packet:
        return Packet(
            domain=NAMING.domain,
            space8=bytes(8),
            network=self.name,
            node=node_of(row),
            seq=1,
            t0=0.0,
            time=0.0,
            fingerprint=self.fingerprints[row],
            action=self.actions[row] or None,
        )


def node_of(row: int) -> bytes:
    """The node id of a row."""
    return row.to_bytes(4, "big")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one simulated question came to."""

    neighbours: list[Candidate]
    certificate: Certificate
    asked: frozenset[str]
    cells: int
    rounds: int


class Simulated:
    """Networks, their coverages and the tree over them; `ask` drives the gateway's own decisions."""

    def __init__(
        self, holders: Sequence[Holder], cluster: Cluster, actions: Sequence[str], lapsed: Sequence[str] = ()
    ) -> None:
        self.holders = {holder.name: holder for holder in holders}
        self.actions = tuple(actions)
        leaves = [
            CellRecord(region, network=holder.name, lapsed=holder.name in lapsed)
            for holder in holders
            for region in cluster(holder.fingerprints, list(holder.actions))
        ]
        self.regions = len(leaves)
        d = holders[0].fingerprints.shape[1]
        index = sorted({action for record in leaves for action in record.region.counts})
        self.cells: dict[Address, Cell] = {}
        self.bytes = 0
        for address, records in build_tree(leaves).items():
            wire = encode_cell(records, NAMING, GENERATION, index)
            self.bytes += sum(map(len, wire))
            self.cells[address] = Cell(decode_cell(wire, NAMING, GENERATION, index, d), d)

    def ask(
        self,
        query: Fingerprints,
        k: int,
        per: str = "action",
        broken: frozenset[str] = frozenset(),
        unopened: frozenset[Address] = frozenset(),
    ) -> Asked:
        """One question. `broken` networks do not answer, `unopened` cells do not resolve."""
        point = query.astype(np.float64)
        arms = self.actions if per == "action" and self.actions else ("",)
        walk = Walk(point, arms)
        merge = Merge(point, k, arms)
        plan = Plan(walk, merge, k, arms)
        outcomes: dict[str, Outcome] = {}
        rounds = 0
        while True:
            steps = plan.next(soft=False)
            if not steps.open and not steps.ask:
                break
            rounds += 1
            for address in steps.open:
                plan.cell_done(address)
                if address in unopened:
                    walk.could_not_open(address, "simulated")
            walk.opened([(address, self.cells[address]) for address in steps.open if address not in unopened])
            for ask in steps.ask:
                if ask.network in broken:
                    outcomes[ask.network] = Outcome(Disposition.FAILED, "simulated", 0.0)
                else:
                    found = self.holders[ask.network].nearest(point, k, arms, ask.within)
                    merge.add(ask.network, Batch.of_packets(found), {})
                    outcomes[ask.network] = Outcome(Disposition.ANSWERED, None, 0.0)
                plan.network_done(ask.network)
        certificate = certify(
            walk=walk,
            standing=plan.standing(),
            outcomes=outcomes,
            truncated={},
            radius=merge.radius(),
            arms=arms,
            k=k,
            as_of=0,
            stale=False,
            coverage=[],
        )
        return Asked(merge.nearest(), certificate, plan.asked, walk.cells_opened, rounds)

    def truth(self, query: Fingerprints, k: int, per: str = "action") -> list[tuple[str, bytes]]:
        """The neighbours by brute force over everything pooled, in the same order."""
        point = query.astype(np.float64)
        arms = self.actions if per == "action" and self.actions else ("",)
        pooled = sorted(
            (distance, digest, name, row)
            for name, holder in self.holders.items()
            for distance, digest, row in holder.order(point)
        )
        result = []
        for arm in arms:
            of_arm = [
                (name, node_of(row)) for _, _, name, row in pooled if not arm or self.holders[name].actions[row] == arm
            ]
            result.extend(of_arm[:k])
        return result
