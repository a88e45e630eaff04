"""The catalog zone (RFC 9432): which zones there are, so that secondaries take up new domains by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from registry.dns.rrset import rrset, soa_rdata, txt_rdata
from registry.dns.wire import NS, PTR, SOA, TXT, name_to_wire
from registry.zones.names import Branch, Node
from registry.zones.zone import Ttls, Zone

LABEL = "catalog"
_SCHEMA_VERSION = b"2"  # RFC 9432 section 4.2.1
_TTL = 0  # section 4.1: nobody is to keep them
_NOBODY = "invalid."


def catalog_name(top: str) -> str:
    """The catalog's own name, below the registry's topmost zone; no domain may be called so."""
    return f"{LABEL}.{top}"


def catalog_zone(top: str, apexes: Iterable[str], serial: int, ttls: Ttls) -> Zone:
    """The catalog of the zones at `apexes`. A member's label depends on its name alone, so it stays the same."""
    timers = (serial, ttls.soa_refresh, ttls.soa_retry, ttls.soa_expire, _TTL)
    soa = soa_rdata(_NOBODY, _NOBODY, timers)
    node: Node = (rrset(SOA, _TTL, [soa]), rrset(NS, _TTL, [name_to_wire(_NOBODY)]))
    version = b"\x07version"
    zones = b"\x05zones"
    members: dict[bytes, Node] = {zones: ()}
    for apex in sorted(apexes):
        target = name_to_wire(apex)
        label = hashlib.sha256(target).hexdigest()[:32].encode()
        members[bytes([len(label)]) + label + zones] = (rrset(PTR, _TTL, [target]),)
    branches: dict[bytes, Branch] = {
        b"": {b"": node},
        version: {version: (rrset(TXT, _TTL, [txt_rdata([_SCHEMA_VERSION])]),)},
        zones: members,
    }
    return Zone(catalog_name(top), serial, soa, replace(ttls, apex=_TTL, soa_minimum=_TTL), branches, {})
