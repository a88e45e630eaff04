"""One domain as published at one time: its generations, its networks, its zone.

An edition never changes; the next one takes over what did not change. Nothing here waits, reads a clock or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from registry.cell import CellRecord, Naming
from registry.enrolment import DomainEntry, Member
from registry.holding import Holding
from registry.keys import public_text
from registry.record import encode_cell
from registry.region import Region
from registry.tree import build_tree
from registry.zone import MAX_CELL_BYTES, Cells, NetworkEntry, Publication, Ttls, Zone, domain_zone

CAPACITY = 16  # records of a cell, where they are small enough
_RECORD_HEAD = 12  # octets of owner pointer, type, class, TTL and length
_COUNT_BYTES = 11  # octets of an action's index and count, at most


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A holding, and whether its lease is over when it is published."""

    holding: Holding
    lapsed: bool

    @property
    def state(self) -> tuple[int, bool]:
        """Serial and lapse: a new generation is due when it changes."""
        return self.holding.coverage.serial, self.lapsed


@dataclass(frozen=True, slots=True, eq=False)
class Edition:
    """networks: what each network held when the current generation was built (their leases may be newer).

    expiry: until when (monotonic seconds) each generation is served that is no longer current.
    """

    publication: Publication
    zone: Zone
    networks: Mapping[str, Held]
    expiry: Mapping[int, float]

    @property
    def states(self) -> dict[str, tuple[int, bool]]:
        """Serial and lapse of each network in the current generation."""
        return {name: held.state for name, held in self.networks.items()}


class Press:
    """Makes the editions of one domain."""

    def __init__(
        self,
        domain: DomainEntry,
        members: Iterable[Member],
        naming: Naming,
        ttls: Ttls,
        domains: Sequence[str],
        keep_s: float,
        top: str | None = None,
    ) -> None:
        """domains: all of the origin. keep_s: how long a generation is served after it ceased to be current.

        top: see Publication.
        """
        self.domain = domain
        self._members = sorted((member for member in members if member.domain == domain.name), key=lambda m: m.name)
        self._grants = {member.name: member.grant for member in self._members}
        self._naming = naming
        self._ttls = ttls
        self._domains = domains
        self._keep_s = keep_s
        self._top = top

    def build(self, before: Edition | None, number: int, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        """The next edition, with a new tree over all that is held, as generation `number`.

        A domain in which nobody covers anything has no current generation (0). Raises RegionError, ConfigError.
        """
        generations: dict[int, Cells] = {}
        expiry: dict[int, float] = {}
        if before is not None:
            expiry = {old: at for old, at in before.expiry.items() if at > now}
            if before.publication.current:
                expiry[before.publication.current] = now + self._keep_s
            generations = {old: before.publication.generations[old] for old in expiry}
        leaves = [
            self._leaf(name, region, each.lapsed)
            for name, each in sorted(held.items())
            for region in each.holding.coverage.regions
        ]
        if leaves:
            limit = self._capacity(leaves)
            generations[number] = build_tree(leaves, limit, limit)
        schema = self.domain.schema
        publication = Publication(
            naming=self._naming,
            dimension=schema.dimension,
            space=schema.space,
            schema=schema.digest,
            actions=schema.actions,
            generations=generations,
            current=number if leaves else 0,
            networks=self._entries(held),
            schema_url=self.domain.schema_url,
            parent=self.domain.parent,
            top=self._top,
        )
        return Edition(publication, self._zone(publication, serial, before), held, expiry)

    def bump(self, before: Edition, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        """The same tree under another serial, with the newest leases, without the generations whose time is over."""
        networks = {
            name: held[name] if name in held and held[name].state == each.state else each
            for name, each in before.networks.items()
        }
        expiry = {number: at for number, at in before.expiry.items() if at > now}
        entries = self._entries(networks)
        if entries == before.publication.networks and len(expiry) == len(before.expiry):
            return Edition(before.publication, before.zone.with_serial(serial), networks, expiry)
        served = {
            number: cells
            for number, cells in before.publication.generations.items()
            if number in expiry or number == before.publication.current
        }
        publication = replace(before.publication, generations=served, networks=entries)
        return Edition(publication, self._zone(publication, serial, before), networks, expiry)

    def _leaf(self, name: str, region: Region, lapsed: bool) -> CellRecord:
        """What stands for a region of a member: a registry's points to the apex that is granted to it."""
        grant = self._grants.get(name)
        if grant is not None:
            return CellRecord(region, apex=grant.apex, lapsed=lapsed)
        return CellRecord(region, network=name, lapsed=lapsed)

    def _zone(self, publication: Publication, serial: int, before: Edition | None) -> Zone:
        previous = None if before is None else before.zone
        return domain_zone(publication, serial, self._ttls, self._domains, previous)

    def _entries(self, held: Mapping[str, Held]) -> dict[str, NetworkEntry]:
        """What is said of every member; of one that has sent no coverage yet, that it has no lease."""
        entries = {}
        for member in self._members:
            each = held.get(member.name)
            coverage = None if each is None else each.holding.coverage
            entries[member.name] = NetworkEntry(
                serial=0 if coverage is None else coverage.serial,
                issued=0.0 if each is None else each.holding.issued,
                lease_s=0.0 if each is None else each.holding.lease_s,
                packets=0 if coverage is None else coverage.packets,
                uncovered=0 if coverage is None else coverage.uncovered,
                key=public_text(member.key),
                engine=member.engine,
                lapsed=each is None or each.lapsed,
                endpoints=member.endpoints,
            )
        return entries

    def _capacity(self, leaves: Sequence[CellRecord]) -> int:
        """How many records fit a cell: an inner one is at most as long as a leaf one with every count."""
        longest_id = max(leaves, key=lambda leaf: len(leaf.region.id.encode()))
        longest_name = max(leaves, key=lambda leaf: len(leaf.network or leaf.apex or ""))
        length = max(
            len(encode_cell([leaf], self._naming, 1, self.domain.schema.actions)[0])
            for leaf in (longest_id, longest_name)
        )
        # Centres are of half precision or single; counts and targets vary: room for the longest of each.
        room = 2 * self.domain.schema.dimension + _COUNT_BYTES * (len(self.domain.schema.actions) + 1) + 64
        return max(2, min(CAPACITY, MAX_CELL_BYTES // (length + room + _RECORD_HEAD)))
