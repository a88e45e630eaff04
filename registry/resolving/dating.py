"""How new a zone is that a server or a copy has: the registry's own serial, as its apex says it.

A server that signs counts SOA serials of its own, so the apex's TXT counts where it names one
(docs/decisions/008-the-publication-time-is-data.md); the SOA's elsewhere, as in the origin's zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.dns.message import Records, soa_numbers, txt_strings
from registry.dns.wire import SOA, TXT

_KEY = b"serial="
MAX_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Dating:
    """The serial of the zone at `apex` (wire form), and the RRset of the apex, of type `rtype`, that says so."""

    apex: bytes
    serial: int
    rtype: int
    records: Records


def dating(apex: bytes, soa: Records, text: Records | None) -> Dating:
    """By the RRsets SOA and, where there is one, TXT of the apex. Raises ValueError or struct.error."""
    serial = _told(text.rdatas) if text is not None else None
    if text is not None and serial is not None:
        return Dating(apex, serial, TXT, text)
    [rdata] = soa.rdatas
    return Dating(apex, soa_numbers(rdata)[0], SOA, soa)


def _told(rdatas: Sequence[bytes]) -> int | None:
    for rdata in rdatas:
        for string in txt_strings(rdata):
            digits = string[len(_KEY) :]
            if string.startswith(_KEY):
                if not digits.isdigit() or len(digits) > MAX_DIGITS:
                    raise ValueError("the apex names a serial that is none")
                return int(digits)
    return None
