"""One domain as published at one time, and the press that makes the next one from it.

An edition never changes. The press keeps the tree of the current generation and changes it in place
(registry.geometry.living); a new generation is made where there is none, where the tree is worn, and where it must not
be relied on any more. Nothing here waits, reads a clock or writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.dns.message import txt_strings
from registry.dns.wire import MAX_NAME, SVCB, TXT
from registry.errors import Corrupt
from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.living import LivingTree, Room
from registry.geometry.region import Region
from registry.geometry.tree import build_tree
from registry.keys import public_text
from registry.publishing.enrolment import DomainEntry
from registry.publishing.holding import Holding
from registry.publishing.member import Member, Members
from registry.versioned import Versioned
from registry.zones.names import Branch, Names
from registry.zones.record import MAX_ID, decode_cell, encode_cell
from registry.zones.rendering import MAX_CELL_BYTES, Rendering
from registry.zones.texts import ApexText
from registry.zones.zone import NET, NetworkEntry, Publication, Ttls, Zone, domain_zone, network_nodes

CAPACITY = 16  # records of a new cell, where they are small enough
AT_ONCE = 1024  # regions of a tree that is built while others wait; one of more grows beside
FULL = 32  # records of a cell beyond which it is divided, likewise
_RECORD_HEAD = 12  # octets of owner pointer, type, class, TTL and length
_COUNT_BYTES = 11  # octets of an action's index and count, at most


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A holding, and whether its lease is over when it is published."""

    holding: Holding
    lapsed: bool

    def covers_as(self, other: Held) -> bool:
        """Whether the tree looks the same for both; leases may differ."""
        return self.holding.coverage is other.holding.coverage and self.lapsed == other.lapsed


@dataclass(frozen=True, slots=True, eq=False)
class Edition:
    """networks: what each network held when it was made. current: its generation, 0 where nobody covers anything.

    expiry: until when (monotonic seconds) each generation is served that is no longer current. cells: of the tree.
    recovered: it was published before a restart; what the configuration says may have changed.
    """

    zone: Zone
    networks: Mapping[str, Held]
    current: int
    expiry: Mapping[int, float] = field(default_factory=dict)
    cells: int = 0
    recovered: bool = False

    def shows(self, held: Mapping[str, Held]) -> bool:
        """Whether it is of the same coverages, lapsed or not."""
        if held is self.networks:
            return True
        return len(held) == len(self.networks) and all(
            name in self.networks and each.covers_as(self.networks[name])
            for name, each in changes(self.networks, held).items()
        )


def changes(before: Mapping[str, Held], held: Mapping[str, Held]) -> dict[str, Held]:
    """Those that are not the same objects as before, in order of names; whoever is as before is the same object."""
    names: Iterable[str] = held
    if isinstance(before, Versioned) and isinstance(held, Versioned):
        names = before.differing(held)
    return {name: held[name] for name in sorted(names) if name in held and before.get(name) is not held[name]}


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """A tree made anew beside the current one, from what `networks` held then, and its names."""

    networks: Mapping[str, Held]
    number: int
    tree: LivingTree
    names: Names


