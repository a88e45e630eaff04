"""A domain of any size as its registry publishes it, and the gateway's own decisions walking through it.

The tree, the zone, the records, the walk, the plan and the merge are the real ones; between gateway and registry there
is nothing but the octets of the zone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.coverages import DOMAIN, Coverages, Float64s
from gateway.planning.cell import Cell, View
from gateway.planning.merge import Merge
from gateway.planning.plan import Plan, Steps
from gateway.planning.resolution import Walk
from gateway.question import Mode
from registry.dns.wire import name_to_wire
from registry.geometry.cell import Address, Naming
from registry.geometry.tree import build_tree
from registry.zones.record import decode_cell
from registry.zones.zone import NetworkEntry, Publication, Ttls, Zone, domain_zone

NAMING = Naming(DOMAIN, "kindred.internal.")
GENERATION = 1
ISSUED = 1_800_000_000.0
K = 50
ARMS = ("",)


@dataclass(frozen=True, slots=True)
class Resolved:
    """One question, its walk alone: levels (lookups in a row), cells, octets and records met, networks to ask.

    seconds: of the processor, for all decisions from the question to the plan; the cells were at hand, decoded.
    least: of it, for no more than putting the columns of these cells together and bounding them, once.
    """

    levels: int
    cells: int
    octets: int
    rows: int
    networks: int
    seconds: float
    least: float


@dataclass(frozen=True, slots=True)
class Answered:
    """One question to its end. rounds, waves: in a row; asked: networks; stated: the recall expected."""

    cells: int
    rounds: int
    waves: int
    asked: int
    stated: float
    merge: Merge


class Grown:
    """One domain: its coverages, its tree, its zone. seconds_tree, seconds_zone: of the processor, to build them."""

    def __init__(self, coverages: Coverages, endpoint: Callable[[str], str]) -> None:
        """endpoint: the URI of a network, by its name."""
        self.coverages = coverages
        self.d = int(coverages.questions.shape[1])
        self.schema = coverages.schema
        began = time.process_time()
        self.tree = tree = build_tree(coverages.leaves)
        self.seconds_tree = time.process_time() - began
        self.depth = max(map(len, tree))
        self.cells = len(tree)
        began = time.process_time()
        names = [f"n{number}" for number in range(len(coverages.packets))]
        publication = Publication(
            naming=NAMING,
            dimension=self.d,
            space=self.schema.space,
            schema=self.schema.digest,
            actions=(),
            generations={GENERATION: tree},
            current=GENERATION,
            networks={name: self._entry(endpoint(name)) for name in names},
        )
        self.zone: Zone = domain_zone(publication, int(ISSUED), Ttls(), [DOMAIN], None)
        self.seconds_zone = time.process_time() - began
        self._branch = name_to_wire(f"g{GENERATION}")[:-1]
        self._apex = name_to_wire(NAMING.apex)
        self._decoded: dict[Address, Cell] = {}

    def _entry(self, uri: str) -> NetworkEntry:
        return NetworkEntry(
            serial=1,
            issued=ISSUED,
            lease_s=120.0,
            packets=int(self.coverages.packets.shape[1]),
            uncovered=0,
            key="ed25519:" + "A" * 43 + "=",
            engine="embedded",
            lapsed=False,
            endpoints=(uri,),
        )

    def names(self) -> int:
        """Names in the zone, empty non-terminals included."""
        return sum(map(len, self.zone.branches.values()))

    def octets(self) -> int:
        """Of all records, as answers carry them."""
        return sum(len(each.wire) for _, each in self.zone.rrsets())

    def rdatas(self, address: Address) -> tuple[bytes, ...]:
        """The records of one cell, as published."""
        labels = name_to_wire(NAMING.cell(GENERATION, address)).removesuffix(self._apex)
        node = self.zone.find(labels, self._branch)
        if node is None:
            raise KeyError(address)
        return tuple(rdata for each in node for _, rdata in each.rdatas())

    def cell(self, address: Address) -> Cell:
        """One cell, as a gateway has it in its cache."""
        if address not in self._decoded:
            self._decoded[address] = Cell(decode_cell(self.rdatas(address), NAMING, GENERATION, (), self.d), self.d)
        return self._decoded[address]

    def resolve(self, query: Float64s, mode: Mode) -> Resolved:
        """The walk until it is known whom to ask, from cells at hand."""
        walk, plan, opened, levels = self._walked(query, mode)
        forecast = plan.forecast()
        began = time.process_time()
        self._walked(query, mode, at_hand=True)[1].forecast()
        seconds = time.process_time() - began
        began = time.process_time()
        View(query).bounds(np.concatenate([self.cell(address).geometry for address in opened]))
        least = time.process_time() - began
        octets = sum(len(rdata) + 12 for address in opened for rdata in self.rdatas(address))
        return Resolved(levels, len(opened), octets, len(walk.closed), forecast.networks, seconds, least)

    def fresh(self, questions: Float64s, mode: Mode) -> float:
        """Cells that a question has to look up, after three times as many others have been asked; a mean."""
        seen: set[Address] = set()
        last = max(1, len(questions) // 4)
        new = 0
        for place, query in enumerate(questions):
            opened = set(self._walked(query, mode)[2])
            new += len(opened - seen) if place >= len(questions) - last else 0
            seen |= opened
        return new / last

    def _walked(self, query: Float64s, mode: Mode, at_hand: bool = False) -> tuple[Walk, Plan, list[Address], int]:
        """at_hand: as a gateway does that has all cells in its cache."""
        walk = Walk(query, ARMS)
        plan = Plan(walk, Merge(query, K, ARMS), K, ARMS, mode)
        opened: list[Address] = []
        levels = 0
        while at_hand and (certain := plan.certain()):
            walk.opened([(address, self.cell(address)) for address in certain])
        while steps := plan.next(soft=False).open:
            levels += 1
            opened += steps
            for address in steps:
                plan.cell_done(address)
            walk.opened([(address, self.cell(address)) for address in steps])
        return walk, plan, opened, levels

    def answer(self, query: Float64s, mode: Mode) -> Answered:
        """The question to its end, every network answering."""
        walk, merge = Walk(query, ARMS), Merge(query, K, ARMS)
        plan = Plan(walk, merge, K, ARMS, mode)
        rounds = waves = 0
        steps = Steps()
        while (steps := plan.next(soft=False)).open or steps.ask:
            rounds += 1
            waves += bool(steps.ask)
            for address in steps.open:
                plan.cell_done(address)
            walk.opened([(address, self.cell(address)) for address in steps.open])
            for ask in steps.ask:
                merge.add(ask.network, self.coverages.reply(ask.network, query, K, ask.within), {})
                plan.network_done(ask.network, answered=True)
        stated = plan.expected_recall()
        return Answered(
            cells=walk.cells_opened,
            rounds=rounds,
            waves=waves,
            asked=len(plan.asked),
            stated=1.0 if stated is None else stated,
            merge=merge,
        )
