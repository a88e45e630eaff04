"""Cuts: a name below the origin for which another registry's name servers answer (RFC 1034 section 4.2)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from registry.dns.rrset import RRset, address_rrsets, rrset
from registry.dns.wire import DS, NS, name_to_wire
from registry.errors import ConfigError

_DS = re.compile(r"(\d{1,5}) (\d{1,3}) (\d{1,3}) ((?:[0-9A-Fa-f]{2})+)")
_DS_NUMBERS = struct.Struct("!HBB")
_DIGEST_OCTETS = {1: 20, 2: 32, 4: 48}  # SHA-1, SHA-256, SHA-384 (RFC 4034, 4509, 6605)


@dataclass(frozen=True, slots=True)
class Cut:
    """One of them. name: absolute, of the zone that is served elsewhere.

    servers: the absolute name of each of its name servers, with the addresses that are published as glue.
    ds: RDATA of the DS records of a signed zone (RFC 4034 section 5).
    """

    name: str
    servers: Mapping[str, tuple[str, ...]]
    ds: tuple[bytes, ...] = ()

    def rrsets(self, ttl: int) -> tuple[RRset, ...]:
        """What stands at the name in the zone above: NS, and DS where there are any. ttl: seconds."""
        servers = rrset(NS, ttl, [name_to_wire(host) for host in self.servers])
        return (servers, rrset(DS, ttl, self.ds)) if self.ds else (servers,)

    def glue(self, zone: bytes, ttl: int) -> dict[bytes, tuple[RRset, ...]]:
        """Addresses by the labels of the servers' names, of those that lie in or below `zone` (in wire form)."""
        hosts = {name_to_wire(host): addresses for host, addresses in self.servers.items() if addresses}
        return {
            host.removesuffix(zone): address_rrsets(ttl, addresses)
            for host, addresses in hosts.items()
            if host.endswith(zone) and host != zone
        }


def ds_rdata(text: str) -> bytes:
    """The RDATA of a DS record in its text form, `key-tag algorithm digest-type digest`. Raises ConfigError."""
    found = _DS.fullmatch(" ".join(text.split()))
    numbers = tuple(map(int, found.groups()[:3])) if found else (65536,)
    if found is None or numbers[0] > 65535 or max(numbers[1:]) > 255:
        raise ConfigError(f"{text!r:.80} is no DS record; key tag, algorithm, digest type, digest in hexadecimal")
    digest = bytes.fromhex(found[4])
    if _DIGEST_OCTETS.get(numbers[2], len(digest)) != len(digest):
        raise ConfigError(
            f"a DS digest of type {numbers[2]} has {_DIGEST_OCTETS[numbers[2]]} octets, not {len(digest)}"
        )
    return _DS_NUMBERS.pack(*numbers) + digest
