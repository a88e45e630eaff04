"""The rules about cells and networks: a walk from the root cell, breadth first, over so many cells at most."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping

import numpy as np

from gateway.conformance.asker import Asker, code, records_of
from gateway.conformance.rules import Findings
from registry.dns.message import txt_strings, uri
from registry.dns.wire import MAX_TTL
from registry.errors import LookupFailed
from registry.geometry.cell import MAX_DEPTH, MAX_RECORDS, Address, CellRecord, Naming
from registry.geometry.living import LEAVING
from registry.geometry.region import FLOAT_SLACK, Region, merge_counts
from registry.geometry.summary import extent
from registry.zones.record import decode_cell
from registry.zones.rendering import MAX_CELL_BYTES
from registry.zones.texts import ApexText, NetworkText

RECORD_HEAD = 12  # octets of a record in an answer beside its RDATA: owner by pointer, type, class, TTL, length
ROUNDING = 3 / 126  # of a box's scale, and of a radius: what rounding outward may add to one and not to another


class Tree:
    """One generation of a domain, as far as it has been walked."""

    def __init__(self, asker: Asker, findings: Findings, naming: Naming, text: ApexText) -> None:
        self._asker = asker
        self._findings = findings
        self._naming = naming
        self._text = text
        self._pointing: dict[Address, CellRecord] = {}  # what points to each cell that was met
        self._counted: dict[Address, dict[tuple[str, str], Mapping[str, int]]] = {}  # of the leaf records below a cell
        self.cells = 0
        self.networks: set[str] = set()

    async def walk(self, most: int) -> None:
        """Open the root and what lies below it, `most` cells at most. Raises LookupFailed where no answer comes."""
        waiting: deque[Address] = deque([()])
        while waiting and self.cells < most:
            address = waiting.popleft()
            self.cells += 1
            cell = await self._opened(address)
            for record in cell:
                if record.network is not None:
                    self.networks.add(record.network)
                    self._count(address, record.network, record.region)
                    self._check_contained(address, record.region)
                elif record.child is not None and self._is_new_child(address, record):
                    waiting.append(record.child)
        self._check_counts()

    async def _opened(self, address: Address) -> tuple[CellRecord, ...]:
        """The records of a cell; () where it is not usable, which is noted."""
        name = self._naming.cell(self._text.generation, address)
        answer = await self._asker.ask(name, "SVCB")
        rdatas = records_of(answer, "SVCB")
        held = self._findings.check
        if not held("cell-resolves", bool(rdatas), f"{name} has no SVCB records: {code(answer)}"):
            return ()
        ttls = {rrset.ttl for rrset in answer.answer}
        held("ttl", len(ttls) == 1 and 1 <= min(ttls) <= MAX_TTL, f"{name}: times to live {sorted(ttls)}")
        octets = sum(RECORD_HEAD + len(rdata) for rdata in rdatas)
        small = len(rdatas) <= MAX_RECORDS and octets <= MAX_CELL_BYTES
        held("cell-size", small, f"{name} has {len(rdatas)} records in {octets} octets")
        try:
            text = self._text
            cell = decode_cell(rdatas, self._naming, text.generation, text.actions, text.dimension)
        except LookupFailed as error:
            held("cell-record", False, f"{name}: {error.detail}")
            return ()
        held("cell-record", True, "")
        if address:
            self._check_parent(name, self._pointing[address], cell)
        return cell

    def _is_new_child(self, address: Address, record: CellRecord) -> bool:
        child = record.child or ()
        name = self._naming.cell(self._text.generation, address)
        below = child[:-1] == address and child not in self._pointing
        if not self._findings.check("cell-child", below, f"{name} points to {child}, which is not its own child"):
            return False
        if not self._findings.check("cell-depth", len(child) <= MAX_DEPTH, f"{name} points {len(child)} deep"):
            return False
        self._pointing[child] = record
        return True

    def _check_parent(self, name: str, parent: CellRecord, cell: tuple[CellRecord, ...]) -> None:
        """The record that points to a cell, against the cell's own."""
        lapsed = any(record.lapsed for record in cell)
        wrong = f"{name} has a lapsed record, and what points to it is not lapsed"
        self._findings.check("cell-lapsed", parent.lapsed or not lapsed, wrong)

    def _check_contained(self, address: Address, region: Region) -> None:
        """A leaf record's region, against all that points to the cells above it."""
        for depth in range(1, len(address) + 1):
            name = self._naming.cell(self._text.generation, address[:depth])
            wrong = f"what points to {name} does not contain region {region.id} of {address}"
            self._findings.check("cell-contains", _contains(self._pointing[address[:depth]].region, region), wrong)

    def _count(self, address: Address, network: str, region: Region) -> None:
        """A region that is on its way to another cell stands in both for a while, and counts once."""
        for depth in range(1, len(address) + 1):
            counted = self._counted.setdefault(address[:depth], {})
            met = counted.get((network, region.id), region.counts)
            counted[network, region.id] = {
                action: min(n, met[action]) for action, n in region.counts.items() if action in met
            }

    def _check_counts(self) -> None:
        for address, counted in self._counted.items():
            told = self._pointing[address].region.counts
            for action, n in merge_counts(counted.values()).items():
                name = self._naming.cell(self._text.generation, address)
                wrong = f"what points to {name} counts {told.get(action, 0)} of {action!r}; {n} were met below it"
                self._findings.check("cell-counts", told.get(action, 0) >= n, wrong)

    async def check_networks(self, most: int) -> None:
        """TXT and URI of the networks met, `most` of them. Raises LookupFailed where no answer comes."""
        for network in sorted(self.networks)[:most]:
            name = self._naming.network(network)
            texts, uris = await self._asker.over_tcp(self._asker.query(name, "TXT"), self._asker.query(name, "URI"))
            rdatas = records_of(texts, "TXT")
            try:
                if len(rdatas) != 1:
                    raise LookupFailed(f"{len(rdatas)} TXT records: {code(texts)}")
                NetworkText.from_strings(txt_strings(rdatas[0]))
                self._findings.check("network-text", True, "")
            except (LookupFailed, ValueError) as error:
                self._findings.check("network-text", False, f"{name}: {error}")
            for rdata in records_of(uris, "URI"):
                self._findings.check("network-uri", _is_uri(rdata), f"{name}: {rdata.hex()[:80]}")


def _is_uri(rdata: bytes) -> bool:
    try:
        return ":" in uri(rdata)[2]
    except (ValueError, struct.error):
        return False


def _contains(outer: Region, inner: Region) -> bool:
    """Whether ball and box of `outer` contain what is in both of `inner`, but for what rounding may add to it."""
    faces = np.abs(np.concatenate([inner.lo - inner.centre, inner.hi - inner.centre]))
    slack = ROUNDING * float(faces[np.isfinite(faces)].max(initial=0.0))
    lo, hi = extent(inner)
    if not ((lo + slack >= outer.lo).all() and (hi - slack <= outer.hi).all()):
        return False
    if inner.id == LEAVING:  # the regions that it stands for lie in the ball, one round them all need not
        return True
    apart = float(np.linalg.norm(inner.centre - outer.centre))
    if apart + inner.radius * (1 - ROUNDING) <= outer.radius * (1 + FLOAT_SLACK):
        return True
    corner = np.maximum(np.abs(lo - outer.centre), np.abs(hi - outer.centre)) - slack
    return float(np.linalg.norm(corner.clip(min=0.0))) <= outer.radius * (1 + FLOAT_SLACK)
