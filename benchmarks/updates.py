"""What one changed coverage costs: the cells in place, the records that go and come, the octets of the transfer."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.grown import GENERATION, NAMING, Grown
from regional.clustering import regions_of
from registry.dns.wire import SVCB, name_to_wire
from registry.geometry.cell import Address, CellRecord
from registry.geometry.living import LivingTree, Room
from registry.zones.delta import Record
from registry.zones.record import encode_cell
from registry.zones.transfer import messages

ROOM = Room(capacity=16, records=32)
OVERLAP_S = 100.0
CELL_TTL = 60
CHANGED = 10  # one of so many packets of the network is another one


@dataclass(frozen=True, slots=True)
class Update:
    """seconds: of the processor, for the tree and for the records of the cells that changed. octets: of an IXFR
    (RFC 1995) without its SOA records, both for the change and for what it lets go of after the overlap."""

    seconds: float
    cells: int
    octets: int


def updates(grown: Grown, networks: int) -> list[Update]:
    """So many networks, evenly taken, each with a tenth of its packets changed and all gathered anew."""
    tree = LivingTree(grown.tree, ROOM, OVERLAP_S)
    random = np.random.default_rng(9)
    found = []
    now = 0.0
    packets = grown.coverages.packets
    for number in np.linspace(0, len(packets) - 1, networks).astype(int).tolist():
        own = np.array(packets[number])
        rows = random.choice(len(own), len(own) // CHANGED, replace=False)
        own[rows] = np.array(packets[(number + 1) % len(packets)])[rows]
        regions = regions_of(own, [""] * len(own), min_cohort=1)[0]
        began = time.process_time()
        tree.cover(f"n{number}", [CellRecord(region, network=f"n{number}") for region in regions])
        cells, records = _changes(tree)
        seconds = time.process_time() - began
        tree.publish(now)
        now += OVERLAP_S
        tree.let_go(now)
        after, more = _changes(tree)
        tree.publish(now)
        found.append(Update(seconds, cells + after, _octets(records) + _octets(more)))
    return found


def _changes(tree: LivingTree) -> tuple[int, list[Record]]:
    """How many cells differ from what was published, and the records that go and come."""
    records: list[Record] = []
    cells = 0
    for address, before, after in tree.changes():
        cells += 1
        new = encode_cell(after or (), NAMING, GENERATION, ())
        kept = {id(record) for record in before or ()} & {id(record) for record in after or ()}
        gone = [record for record in before or () if id(record) not in kept]
        come = [each for each, record in zip(new, after or (), strict=True) if id(record) not in kept]
        records += _owned(address, [*encode_cell(gone, NAMING, GENERATION, ()), *come])
    return cells, records


def _owned(address: Address, rdatas: list[bytes]) -> list[Record]:
    owner = name_to_wire(NAMING.cell(GENERATION, address))
    return [(owner, SVCB, CELL_TTL, rdata) for rdata in rdatas]


def _octets(records: list[Record]) -> int:
    apex = name_to_wire(NAMING.apex)
    return sum(map(len, messages(0, 0, apex + b"\x00\xfb\x00\x01", apex, records)))
