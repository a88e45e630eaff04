"""What it costs to publish: whole zones by size, one changed coverage among many, and the memory that names take.

"Published" means rendered into a zone that answers. Whole zones are rendered from a tree that is at hand; building the
tree is a row of its own. Of a change all is counted that the publisher does, from the accepted coverage to a new
version in `zones()`, the disk included; not counted is waiting, for other changes and for the clock's next second.
Each part runs in a process of its own, so that memory is that part's. Times are of processors, but for the change.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.report import Figure, Report
from registry.clock import ManualClock
from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.region import Region
from registry.geometry.tree import build_tree
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.holding import Holding
from registry.publishing.journal import Journal
from registry.publishing.member import Member
from registry.publishing.publisher import Publisher
from registry.zones.delta import between
from registry.zones.names import Names
from registry.zones.rendering import Rendering

ISSUE = 4
FIGURE = "2"
ORIGIN = "kindred.internal."
NAMING = Naming("flights", ORIGIN)
D = 24
FANOUT = 16  # records of an inner cell
LEAF = 2  # and of a leaf cell: about two records a name, as the zones that other servers were measured on
CHANGES = 15
REGIONS = 64  # of the coverage that changes: all of them move
SIZES = ((100_000, 3.0), (1_000_000, 40.0))
NETWORKS = (1_000, 10_000)
EACH = 8  # regions of every other network
OCTETS_PER_NAME = 400
MOST_MS = 50.0


def run(report: Report) -> None:
    """Figure 2 of issue 4, but for the secondary."""
    for names, bar in SIZES:
        _apart(report, f"whole {names}", _whole, names, bar)
    for networks in NETWORKS:
        _apart(report, f"change {networks}", _change, networks)


def _apart(report: Report, what: str, part: Callable[..., list[Figure]], *arguments: float) -> None:
    """Run one part in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for figure in pool.apply(part, arguments):
            report.add(figure)
    print(f"  ({what} done)", flush=True)


def _regions(amount: int, seed: int) -> list[Region]:
    random = np.random.default_rng(seed)
    homes = np.random.default_rng(0).standard_normal((200, D)) * 3
    made = []
    for i in range(amount):
        centre = homes[random.integers(200)] + random.standard_normal(D) * 0.5
        var = np.full(D, 0.05)
        made.append(Region(f"r{i}", {"no": 30, "yes": 20}, centre, 1.5, centre - 0.8, centre + 0.8, var, 0.1))
    return made


def _cells(names: int) -> Iterator[tuple[Address, tuple[CellRecord, ...]]]:
    """So many cells of one tree, whose records share a few regions: what is made here takes no memory that counts."""
    regions = _regions(FANOUT, 1)
    inner = 1
    while inner * (FANOUT - 1) + 1 < names:
        inner += 1
    made = 0
    for depth in range(16):
        for address in product(range(FANOUT), repeat=depth):
            if made == names:
                return
            if made < inner:
                yield address, tuple(CellRecord(each, child=(*address, i)) for i, each in enumerate(regions))
            else:
                yield address, tuple(CellRecord(each, network=f"n{made % 1000}") for each in regions[:LEAF])
            made += 1


def _whole(names: int, bar: float) -> list[Figure]:
    gc.collect()
    before, began = _resident(), time.process_time()
    rendered = Names(dict(Rendering(NAMING, 17, ("no", "yes"), 60).cells(_cells(int(names)))))
    seconds = time.process_time() - began
    gc.collect()
    taken = _resident() - before
    records = sum(each.n for node in rendered.values() for each in node)
    apex = len(NAMING.apex) + 1
    wire = sum(len(labels) + apex + len(each.wire) for labels, node in rendered.items() for each in node)
    what = f"{int(names):,} names, {records:,} records, d={D}"
    allowed = 2 * wire + OCTETS_PER_NAME * len(rendered)
    return [
        Figure(ISSUE, FIGURE, f"published: {what}", seconds, "s", bar=f"<= {bar:g}", holds=seconds <= bar),
        Figure(
            ISSUE,
            FIGURE,
            f"memory: {what}",
            taken / len(rendered),
            "B/name",
            f"wire bytes ({wire / len(rendered):.0f} B/name)",
            taken / wire,
            "<= 2 x wire + 400 B/name",
            taken <= allowed,
        ),
    ]


def _change(networks: int) -> list[Figure]:
    return asyncio.run(_changes(networks))


