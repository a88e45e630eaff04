"""RRsets rendered once, in the form in which answers carry them, and the RDATA that zones need."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from registry.dns.wire import AAAA, IN, QUESTION_POINTER, A, name_to_wire

_FIXED = struct.Struct("!HHIH")  # type, class, TTL, RDLENGTH (RFC 1035 section 4.1.3)
_HEAD = 2 + _FIXED.size  # octets before the RDATA, the owner being a pointer
_SOA_NUMBERS = struct.Struct("!IIIII")
_URI_NUMBERS = struct.Struct("!HH")


class RRset(NamedTuple):
    """The n records of one name and type. wire: each with its owner compressed to the question's name."""

    rtype: int
    n: int
    wire: bytes

    def records(self) -> list[bytes]:
        """Each record as in `wire`."""
        wire, start, found = self.wire, 0, []
        while start < len(wire):
            end = start + _HEAD + (wire[start + _HEAD - 2] << 8 | wire[start + _HEAD - 1])
            found.append(wire[start:end])
            start = end
        return found

    def rdatas(self) -> Iterator[tuple[int, bytes]]:
        """TTL and RDATA of each record."""
        for record in self.records():
            _, ttl, rdata = taken_apart(record)
            yield ttl, rdata


def taken_apart(record: bytes) -> tuple[int, int, bytes]:
    """Type, TTL and RDATA of one of `RRset.records`."""
    rtype, _, ttl, _ = _FIXED.unpack_from(record, 2)
    return rtype, ttl, record[_HEAD:]


def fixed(rtype: int, ttl: int, rdata: bytes) -> bytes:
    """A record without its owner: type, class IN, TTL, length, RDATA."""
    return _FIXED.pack(rtype, IN, ttl, len(rdata)) + rdata


def rendered(rtype: int, ttl: int, rdatas: Iterable[bytes]) -> list[bytes]:
    """Records as in `RRset.wire`. ttl: seconds."""
    return [QUESTION_POINTER + fixed(rtype, ttl, rdata) for rdata in rdatas]


def together(rtype: int, records: Sequence[bytes]) -> RRset:
    """The RRset of `rendered` records."""
    return RRset(rtype, len(records), b"".join(records))


def rrset(rtype: int, ttl: int, rdatas: Iterable[bytes]) -> RRset:
    """Render an RRset. ttl: seconds."""
    return together(rtype, rendered(rtype, ttl, rdatas))


def soa_rdata(host: str, mailbox: str, numbers: tuple[int, int, int, int, int]) -> bytes:
    """RFC 1035 section 3.3.13. numbers: serial, refresh, retry, expire, minimum (seconds)."""
    return name_to_wire(host) + name_to_wire(mailbox) + _SOA_NUMBERS.pack(*numbers)


def txt_rdata(strings: Sequence[bytes]) -> bytes:
    """RFC 1035 section 3.3.14; each string at most 255 octets."""
    return b"".join(bytes([len(each)]) + each for each in strings)


def uri_rdata(priority: int, weight: int, target: str) -> bytes:
    """RFC 7553 section 4.5."""
    return _URI_NUMBERS.pack(priority, weight) + target.encode("ascii")


def address_rrsets(ttl: int, addresses: Iterable[str]) -> tuple[RRset, ...]:
    """The A and the AAAA RRset of IP addresses in text, those of the two that have records."""
    parsed = [ipaddress.ip_address(address) for address in addresses]
    by_type = (
        (A, [a.packed for a in parsed if a.version == 4]),
        (AAAA, [a.packed for a in parsed if a.version == 6]),
    )
    return tuple(rrset(rtype, ttl, packed) for rtype, packed in by_type if packed)
