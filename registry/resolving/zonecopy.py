"""A zone held in memory as it was transferred: RRsets by question, as few octets as may be. No sockets, no clock.

A name and type costs its question section, its RDATA, and what a dict and two strings of octets take: 2 KB cells of
16 regions are held at about their size on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from registry.dns.message import Records, question_of, soa_numbers, type_of
from registry.dns.wire import DS, NS, RRSIG, SOA, TXT, URI, A, labels_to_text, name_to_wire
from registry.errors import LookupFailed
from registry.zones.delta import Record

_HEAD = struct.Struct("!IH")  # TTL; length of the RDATA

_DENIALS = frozenset({47, 50, 51})  # NSEC, NSEC3, NSEC3PARAM

Change = tuple[int, Sequence[Record], bytes, Sequence[Record]]  # from which serial; removed; the SOA after; added


class ZoneCopy:
    """The zone at `apex`. A value is the RRset's records one after the other: TTL, length, RDATA."""

    def __init__(self, apex: str, soa: Record) -> None:
        """soa: the zone's; the other records are added. Raises struct.error."""
        self.apex = name_to_wire(apex)
        self._held: dict[bytes, bytes] = {}
        self._set_soa(soa[3])
        self.add(soa)

    def add(self, record: Record) -> None:
        """Take one record more, as a whole transfer brings them."""
        if _is_wanted(record):
            owner, rtype, ttl, rdata = record
            key = question_of(owner, rtype)
            self._held[key] = self._held.get(key, b"") + _HEAD.pack(ttl, len(rdata)) + rdata

    def __len__(self) -> int:
        """How many RRsets it holds."""
        return len(self._held)

    @property
    def octets(self) -> int:
        """What keys and values take, without what Python takes for holding them."""
        return sum(len(key) + len(value) for key, value in self._held.items())

    def find(self, asked: bytes) -> Records:
        """The RRset for a question section. Raises LookupFailed: NXDOMAIN or NODATA, REFERRAL below a delegation."""
        value = self._held.get(asked)
        if value is None:
            raise self._lacks(asked)
        signatures = self._held.get(asked[:-4] + RRSIG.to_bytes(2, "big") + asked[-2:])
        found = list(_unpacked(value))
        covering = () if signatures is None else tuple(s for _, s in _unpacked(signatures) if s[:2] == asked[-4:-2])
        return Records(tuple(rdata for _, rdata in found), min(ttl for ttl, _ in found), covering)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take these over, all of them or, with LookupFailed (GARBAGE), none: a whole transfer is due then."""
        serial = self.serial
        soa = b""
        after: dict[bytes, bytes] = {}
        for before, removed, soa, added in changes:
            if before != serial:
                raise _broken(self.apex, f"a difference from serial {before} does not fit {serial}")
            for owner, rtype, _, rdata in filter(_is_wanted, removed):
                self._remove(after, question_of(owner, rtype), rdata)
            for owner, rtype, ttl, rdata in filter(_is_wanted, added):
                key = question_of(owner, rtype)
                held = after.get(key, self._held.get(key, b""))
                after[key] = held + _HEAD.pack(ttl, len(rdata)) + rdata
            serial = soa_numbers(soa)[0]
        ttl = _HEAD.unpack_from(self._held[question_of(self.apex, SOA)])[0]
        after[question_of(self.apex, SOA)] = _HEAD.pack(ttl, len(soa)) + soa
        for key, value in after.items():
            if value:
                self._held[key] = value
            else:
                self._held.pop(key, None)
        self._set_soa(soa)

    def _remove(self, after: dict[bytes, bytes], key: bytes, rdata: bytes) -> None:
        kept = b""
        found = False
        for ttl, each in _unpacked(after.get(key, self._held.get(key, b""))):
            if each == rdata and not found:
                found = True
            else:
                kept += _HEAD.pack(ttl, len(each)) + each
        if not found:
            raise _broken(self.apex, "a difference removes what is not there")
        after[key] = kept

    def _set_soa(self, rdata: bytes) -> None:
        self.serial, self.refresh_s, self.retry_s, self.expire_s, self._minimum = soa_numbers(rdata)
        self.soa = rdata

    def _lacks(self, asked: bytes) -> LookupFailed:
        """Why there is no such RRset."""
        name = asked[:-4]
        shown = labels_to_text(name[:-1]) + "."
        above = name[1 + name[0] :] if type_of(asked) == DS else name
        while len(above) > len(self.apex):
            if question_of(above, NS) in self._held:
                return LookupFailed(f"{shown} is delegated to others, whose zone is not held here", rcode="REFERRAL")
            above = above[1 + above[0] :]
        exists = any(question_of(name, rtype) in self._held for rtype in (TXT, URI, SOA, NS, A)) or any(
            key.endswith(name, 0, -4) for key in self._held
        )
        rcode = "NODATA" if exists else "NXDOMAIN"
        ttl = min(_HEAD.unpack_from(self._held[question_of(self.apex, SOA)])[0], self._minimum)
        return LookupFailed(f"the zone's copy has no such record: {rcode} for {shown}", rcode=rcode, ttl_s=ttl)


def _is_wanted(record: Record) -> bool:
    """Denials are of no use here: absence proves nothing."""
    return record[1] not in _DENIALS and not (record[1] == RRSIG and int.from_bytes(record[3][:2], "big") in _DENIALS)


def _unpacked(value: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(value):
        ttl, length = _HEAD.unpack_from(value, position)
        position += _HEAD.size + length
        yield ttl, value[position - length : position]


def _broken(apex: bytes, why: str) -> LookupFailed:
    return LookupFailed(f"the transfer of {labels_to_text(apex[:-1])}. cannot be used: {why}", rcode="GARBAGE")
