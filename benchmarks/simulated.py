"""A federation without sockets: real regions, real tree, real plan, merge and certificate; networks are arrays.

Every cell passes through its DNS records, so what is walked is rounded as on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gateway.certificate import Certificate, certify
from gateway.disposition import Disposition, Outcome
from gateway.planning.candidates import Candidate
from gateway.planning.cell import Cell
from gateway.planning.merge import Merge
from gateway.planning.path import Path
from gateway.planning.plan import Plan
from gateway.planning.resolution import Walk
from gateway.question import Mode
from regional.packets.batch import Batch
from regional.packets.packet import Packet, identity_digest
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.region import Region, squared_distances
from registry.geometry.tree import build_tree
from registry.zones.record import decode_cell, encode_cell

Fingerprints = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Cluster = Callable[[Fingerprints, Sequence[str]], Sequence[Region]]

NAMING = Naming("simulated", "kindred.internal.")
GENERATION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """One network's packets as arrays: fingerprints (n, d), actions (n,)."""

    name: str
    fingerprints: Fingerprints
    actions: Sequence[str]


def node_of(row: int) -> bytes:
    """The node id of a row of a network."""
    return row.to_bytes(4, "big")


class Pool:
    """All packets of all networks as arrays, and their distances to the question at hand."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        self.names = [holder.name for holder in holders]
        sizes = [len(holder.fingerprints) for holder in holders]
        self.owner: Rows = np.repeat(np.arange(len(holders)), sizes)
        self.first = dict(zip(self.names, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.size = dict(zip(self.names, sizes, strict=True))
        self.fingerprints: Fingerprints = np.concatenate([holder.fingerprints for holder in holders])
        self.actions = np.array([action for holder in holders for action in holder.actions], dtype=object)
        self._columns: Float64s = np.asfortranarray(self.fingerprints, dtype=np.float64)
        self._packets: dict[int, Packet] = {}
        self._digests: dict[int, bytes] = {}
        self._asked: Float64s = np.full(self.fingerprints.shape[1], np.nan)
        self._distances: Float64s = np.zeros(0)

    def distances(self, query: Float64s) -> Float64s:
        """(n,) squared, as the gateway computes them."""
        if not np.array_equal(query, self._asked):
            self._distances = squared_distances(self._columns, query)
            self._asked = query.copy()
        return self._distances

    def nearest(self, query: Float64s, rows: Rows, k: int) -> list[int]:
        """The k nearest of `rows` in the total order."""
        distances = self.distances(query)
        if len(rows) > k:
            rows = rows[distances[rows] <= np.partition(distances[rows], k - 1)[k - 1]]
        return sorted(rows.tolist(), key=lambda row: (distances[row], self._digest(row)))[:k]

    def reply(
        self, network: str, query: Float64s, k: int, arms: Sequence[str], within: Mapping[str, float]
    ) -> list[Packet]:
        """What one network answers: at most k per arm, within the radius of the arm where one is given."""
        span = np.arange(self.first[network], self.first[network] + self.size[network])
        distance = np.sqrt(self.distances(query)[span])
        found = []
        for arm in arms:
            near = span[distance <= within.get(arm, np.inf)]
            rows = near[self.actions[near] == arm] if arm else near
            found.extend(self.packet(row) for row in self.nearest(query, rows, k))
        return found

    def packet(self, row: int) -> Packet:
        """The packet of a pooled row."""
        if row not in self._packets:
            network = self.names[self.owner[row]]
            self._packets[row] = Packet(
                domain=NAMING.domain,
                space8=bytes(8),
                network=NAMING.owner(network)[1],
                node=node_of(row - self.first[network]),
                seq=1,
                t0=0.0,
                time=0.0,
                fingerprint=self.fingerprints[row],
                action=self.actions[row] or None,
            )
        return self._packets[row]

    def _digest(self, row: int) -> bytes:
        if row not in self._digests:
            network = self.names[self.owner[row]]
            self._digests[row] = identity_digest(network, node_of(row - self.first[network]))
        return self._digests[row]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one simulated question came to. rounds: waits in a row; waves: those of them that asked networks."""

    neighbours: Sequence[Candidate]
    certificate: Certificate
    asked: frozenset[str]
    cells: int
    rounds: int
    waves: int
    expected_recall: float | None
    order: tuple[str, ...] = field(default=())


