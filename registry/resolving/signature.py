"""One signature over one RRset (RFC 4034 section 3, RFC 4035 section 5.3): a decision without sockets or clock.

The cryptography is dnspython's and `cryptography`'s; the canonical form is laid out here, for a cell of 16 regions
would take dnspython longer than the verification does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import dns.dnssec
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from cryptography.exceptions import InvalidSignature
from dns.dnssecalgs import get_algorithm_cls_from_dnskey

from registry.dns.wire import DS, IN, name_at, skip_name
from registry.errors import LookupFailed
from registry.resolving.delegation import is_under, shown

ALGORITHMS = {8: "RSASHA256", 10: "RSASHA512", 13: "ECDSAP256SHA256", 14: "ECDSAP384SHA384", 15: "ED25519", 16: "ED448"}
DIGESTS = {2: hashlib.sha256, 4: hashlib.sha384}
MAX_TRIES = 8  # verifications for one RRset: more signatures or keys of one tag are an attack (CVE-2023-50387)
MAX_KEYS = 32  # of one zone

_FIXED = struct.Struct("!HBBIIIH")  # type covered, algorithm, labels, original TTL, expiration, inception, key tag
_RECORD = struct.Struct("!HHIH")
_ZONE_KEY, _REVOKED = 0x0100, 0x0080


@dataclass(frozen=True, slots=True)
class Signature:
    """An RRSIG taken apart. Times: seconds since 1970, as they are on the wire (32 bits)."""

    covered: int
    algorithm: int
    labels: int
    ttl: int
    expiration: int
    inception: int
    tag: int
    signer: bytes
    signed: bytes  # its RDATA up to the signature
    octets: bytes

    @classmethod
    def from_rdata(cls, rdata: bytes) -> Signature:
        """Raises ValueError, IndexError or struct.error."""
        covered, algorithm, labels, ttl, expiration, inception, tag = _FIXED.unpack_from(rdata)
        end = skip_name(rdata, _FIXED.size)
        signer = name_at(rdata, _FIXED.size)
        head = rdata[: _FIXED.size] + signer
        return cls(covered, algorithm, labels, ttl, expiration, inception, tag, signer, head, rdata[end:])


@dataclass(frozen=True, slots=True)
class Key:
    """A zone's key, ready to verify with."""

    rdata: bytes
    algorithm: int
    tag: int
    public: Any

    @classmethod
    @lru_cache(maxsize=1024)
    def from_rdata(cls, rdata: bytes) -> Key | None:
        """The key of a DNSKEY record; None for one that must not sign a zone, or of an algorithm not taken."""
        flags, protocol, algorithm = struct.unpack_from("!HBB", rdata)
        if not flags & _ZONE_KEY or flags & _REVOKED or protocol != 3 or algorithm not in ALGORITHMS:
            return None
        try:
            parsed: Any = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, rdata, 0, len(rdata))
            public = get_algorithm_cls_from_dnskey(parsed).public_cls.from_dnskey(parsed)
        except Exception:  # whatever the library makes of a key that is none
            return None
        return cls(rdata, algorithm, dns.dnssec.key_id(parsed), public)

    def has_digest(self, owner: bytes, ds: bytes) -> bool:
        """Whether the DS RDATA speaks of this key of `owner` (RFC 4034 section 5.1.4)."""
        if len(ds) < 5:
            return False
        tag, algorithm, kind = struct.unpack_from("!HBB", ds)
        digest = DIGESTS.get(kind)
        return (tag, algorithm) == (self.tag, self.algorithm) and (
            digest is not None and digest(owner + self.rdata).digest() == ds[4:]
        )


def keys_of(rdatas: Iterable[bytes]) -> tuple[Key, ...]:
    """The usable keys of a DNSKEY RRset, at most MAX_KEYS."""
    found = (Key.from_rdata(rdata) for rdata in list(rdatas)[:MAX_KEYS])
    return tuple(key for key in found if key is not None)


def admissible(signature: Signature, name: bytes, rtype: int, now: float) -> None:
    """Whether the signature may cover the RRset of `name` and type at `now`. Raises LookupFailed (BOGUS), saying why
    not. name: wire form."""
    labels = 0
    position = 0
    while name[position]:
        position += 1 + name[position]
        labels += 1
    if signature.covered != rtype:
        raise bogus(name, "its signature covers another type")
    if signature.labels != labels:
        raise bogus(name, "its signature is of another name (a wildcard's), which no zone of a registry has")
    if not is_under(name, signature.signer) or (rtype == DS and name == signature.signer):
        raise bogus(name, f"it is signed by {shown(signature.signer)}, which has no say in it")
    if _after(signature.inception, now) > 0:
        raise bogus(name, f"its signature is not valid yet, but in {_after(signature.inception, now)} s")
    if _after(signature.expiration, now) < 0:
        raise bogus(name, f"its signature expired {-_after(signature.expiration, now)} s ago")


def verify(
    signatures: Sequence[Signature], keys: Sequence[Key], name: bytes, rtype: int, rdatas: Sequence[bytes]
) -> Signature:
    """The first of the signatures that one of the keys made over the RRset. Raises LookupFailed (BOGUS).

    rdatas: as they are, for the types that Kindred asks for have no names in them to be changed to lower case.
    """
    tries = 0
    for signature in signatures:
        data = None
        for key in keys:
            if (key.tag, key.algorithm) != (signature.tag, signature.algorithm):
                continue
            tries += 1
            if tries > MAX_TRIES:
                raise bogus(name, f"more than {MAX_TRIES} signatures and keys would have to be tried")
            data = data or _signed(signature, name, rtype, rdatas)
            try:
                key.public.verify(signature.octets, data)
            except (InvalidSignature, ValueError):
                continue
            return signature
    if not tries:
        raise bogus(name, "no key of its zone made its signature")
    raise bogus(name, "its signature does not verify")


def seconds_left(signature: Signature, now: float) -> int:
    """Until the signature expires."""
    return _after(signature.expiration, now)


def bogus(name: bytes, why: str) -> LookupFailed:
    """The error of what does not validate."""
    return LookupFailed(f"{shown(name)} does not validate: {why}", rcode="BOGUS")


def _signed(signature: Signature, name: bytes, rtype: int, rdatas: Sequence[bytes]) -> bytes:
    """RFC 4034 section 3.1.8.1: RRSIG without its signature, then the RRset in canonical order."""
    parts = [signature.signed]
    for rdata in sorted(set(rdatas)):
        parts += (name, _RECORD.pack(rtype, IN, signature.ttl, len(rdata)), rdata)
    return b"".join(parts)


def _after(time: int, now: float) -> int:
    """Seconds from `now` to a time of 32 bits (RFC 4034 section 3.1.5: serial arithmetic)."""
    return (time - int(now) + 2**31) % 2**32 - 2**31
