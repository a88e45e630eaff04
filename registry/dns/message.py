"""DNS messages as an asker sends and reads them: strict, and no more than the walk needs."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from registry.dns.wire import (
    AA,
    AAAA,
    CD,
    HEADER,
    IN,
    MAX_TTL,
    MAX_UDP,
    NS,
    OPCODE_MASK,
    OPT,
    QR,
    QUESTION_POINTER,
    RCODES,
    RD,
    RRSIG,
    SOA,
    TC,
    A,
    labels_to_text,
    name_at,
    name_to_wire,
    skip_name,
)
from registry.errors import LookupFailed

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_SOA_NUMBERS = struct.Struct("!IIIII")


_CNAME, _PTR, _MX, _DNAME = 5, 12, 15, 39

Query = Callable[[int, bytes], bytes]  # the message of an id and a question section

_DNSSEC_OK = 0x8000
_OPT = b"\0" + _RECORD.pack(OPT, MAX_UDP, 0, 0)
_OPT_DNSSEC = b"\0" + _RECORD.pack(OPT, MAX_UDP, _DNSSEC_OK, 0)


class Records(NamedTuple):
    """An RRset as received. ttl: seconds, the least of its records (RFC 2181 section 5.2).

    signatures: RDATA of the RRSIG records that cover it, where they were asked for.
    """

    rdatas: tuple[bytes, ...]
    ttl: int
    signatures: tuple[bytes, ...] = ()


class Referral(NamedTuple):
    """Who is said to serve the zone at `cut`. Names in wire form; addresses in text, as the message gives them."""

    cut: bytes
    hosts: tuple[bytes, ...]
    addresses: Mapping[bytes, tuple[str, ...]]
    ttl: int


def question(name: str, rtype: int) -> bytes:
    """The question section for `name` (text) and type, class IN."""
    return name_to_wire(name) + _TYPE_CLASS.pack(rtype, IN)


def question_of(name: bytes, rtype: int) -> bytes:
    """The question section for `name` (wire form, lower case) and type, class IN."""
    return name + _TYPE_CLASS.pack(rtype, IN)


def type_of(asked: bytes) -> int:
    """The type that a question section asks for."""
    return int.from_bytes(asked[-4:-2], "big")


def query(ident: int, asked: bytes, *, dnssec: bool = False) -> bytes:
    """A query without recursion for a question section. dnssec: signatures are wanted too (RFC 4035 section 3.2.1)."""
    return _HEADER.pack(ident, 0, 1, 0, 0, dnssec) + asked + (_OPT_DNSSEC if dnssec else b"")


def recursive_query(ident: int, asked: bytes, *, dnssec: bool = False) -> bytes:
    """A query with recursion, which takes what is sane over UDP. dnssec: and signatures, unchecked: they are checked
    here (RFC 6840 section 5.9)."""
    flags = RD | CD if dnssec else RD
    return _HEADER.pack(ident, flags, 1, 0, 0, 1) + asked + (_OPT_DNSSEC if dnssec else _OPT)


def is_cut(message: bytes) -> bool:
    """Whether the message did not fit, and is to be asked for over TCP."""
    return len(message) >= HEADER and bool(int.from_bytes(message[2:4], "big") & TC)


def records(message: bytes, asked: bytes, *, authoritative: bool = False) -> Records:
    """The RRset that `message` answers the question section `asked` with; authoritative: as its own, or not at all.

    Raises LookupFailed: with `rcode` NXDOMAIN or NODATA (and `ttl_s`, how long that holds, where the message
    says so), with the server's own, REFERRAL for one who says to ask others, LAME for one who is no authority where
    one is due, or with rcode GARBAGE for what is no answer to `asked`.
    """
    try:
        return _records(message, asked, authoritative)
    except (IndexError, struct.error, ValueError) as error:
        raise _garbage(asked, str(error)) from None


def referral(message: bytes, asked: bytes) -> Referral | None:
    """Where `message` says to ask; None where it is no referral. Raises LookupFailed (GARBAGE)."""
    try:
        return _referral(message, asked)
    except (IndexError, struct.error, ValueError) as error:
        raise _garbage(asked, str(error)) from None


def start_of_authority(message: bytes, asked: bytes) -> tuple[bytes, int]:
    """Apex (wire form) and serial of the zone that answers, out of the SOA that it answers with or that stands beside
    a negative answer. Raises LookupFailed (GARBAGE)."""
    try:
        for section, owner, rtype, _, start, end in _sections(message, asked):
            if rtype == SOA and section < 2:
                return owner, soa_numbers(message[start:end])[0]
    except (IndexError, struct.error, ValueError) as error:
        raise _garbage(asked, str(error)) from None
    raise _garbage(asked, "it has no SOA")


def _sections(message: bytes, asked: bytes) -> Iterator[tuple[int, bytes, int, int, int, int]]:
    """Section (0 answer, 1 authority, 2 additional), owner, type, TTL, and where its RDATA starts and ends, of each
    record of class IN."""
    _, _, questions, *counts = _HEADER.unpack_from(message)
    position = HEADER + len(asked)
    if questions != 1 or message[HEADER:position].lower() != asked:
        raise ValueError("it answers another question")
    for section, count in enumerate(counts):
        for _ in range(count):
            start = position
            position = skip_name(message, position)
            rtype, rclass, ttl, length = _RECORD.unpack_from(message, position)
            position += _RECORD.size + length
            if position > len(message):
                raise ValueError("it has a record cut short")
            if rclass == IN:
                owner = name_at(message, start)
                yield section, owner, rtype, ttl if ttl <= MAX_TTL else 0, position - length, position


def _referral(message: bytes, asked: bytes) -> Referral | None:
    _, flags, _, answers, _, _ = _HEADER.unpack_from(message)
    if flags & (0xF | AA | TC) or answers or not flags & QR:
        return None
    cut: bytes | None = None
    hosts: list[bytes] = []
    addresses: dict[bytes, tuple[str, ...]] = {}
    least = MAX_TTL
    for section, owner, rtype, ttl, start, end in _sections(message, asked):
        if section == 1 and rtype == SOA:
            return None
        if section == 1 and rtype == NS:
            if cut not in (None, owner):
                raise ValueError("it refers to two zones at once")
            cut = owner
            hosts.append(name_at(message, start))
            least = min(least, ttl)
        elif section == 2 and rtype in (A, AAAA):
            addresses[owner] = (*addresses.get(owner, ()), str(ipaddress.ip_address(message[start:end])))
    return None if cut is None else Referral(cut, tuple(hosts), addresses, least)


def _records(message: bytes, asked: bytes, authoritative: bool) -> Records:
    _, flags, questions, answers, authorities, _ = _HEADER.unpack_from(message)
    rcode = flags & 0xF
    if not flags & QR or flags & OPCODE_MASK:
        raise ValueError("it is no answer")
    if rcode not in (0, 3):
        name = RCODES.get(rcode, f"RCODE{rcode}")
        raise LookupFailed(f"the name server answered {name} for {_shown(asked)}", rcode=name)
    end = HEADER + len(asked)
    if questions != 1 or message[HEADER:end].lower() != asked:
        raise ValueError("it answers another question")
    if flags & TC:
        raise ValueError("it is cut short")
    found, position = _answers(message, asked, end, answers)
    if authoritative and not flags & AA:
        if rcode == 0 and not answers and _referral(message, asked) is not None:
            raise LookupFailed(f"the name server refers to others for {_shown(asked)}", rcode="REFERRAL")
        raise LookupFailed(f"the name server is no authority for {_shown(asked)}", rcode="LAME")
    if rcode == 0 and found.rdatas:
        return found
    if found.rdatas:
        raise ValueError("it has records of a name that it says does not exist")
    name = "NXDOMAIN" if rcode == 3 else "NODATA"
    holds = _negative_ttl(message, position, authorities)
    raise LookupFailed(f"the name server has no such record: {name} for {_shown(asked)}", rcode=name, ttl_s=holds)


def _answers(message: bytes, asked: bytes, position: int, count: int) -> tuple[Records, int]:
    """The answer section's records, and where the section ends."""
    rtype = type_of(asked)
    rdatas = []
    signatures = []
    least = MAX_TTL
    for _ in range(count):
        start = position
        if message[position : position + 2] == QUESTION_POINTER:
            position += 2
        else:
            position = skip_name(message, position)
            if name_at(message, start) != asked[:-4]:
                raise ValueError("it has a record of another name")
        found, rclass, ttl, length = _RECORD.unpack_from(message, position)
        position += _RECORD.size + length
        if position > len(message) or rclass != IN:
            raise ValueError("it has a record cut short, or of another class")
        if found == rtype:
            rdatas.append(uncompressed(message, rtype, position - length, position))
            least = min(least, ttl if ttl <= MAX_TTL else 0)
        elif found != RRSIG:
            raise ValueError(f"it has a record of type {found} beside the ones asked for")
        elif message[position - length : position - length + 2] == asked[-4:-2]:
            signatures.append(message[position - length : position])
    return Records(tuple(rdatas), least, tuple(signatures)), position