class Press:
    """Makes the editions of one domain, one after the other, in one thread at a time."""

    def __init__(
        self,
        domain: DomainEntry,
        members: Iterable[Member],
        naming: Naming,
        ttls: Ttls,
        domains: Sequence[str],
        keep_s: float,
        margin_s: float = 0.0,
        top: str | None = None,
    ) -> None:
        """domains: all of the origin.

        keep_s: how long a version of the zone may be relied on after the next one; so long a generation is served
        that ceased to be current. margin_s: how much longer what is replaced in a cell stays there. top: see
        Publication.
        """
        self.domain = domain
        self._members = Members((member.name, member) for member in members if member.domain == domain.name)
        self._naming = naming
        self._ttls = ttls
        self._domains = domains
        self._keep_s = keep_s
        self._top = top
        self._overlap_s = keep_s + margin_s
        self._tree: LivingTree | None = None
        self._number = 0  # the generation that the tree is of
        self._grown: Grown | None = None

    @property
    def worn(self) -> bool:
        """Whether a new tree would be the better one, and is not there yet."""
        return self._tree is not None and self._tree.worn and self._grown is None

    @property
    def grown(self) -> bool:
        """Whether a new tree is ready to be published."""
        return self._grown is not None

    def bare(self, before: Edition | None, held: Mapping[str, Held]) -> bool:
        """Whether nothing can be published of what is held before a tree has grown that takes long."""
        if self._grown is not None or self._stands(before):
            return False
        return sum(len(each.holding.coverage.regions) for each in held.values()) > AT_ONCE

    def _stands(self, before: Edition | None) -> bool:
        """Whether there is the tree of the edition `before`, to be changed in place."""
        tree = self._tree
        return before is not None and tree is not None and not tree.empty and before.current == self._number

    def next(
        self, before: Edition | None, number: Callable[[], int], held: Mapping[str, Held], serial: int, now: float
    ) -> Edition:
        """The next edition, with all that is held. number: a generation that was never used, where one is due.

        Until `published` is called it counts for nothing. Raises RegionError, ConfigError; then the next one is a
        new generation.
        """
        stands = self._stands(before)
        tree, self._tree = self._tree, None
        if self._grown is not None:
            return self._turn(before, self._grown, held, serial, now)
        some = any(each.holding.coverage.regions for each in held.values())
        if before is not None and not before.recovered and not before.current and not some:
            return self._bump(before, held, serial, now, {}, 0)
        if before is None or tree is None or not stands:
            return self.build(before, number() if some else 0, held, serial, now)
        edition = self._step(before, tree, held, serial, now)
        self._tree = tree
        return edition

    def published(self, now: float) -> None:
        """The edition made last has been published at `now` (monotonic seconds)."""
        if self._tree is not None:
            self._tree.publish(now)

    def build(self, before: Edition | None, number: int, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        """The next edition, with a new tree over all that is held, as generation `number`.

        A domain in which nobody covers anything has no current generation (0). Raises RegionError, ConfigError.
        """
        self._grown = None
        leaves = self._leaves(held)
        branches, expiry = self._old(before, now)
        if not leaves:
            return Edition(self._zone(0, held, serial, branches), held, 0, expiry)
        grown = self.grow(number, held, leaves)
        branches[self._rendering(number).label] = grown.names
        self._tree, self._number = grown.tree, grown.number
        return Edition(self._zone(number, held, serial, branches), held, number, expiry, len(grown.names))

    def grow(self, number: int, held: Mapping[str, Held], leaves: Sequence[CellRecord] | None = None) -> Grown:
        """A tree over what is `held`, rendered as generation `number`. leaves: its regions, where they are at hand.

        It may take long, and changes nothing here.
        """
        leaves = self._leaves(held) if leaves is None else leaves
        capacity = self._capacity(leaves)
        cells = build_tree(leaves, capacity, capacity)
        names = Names(dict(self._rendering(number).cells(cells.items())))
        return Grown(held, number, LivingTree(cells, self._room(capacity), self._overlap_s), names)

    def leaves(self) -> list[CellRecord]:
        """What the tree holds now, to grow a new one from."""
        return [] if self._tree is None else list(self._tree.regions())

    def plant(self, grown: Grown) -> None:
        """The next edition is to be of this tree, with what has changed since."""
        self._grown = grown

    def take_up(self, zone: Zone, held: Mapping[str, Held], now: float) -> Edition:
        """The edition that was published as `zone` before a restart, to go on from.

        What is published is compared by its octets with what is held: it is in force where they are equal. Raises
        Corrupt, RegionError or LookupFailed where it is not of this domain as it is now.
        """
        text, own = _text(zone), self._publication(0, {}).text
        if replace(text, generation=0, schema_url=None, serial=None) != replace(own, schema_url=None, serial=None):
            raise Corrupt(f"{self.domain.name}: what was published is of another schema, or of other times to live")
        expiry = {number: now + self._keep_s for number in generations(zone) if number != text.generation}
        if text.generation:
            names = zone.branches.get(self._rendering(text.generation).label, {})
            self._tree, self._number = self._read(text.generation, names, held), text.generation
        cells = 0 if self._tree is None else len(self._tree.cells)
        return Edition(zone, {}, text.generation, expiry, cells, recovered=True)

    def _read(self, number: int, names: Branch, held: Mapping[str, Held]) -> LivingTree:
        """The tree as it is published in `names`."""
        rendering = self._rendering(number)
        actions, d = self.domain.schema.actions, self.domain.schema.dimension
        leaves = self._leaves(held)
        known = {rdata[:-1]: leaf for leaf, rdata in zip(leaves, rendering.rdatas(leaves), strict=True)}
        suffix = len(rendering.label)
        cells: dict[Address, tuple[CellRecord, ...]] = {}
        for labels, node in names.items():
            rdatas = [(ttl, rdata) for each in node if each.rtype == SVCB for ttl, rdata in each.rdatas()]
            if {ttl for ttl, _ in rdatas} != {self._ttls.cell}:
                raise Corrupt(f"{self.domain.name}: what was published has other times to live")
            decoded = decode_cell([rdata for _, rdata in rdatas], self._naming, number, actions, d)
            cells[_address(labels[:-suffix])] = tuple(
                replace(same, lapsed=record.lapsed) if (same := known.pop(rdata[:-1], None)) is not None else record
                for record, (_, rdata) in zip(decoded, rdatas, strict=True)
            )
        leaves = [record for cell in cells.values() for record in cell if record.child is None]
        return LivingTree(cells, self._room(self._capacity(leaves)), self._overlap_s)

    def _step(self, before: Edition, tree: LivingTree, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        """The same generation, with what has changed in it."""
        self._bring_up(tree, held, before.networks)
        tree.let_go(now)
        rendering = self._rendering(before.current)
        names = before.zone.branches[rendering.label]
        changed = dict(rendering.changed(names, tree.changes()))
        after = (names if isinstance(names, Names) else Names(names)).changed(changed)
        if before.recovered:
            branches, expiry = self._old(before, now, before.current)
            branches[rendering.label] = after
            return Edition(self._zone(before.current, held, serial, branches), held, before.current, expiry, len(after))
        come = {rendering.label: after} if changed else {}
        return self._bump(before, held, serial, now, come, len(after))

    def _bump(
        self,
        before: Edition,
        held: Mapping[str, Held],
        serial: int,
        now: float,
        come: Mapping[bytes, Branch],
        cells: int,
    ) -> Edition:
        """The same with the branches `come`, what is told of networks, and without generations whose time is over."""
        expiry = {number: at for number, at in before.expiry.items() if at > now}
        gone = {self._rendering(number).label: None for number in before.expiry if number not in expiry}
        zone = before.zone.with_branches(serial, {**come, **gone, **self._told(before, held)})
        return Edition(zone, held, before.current, expiry, cells)

    def _turn(self, before: Edition | None, grown: Grown, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        """The new tree becomes current; the old one is served until no cache can refer to it any more."""
        self._grown = None
        self._bring_up(grown.tree, held, grown.networks)
        rendering = self._rendering(grown.number)
        names = grown.names.changed(dict(rendering.changed(grown.names, grown.tree.changes())))
        branches, expiry = self._old(before, now)
        branches[rendering.label] = names
        self._tree, self._number = grown.tree, grown.number
        return Edition(self._zone(grown.number, held, serial, branches), held, grown.number, expiry, len(names))

    def _bring_up(self, tree: LivingTree, held: Mapping[str, Held], before: Mapping[str, Held]) -> None:
        """The tree is to show what is held; `before`: what it is known to show."""
        changed = changes(before, held)
        for name, each in changed.items():
            old = before.get(name)
            if old is None or not each.covers_as(old):
                tree.cover(self._target(name), self._leaves({name: each}))
        if len(before) != len(held) or any(name not in before for name in changed):
            targets = {self._target(name) for name in held}
            for target in tree.networks():
                if target not in targets:
                    tree.forget(target)

    def _told(self, before: Edition, held: Mapping[str, Held]) -> dict[bytes, Branch | None]:
        """The branch of the networks, where something else is to be said of one of them."""
        changed = {
            name: self._entry(self._members[name], each)
            for name, each in changes(before.networks, held).items()
            if (old := before.networks.get(name)) is None
            or old.holding is not each.holding
            or old.lapsed != each.lapsed
        }
        names = before.zone.branches.get(NET)
        if not changed or not isinstance(names, Names):
            return {}
        return {NET: names.changed(dict(network_nodes(self._naming, changed, self._ttls.endpoint)))}

    def _old(
        self, before: Edition | None, now: float, current: int = 0
    ) -> tuple[dict[bytes, Branch], dict[int, float]]:
        """Branches of generations that are still served beside `current`, and until when."""
        if before is None:
            return {}, {}
        expiry = {number: at for number, at in before.expiry.items() if at > now}
        if before.current and before.current != current:
            expiry[before.current] = now + self._keep_s
        labels = [self._rendering(number).label for number in expiry]
        return {label: before.zone.branches[label] for label in labels}, expiry

    def _zone(self, current: int, held: Mapping[str, Held], serial: int, branches: Mapping[bytes, Branch]) -> Zone:
        """A whole zone: apex, networks, delegations, and `branches` with the cells."""
        names = sorted({*self._members, *held})
        entries = {name: self._entry(self._members[name], held.get(name)) for name in names}
        frame = domain_zone(self._publication(current, entries), serial, self._ttls, self._domains)
        return frame.with_branches(serial, {self._rendering(current).label: None, **branches})

    def _publication(self, current: int, networks: Mapping[str, NetworkEntry]) -> Publication:
        schema = self.domain.schema
        return Publication(
            naming=self._naming,
            dimension=schema.dimension,
            space=schema.space,
            schema=schema.digest,
            actions=schema.actions,
            generations={current: {}} if current else {},
            current=current,
            networks=networks,
            schema_url=self.domain.schema_url,
            parent=self.domain.parent,
            keep_s=int(self._keep_s),
            top=self._top,
        )

    def _leaf(self, name: str, region: Region, lapsed: bool) -> CellRecord:
        """What stands for a region of a member: a registry's points to the apex that is granted to it."""
        grant = self._members[name].grant
        if grant is not None:
            return CellRecord(region, apex=grant.apex, lapsed=lapsed)
        return CellRecord(region, network=name, lapsed=lapsed)

    def _target(self, name: str) -> str:
        """What a member's records point to: they are one another's in the tree."""
        grant = self._members[name].grant
        return name if grant is None else grant.apex

    def _leaves(self, held: Mapping[str, Held]) -> list[CellRecord]:
        return [
            self._leaf(name, region, each.lapsed)
            for name, each in sorted(held.items())
            for region in each.holding.coverage.regions
        ]

    def _rendering(self, number: int) -> Rendering:
        return Rendering(self._naming, number, self.domain.schema.actions, self._ttls.cell)

    def _entry(self, member: Member, each: Held | None) -> NetworkEntry:
        """What is said of a member; of one that has sent no coverage yet, that it has no lease."""
        coverage = None if each is None else each.holding.coverage
        return NetworkEntry(
            serial=0 if coverage is None else coverage.serial,
            issued=0.0 if each is None else each.holding.issued,
            lease_s=0.0 if each is None else each.holding.lease_s,
            packets=0 if coverage is None else coverage.packets,
            uncovered=0 if coverage is None else coverage.uncovered,
            key=public_text(member.key),
            engine=member.engine,
            lapsed=each is None or each.lapsed,
            endpoints=member.endpoints,
            home=member.home,
        )

    def _capacity(self, leaves: Sequence[CellRecord]) -> int:
        """How many records fit a new cell: an inner one is at most as long as a leaf one with every count."""
        longest_id = max(leaves, key=lambda leaf: len(leaf.region.id.encode()))
        longest_name = max(leaves, key=lambda leaf: len(leaf.network or leaf.apex or ""))
        length = max(
            len(encode_cell([leaf], self._naming, 1, self.domain.schema.actions)[0])
            for leaf in (longest_id, longest_name)
        )
        # Centres are of half precision or single; counts and targets vary: room for the longest of each.
        room = 2 * self.domain.schema.dimension + self._counts() + 64
        return max(2, min(CAPACITY, MAX_CELL_BYTES // (length + room + _RECORD_HEAD)))

    def _room(self, capacity: int) -> Room:
        """When a cell is divided: as many records as the longest possible leave room for."""
        longest = MAX_NAME + MAX_ID + 7 * self.domain.schema.dimension + self._counts() + 64 + _RECORD_HEAD
        return Room(capacity, max(capacity, min(FULL, MAX_CELL_BYTES // longest)))

    def _counts(self) -> int:
        return _COUNT_BYTES * (len(self.domain.schema.actions) + 1)


def generations(zone: Zone) -> list[int]:
    """Those whose cells a domain's zone has."""
    return [int(label[2:]) for label in zone.branches if label[1:2] == b"g" and label[2:].isdigit()]


def _text(zone: Zone) -> ApexText:
    """What the apex of a zone says. Raises Corrupt, LookupFailed."""
    for each in zone.branches[b""].get(b"", ()):
        if each.rtype == TXT:
            [(_, rdata)] = each.rdatas()
            return ApexText.from_strings(txt_strings(rdata))
    raise Corrupt(f"the zone {zone.apex} has no TXT at its apex")


def _address(labels: bytes) -> Address:
    """The address of a cell from its labels before the generation's, in wire form."""
    parts, position = [], 0
    while position < len(labels):
        parts.append(int(labels[position + 1 : position + 1 + labels[position]]))
        position += 1 + labels[position]
    return tuple(reversed(parts))