async def _changes(networks: int) -> list[Figure]:
    feature = {"kind": "number", "label": "a size", "unit": "m", "scale": 1.0, "range": [-100.0, 100.0]}
    schema = Schema.from_document(
        {
            "title": "Made",
            "study": "observational",
            "release": "packets",
            "min_cohort": 1,
            "bandwidth_floor": 0.5,
            "actions": {"no": "no", "yes": "yes"},
            "features": {f"f{i}": feature for i in range(D)},
            "outcomes": {"death": {"kind": "binary", "label": "death", "horizon": "30d"}},
        },
        "made.yaml",
    )
    clock = ManualClock()
    figures = []
    what = f"{networks:,} coverages"

    def coverage(network: int, serial: int, amount: int) -> Coverage:
        regions = tuple(_regions(amount, network + 1_000_003 * serial))
        return Coverage(NAMING.domain, f"n{network}", schema.space.hex(), "", serial, 0.0, 9.0, 50 * amount, 0, regions)

    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        enrolment = Accepted(DomainEntry(NAMING.domain, schema), networks, journal, clock)
        for network in range(networks):
            enrolment.accept(coverage(network, 1, REGIONS if network < CHANGES else EACH), clock)
        publisher = Publisher(enrolment, journal, clock)
        leaves = [
            CellRecord(region, network=name)
            for name, held in enrolment.holdings(NAMING.domain).items()
            for region in held.coverage.regions
        ]
        began = time.process_time()
        build_tree(leaves)
        figures.append(
            Figure(
                ISSUE, FIGURE, f"{what}, {len(leaves):,} regions: a whole tree built", time.process_time() - began, "s"
            )
        )
        began = time.process_time()
        while publisher.troubles():  # its tree grows beside
            await publisher.tick()
            await asyncio.sleep(0.01)
            clock.advance(1.0)
        name = f"{what}: first publication, tree and zone"
        figures.append(Figure(ISSUE, FIGURE, name, time.process_time() - began, "s"))
        elapsed, processor, octets, sets = [], [], [], []
        for number in range(CHANGES):
            clock.advance(2.0)
            await publisher.tick()  # whatever is due besides
            before = next(iter(zone for zone in publisher.zones().by_apex.values() if zone.apex == NAMING.apex))
            clock.advance(2.0)
            enrolment.accept(coverage(number, 2, REGIONS), clock)
            began, worked = time.perf_counter(), time.process_time()
            await publisher.tick()  # sees it, and waits for others
            seen, seen_worked = time.perf_counter() - began, time.process_time() - worked
            clock.advance(0.3)
            began, worked = time.perf_counter(), time.process_time()
            await publisher.tick()
            elapsed.append(1000 * (seen + time.perf_counter() - began))
            processor.append(1000 * (seen_worked + time.process_time() - worked))
            after = next(iter(zone for zone in publisher.zones().by_apex.values() if zone.apex == NAMING.apex))
            delta = between(before, after)
            octets.append(delta.octets)
            sets.append(len({record[0] for record in delta.removed + delta.added}))
        median = statistics.median(elapsed)
        least = networks == max(NETWORKS)
        figures += [
            Figure(
                ISSUE,
                FIGURE,
                f"{what}: one of {REGIONS} regions changed, all moved; elapsed, median of {CHANGES}",
                median,
                "ms",
                bar=f"<= {MOST_MS:g}" if least else None,
                holds=median <= MOST_MS if least else None,
            ),
            Figure(ISSUE, FIGURE, f"{what}: the same, processor", statistics.median(processor), "ms"),
            Figure(ISSUE, FIGURE, f"{what}: the same, what a secondary is sent", statistics.median(octets) / 1e3, "kB"),
            Figure(ISSUE, FIGURE, f"{what}: the same, names that changed", statistics.median(sets), "names"),
        ]
        publisher.history.close()
        journal.close()
    return figures


class Accepted(Enrolment):
    """An enrolment whose coverages have been accepted: nothing signed, nothing written."""

    def __init__(self, domain: DomainEntry, networks: int, journal: Journal, clock: ManualClock) -> None:
        members = [
            Member(f"n{i}", domain.name, bytes(32), (f"http://127.0.0.1:9/n{i}",), "embedded") for i in range(networks)
        ]
        super().__init__([domain], members, journal, clock, ORIGIN)

    def accept(self, coverage: Coverage, clock: ManualClock) -> None:
        """As if it had come signed."""
        now = clock.now()
        held = Holding(coverage, "", now, 1e6, now + 1e6, clock.monotonic() + 1e6)
        self._holdings = self._holdings.changed({coverage.network: held})


def _resident() -> int:
    """Octets of memory that this process takes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