def _negative_ttl(message: bytes, position: int, count: int) -> int:
    """RFC 2308 section 5: the lesser of the SOA's TTL and its minimum; 0 without an SOA."""
    for _ in range(count):
        position = skip_name(message, position)
        rtype, _, ttl, length = _RECORD.unpack_from(message, position)
        position += _RECORD.size + length
        if rtype == SOA:
            return min(ttl if ttl <= MAX_TTL else 0, soa_numbers(message[:position][-length:])[4])
    return 0


def soa_numbers(rdata: bytes) -> tuple[int, int, int, int, int]:
    """Serial, refresh, retry, expire, minimum; the two names before them may be compressed. Raises struct.error."""
    if len(rdata) < 2 + _SOA_NUMBERS.size:
        raise struct.error("an SOA record cut short")
    serial, refresh, retry, expire, minimum = _SOA_NUMBERS.unpack(rdata[-_SOA_NUMBERS.size :])
    return serial, refresh, retry, expire, minimum


def uncompressed(message: bytes, rtype: int, start: int, end: int) -> bytes:
    """RDATA with the names in it spelled out, in those types whose names may be compressed (RFC 3597 section 4)."""
    if rtype == SOA:
        middle = skip_name(message, start)
        return name_at(message, start) + name_at(message, middle) + message[skip_name(message, middle) : end]
    if rtype in (NS, _CNAME, _PTR, _DNAME):
        return name_at(message, start)
    if rtype == _MX:
        return message[start : start + 2] + name_at(message, start + 2)
    return message[start:end]


def txt_strings(rdata: bytes) -> tuple[bytes, ...]:
    """The strings of a TXT record. Raises ValueError."""
    strings = []
    position = 0
    while position < len(rdata):
        end = position + 1 + rdata[position]
        if end > len(rdata):
            raise ValueError("a TXT string cut short")
        strings.append(rdata[position + 1 : end])
        position = end
    return tuple(strings)


def uri(rdata: bytes) -> tuple[int, int, str]:
    """Priority, weight and target of a URI record. Raises ValueError or struct.error."""
    priority, weight = _TYPE_CLASS.unpack_from(rdata)
    target = rdata[4:].decode("ascii")
    if not target or not target.isprintable() or " " in target:
        raise ValueError("a URI record without a URI")
    return priority, weight, target


def _shown(asked: bytes) -> str:
    return labels_to_text(asked[:-5]) + "."


def _garbage(asked: bytes, why: str) -> LookupFailed:
    return LookupFailed(f"the name server's answer for {_shown(asked)} is not usable: {why}", rcode="GARBAGE")
