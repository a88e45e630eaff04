"""A zone as a master file (RFC 1035 section 5.1), for servers and checkers that load one: NSD, Knot, BIND.

RDATA is written in the form of RFC 3597 section 5, so that every octet arrives as it is published here.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

from registry.zones.zone import Zone

_PLAIN = frozenset((string.ascii_letters + string.digits + "-_").encode())


def zone_lines(zone: Zone) -> Iterator[str]:
    """The zone's records, one a line, the SOA first; every name absolute."""
    for owner, rrset in zone.rrsets():
        name = name_text(owner)
        for ttl, rdata in rrset.rdatas():
            yield f"{name} {ttl} IN TYPE{rrset.rtype} \\# {len(rdata)} {rdata.hex()}"


def name_text(wire: bytes) -> str:
    """A wire name as a master file has it: absolute, with every octet but letters, digits, - and _ as \\DDD."""
    labels = []
    position = 0
    while length := wire[position]:
        label = wire[position + 1 : position + 1 + length]
        labels.append("".join(chr(octet) if octet in _PLAIN else f"\\{octet:03}" for octet in label))
        position += 1 + length
    return ".".join(labels) + "."
