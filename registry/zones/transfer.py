"""What a zone transfer carries: the messages of AXFR (RFC 5936) and IXFR (RFC 1995), one after the other.

They are made as they are taken, so that a transfer costs one message of memory however large the zone is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from registry.dns.rrset import fixed
from registry.dns.wire import HEADER, SOA, name_to_wire
from registry.zones.delta import Delta, Record
from registry.zones.zone import Zone

MESSAGE = 16_000  # octets of records; names can be pointed to in the first 16 KiB of a message only

_HEADER = struct.Struct("!HHHHHH")
_POINTER = 0xC000
_HALF = 2**31  # of the space of serials, RFC 1982


def is_newer(serial: int, than: int) -> bool:
    """Whether a serial comes after another one (RFC 1982 section 3.2)."""
    return 0 < (serial - than) % 2**32 < _HALF


def whole(zone: Zone) -> Iterator[Record]:
    """The records of AXFR: all of the zone, the SOA first and again last."""
    soa = _soa(zone, zone.soa)
    yield soa
    for owner, each in zone.rrsets():
        if each.rtype != SOA:
            for ttl, rdata in each.rdatas():
                yield owner, each.rtype, ttl, rdata
    yield soa


def changes(zone: Zone, deltas: Sequence[Delta]) -> Iterator[Record]:
    """The records of IXFR: each delta's between SOA records that say from which serial to which (section 4).

    Without deltas, the SOA alone: there is nothing newer.
    """
    soa = _soa(zone, zone.soa)
    yield soa
    for delta in deltas:
        yield _soa(zone, delta.before_soa)
        yield from delta.removed
        yield _soa(zone, delta.after_soa)
        yield from delta.added
    if deltas:
        yield soa


def chain(zone: Zone, serial: int, deltas: Sequence[Delta] | None) -> Sequence[Delta] | None:
    """Those of the deltas that lead from `serial` to the zone as it is; None where they do not."""
    reached = serial
    for number, delta in enumerate(deltas or (), 1):
        if delta.before != reached:
            return None
        reached = delta.after
        if reached == zone.serial:
            return (deltas or ())[:number]
    return None


def messages(ident: int, flags: int, question: bytes, apex: bytes, records: Iterable[Record]) -> Iterator[bytes]:
    """The records as messages of about MESSAGE octets; the first has the question.

    A record that is longer than that has a message of its own. apex: in wire form.
    """
    body = bytearray(question)
    head = (ident, flags, 1)
    count = 0
    known: dict[bytes, int] = {}  # offsets of names in this message
    for owner, rtype, ttl, rdata in records:
        if count and HEADER + len(body) + len(owner) + len(rdata) > MESSAGE:
            yield _HEADER.pack(*head, count, 0, 0) + body
            body.clear()
            known.clear()
            head, count = (ident, flags, 0), 0
        offset = known.get(owner)
        if offset is not None:
            body += (_POINTER | offset).to_bytes(2, "big")
        else:
            here = HEADER + len(body)
            suffix = known.get(apex)
            labels = owner.removesuffix(apex)
            if suffix is not None and labels != owner:
                body += labels + (_POINTER | suffix).to_bytes(2, "big")
            else:
                body += owner
                if labels != owner:
                    known[apex] = here + len(labels)
            known[owner] = here
        body += fixed(rtype, ttl, rdata)
        count += 1
    if count:
        yield _HEADER.pack(*head, count, 0, 0) + body


def _soa(zone: Zone, rdata: bytes) -> Record:
    return name_to_wire(zone.apex), SOA, zone.ttls.apex, rdata