class Simulated:
    """Networks, their coverages and the tree over them; `ask` drives the gateway's own decisions."""

    def __init__(
        self, holders: Sequence[Holder], cluster: Cluster, actions: Sequence[str], lapsed: Sequence[str] = ()
    ) -> None:
        self.holders = {holder.name: holder for holder in holders}
        self.pool = Pool(holders)
        self.actions = tuple(actions)
        self.leaves = [
            CellRecord(region, network=holder.name, lapsed=holder.name in lapsed)
            for holder in holders
            for region in cluster(holder.fingerprints, list(holder.actions))
        ]
        self.regions = len(self.leaves)
        self.cells: dict[Path, Cell] = {}
        self.bytes = 0
        self._plant(holders[0].fingerprints.shape[1])

    def _plant(self, d: int) -> None:
        """Build the cells over the leaves."""
        index = sorted({action for record in self.leaves for action in record.region.counts})
        for address, records in build_tree(self.leaves).items():
            wire = encode_cell(records, NAMING, GENERATION, index)
            self.bytes += sum(map(len, wire))
            self.cells[address] = Cell(decode_cell(wire, NAMING, GENERATION, index, d), d)

    def arms(self, per: str) -> tuple[str, ...]:
        """As the gateway chooses them."""
        return self.actions if per == "action" and self.actions else ("",)

    def ask(
        self,
        query: Fingerprints,
        k: int,
        per: str = "action",
        mode: Mode = "exact",
        broken: frozenset[str] = frozenset(),
        unopened: frozenset[Path] = frozenset(),
    ) -> Asked:
        """One question. `broken` networks do not answer, `unopened` cells do not resolve."""
        point = query.astype(np.float64)
        arms = self.arms(per)
        walk = Walk(point, arms, naming=NAMING)
        merge = Merge(point, k, arms)
        plan = Plan(walk, merge, k, arms, mode)
        outcomes: dict[str, Outcome] = {}
        rounds = waves = 0
        while True:
            steps = plan.next(soft=False)
            if not steps.open and not steps.ask:
                break
            rounds += 1
            waves += bool(steps.ask)
            for address in steps.open:
                plan.cell_done(address)
                if address in unopened:
                    walk.could_not_open(address, "simulated")
            walk.opened([(address, self.cells[address]) for address in steps.open if address not in unopened])
            for ask in steps.ask:
                if ask.network in broken:
                    outcomes[ask.network] = Outcome(Disposition.FAILED, "simulated", 0.0)
                else:
                    found = self.pool.reply(ask.network, point, k, arms, ask.within)
                    merge.add(ask.network, Batch.of_packets(found), {})
                    outcomes[ask.network] = Outcome(Disposition.ANSWERED, None, 0.0)
                plan.network_done(ask.network, answered=ask.network not in broken)
        certificate = certify(
            walk=walk,
            standing=plan.standing(),
            outcomes=outcomes,
            truncated={},
            radius=merge.radius(),
            arms=arms,
            k=k,
            nobody_covers=False,
            as_of=1,
            stale=False,
            coverage=[],
        )
        return Asked(
            neighbours=merge.nearest(),
            certificate=certificate,
            asked=plan.asked,
            cells=walk.cells_opened,
            rounds=rounds,
            waves=waves,
            expected_recall=plan.expected_recall(),
            order=tuple(outcomes),
        )

    def nearest(self, query: Fingerprints, k: int, per: str = "action") -> dict[str, list[int]]:
        """The neighbours by brute force over everything pooled: rows of the pool per arm, in the total order."""
        point = query.astype(np.float64)
        everything = np.arange(len(self.pool.owner))
        return {
            arm: self.pool.nearest(point, everything[self.pool.actions == arm] if arm else everything, k)
            for arm in self.arms(per)
        }

    def truth(self, query: Fingerprints, k: int, per: str = "action") -> list[tuple[str, bytes]]:
        """The same as (network, node)."""
        rows = [row for found in self.nearest(query, k, per).values() for row in found]
        return [(self.pool.names[self.pool.owner[row]], self.pool.packet(row).node) for row in rows]
