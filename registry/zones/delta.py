"""What changed between two versions of a zone, record by record: what an incremental transfer sends (RFC 1995)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from registry.dns.rrset import taken_apart
from registry.dns.wire import SOA, name_to_wire
from registry.zones.names import Branch, Names, Node
from registry.zones.zone import Zone

Record = tuple[bytes, int, int, bytes]  # owner name in wire form, type, TTL in seconds, RDATA


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a zone. before, after: serials; before_soa, after_soa: RDATA.

    removed, added: records in no particular order, the SOA not among them. A record whose TTL changed is in both.
    """

    apex: str
    before: int
    after: int
    before_soa: bytes
    after_soa: bytes
    removed: tuple[Record, ...]
    added: tuple[Record, ...]

    @property
    def octets(self) -> int:
        """About what the records take in a transfer."""
        return sum(len(owner) + 10 + len(rdata) for part in (self.removed, self.added) for owner, _, _, rdata in part)


def between(before: Zone, after: Zone) -> Delta:
    """The step from one version of a zone to another; costs what differs, as versions share what does not."""
    apex = name_to_wire(before.apex)
    removed: list[Record] = []
    added: list[Record] = []
    for label in before.branches.keys() | after.branches.keys():
        old, new = before.branches.get(label, {}), after.branches.get(label, {})
        if old is not new:
            for labels, left, come in _changed(old, new):
                owner = labels + apex
                gone, fresh = _apart(_rendered(left), _rendered(come))
                removed += [_record(owner, each) for each in gone]
                added += [_record(owner, each) for each in fresh]
    return Delta(before.apex, before.serial, after.serial, before.soa, after.soa, tuple(removed), tuple(added))


def _changed(old: Branch, new: Branch) -> Iterator[tuple[bytes, Node, Node]]:
    """Names whose RRsets differ: labels, the old ones, the new ones."""
    for labels in old.differing(new) if isinstance(old, Names) and isinstance(new, Names) else old.keys() | new.keys():
        left, come = old.get(labels) or (), new.get(labels) or ()
        if left is not come and left != come:
            yield labels, left, come


def _rendered(node: Node) -> list[bytes]:
    """The records as answers carry them: most are in both versions, and need not be taken apart."""
    return [record for each in node if each.rtype != SOA for record in each.records()]


def _apart(old: list[bytes], new: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """What of each is not in the other; no record is twice in one. Most stand where they stood."""
    start, end = 0, min(len(old), len(new))
    while start < end and old[start] == new[start]:
        start += 1
    left = end - start
    while left and old[-1] == new[-1]:
        del old[-1], new[-1]
        left -= 1
    before, after = frozenset(old[start:]), frozenset(new[start:])
    return [each for each in old[start:] if each not in after], [each for each in new[start:] if each not in before]


def _record(owner: bytes, rendered: bytes) -> Record:
    rtype, ttl, rdata = taken_apart(rendered)
    return owner, rtype, ttl, rdata
