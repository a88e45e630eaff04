"""What may be believed of a referral: a decision without sockets.

A server speaks for its own zone only. So a referral must lead from that zone downwards, towards the name that was
asked for; and only those addresses count which it gives of hosts under its own zone (RFC 1034 section 4.2.1, RFC 2181
section 5.4.1; the "bailiwick").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.dns.message import Referral
from registry.errors import LookupFailed

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
MAX_HOSTS = 8  # of a zone's servers, and of their addresses, so many are taken


@dataclass(frozen=True, slots=True)
class Delegation:
    """The zone at `apex` (wire form) and its servers: `addresses` by host, `wanting` those hosts whose addresses are
    to be looked up. ttl: seconds."""

    apex: bytes
    addresses: Mapping[bytes, tuple[str, ...]]
    wanting: tuple[bytes, ...]
    ttl: int


def accept(referral: Referral, at: bytes, target: bytes, within: bytes) -> Delegation:
    """The delegation that a server of the zone `at` gives for `target`. within: the origin, under which alone hosts
    can be looked up. All in wire form. Raises LookupFailed (REFERRAL) for one that may not be followed, and why."""
    cut = referral.cut
    if cut == at:
        raise refused(at, "refers to itself")
    if not is_under(cut, at):
        raise refused(at, f"refers upwards or aside, to {shown(cut)}; only zones below its own are its to delegate")
    if not is_under(target, cut):
        raise refused(at, f"refers to {shown(cut)}, which has nothing to do with {shown(target)}")
    addresses = {}
    wanting = []
    for host in referral.hosts[:MAX_HOSTS]:
        glue = referral.addresses.get(host, ())[:MAX_HOSTS]
        if glue and is_under(host, at):
            addresses[host] = glue
        elif is_under(host, within) and not is_under(host, cut):
            wanting.append(host)
    if not addresses and not wanting:
        hosts = ", ".join(map(shown, referral.hosts[:MAX_HOSTS]))
        raise refused(
            at,
            f"delegates {shown(cut)} to {hosts} without an address that can be believed: "
            f"glue is due for hosts under {shown(cut)}, and hosts must lie under {shown(within)}",
        )
    return Delegation(cut, addresses, tuple(wanting), referral.ttl)


def is_under(name: bytes, apex: bytes) -> bool:
    """Whether `name` is `apex` or below it; both in wire form, lower case."""
    start = len(name) - len(apex)
    if start < 0 or name[start:] != apex:
        return False
    position = 0
    while position < start:
        position += 1 + name[position]
    return position == start


def shown(name: bytes) -> str:
    """A name in wire form as text for a person, whatever octets are in it (RFC 1035 section 5.1)."""
    labels = []
    position = 0
    while length := name[position]:
        label = name[position + 1 : position + 1 + length]
        labels.append("".join(chr(octet) if chr(octet) in _PLAIN else f"\\{octet:03}" for octet in label))
        position += 1 + length
    return ".".join(labels) + "."


def refused(at: bytes, why: str) -> LookupFailed:
    """The error of a delegation that leads nowhere."""
    return LookupFailed(f"the zone {shown(at)} {why}", rcode="REFERRAL")
