"""Trust anchors: which keys a gateway believes without being told so by DNS (RFC 4033 section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.rdatatype
import dns.zonefile

from registry.dns.wire import DNSKEY, DS, name_to_wire
from registry.errors import ConfigError


class Anchors:
    """DS and DNSKEY RDATA by the apex (wire form) that they are trusted for."""

    def __init__(self, ds: Mapping[bytes, tuple[bytes, ...]], keys: Mapping[bytes, tuple[bytes, ...]]) -> None:
        self.ds = ds
        self.keys = keys

    @property
    def apexes(self) -> frozenset[bytes]:
        """What has an anchor of its own."""
        return frozenset(self.ds) | frozenset(self.keys)

    @classmethod
    def from_file(cls, path: Path) -> Anchors:
        """Read DS and DNSKEY records as zone files, `dnssec-dsfromkey`, `keymgr` and `ldns-key2ds` write them.

        Raises ConfigError.
        """
        try:
            return cls.from_text(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: the anchor cannot be read: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.detail}") from None

    @classmethod
    def from_text(cls, text: str) -> Anchors:
        """Raises ConfigError."""
        try:
            rrsets = dns.zonefile.read_rrsets(text, default_ttl=0, rdclass=None, rdtype=None)
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(f"the anchor is no DS or DNSKEY record in the form of a zone file: {error}") from None
        found: dict[int, dict[bytes, tuple[bytes, ...]]] = {DS: {}, DNSKEY: {}}
        for rrset in rrsets:
            if int(rrset.rdtype) not in found:
                kind = dns.rdatatype.to_text(rrset.rdtype)
                raise ConfigError(f"the anchor has a record of type {kind}; DS and DNSKEY are right")
            owner = name_to_wire(rrset.name.to_text())
            found[int(rrset.rdtype)][owner] = tuple(each.to_wire() or b"" for each in rrset)
        if not any(found.values()):
            raise ConfigError("the anchor has no DS or DNSKEY record")
        return cls(found[DS], found[DNSKEY])
