"""An authoritative answer from the octets of a question: no sockets, no clock, no DNS library.

A question costs a walk over its labels, a few dict look-ups and one concatenation, because zones keep their
answers rendered. Order and meaning of the checks: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS),
RFC 8482 (ANY), RFC 9715 (no fragments).
"""

from __future__ import annotations

import struct

from registry.rrset import fixed, rrset
from registry.wire import (
    AA,
    AAAA,
    ANY,
    AXFR,
    BADVERS,
    DS,
    FORMERR,
    HEADER,
    HINFO,
    IN,
    IXFR,
    MAX_LABEL,
    MAX_NAME,
    MAX_UDP,
    MIN_UDP,
    NOERROR,
    NOTIMP,
    NS,
    NXDOMAIN,
    OPCODE_MASK,
    OPT,
    QR,
    RD,
    REFUSED,
    TC,
    A,
    name_to_wire,
    skip_name,
)
from registry.zone import Zone, ZoneSet, last_label

ANY_TTL = 3600  # seconds; RFC 8482 section 4.2 asks for a long one

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_COMPRESSED = 0xC000
_DNSSEC_OK = 0x8000
_ANY_ANSWER = rrset(HINFO, ANY_TTL, [b"\x07RFC8482\x00"])


def _opt(extended: int, flags: int) -> bytes:
    return b"\0" + _RECORD.pack(OPT, MAX_UDP, extended << 24 | flags, 0)


_OPT = {flags: _opt(0, flags) for flags in (0, _DNSSEC_OK)}
_OPT_BADVERS = {flags: _opt(BADVERS >> 4, flags) for flags in (0, _DNSSEC_OK)}


def respond(zones: ZoneSet, query: bytes, max_size: int, over_tcp: bool) -> bytes | None:
    """The answer to `query`, or None where none is owed (too short for a header, or itself an answer).

    max_size: octets that the transport carries; over UDP also what the asker said it takes (RFC 6891 section
    6.2.5), 512 where it said nothing. An answer that does not fit is cut to its question with TC set.
    """
    if len(query) < HEADER:
        return None
    ident, flags, *sections = _HEADER.unpack_from(query)
    if flags & QR:
        return None
    if flags & OPCODE_MASK:
        return failure(query, NOTIMP)
    try:
        offsets, end, edns = _parse(query, sections)
    except (IndexError, struct.error, ValueError):
        return failure(query, FORMERR)
    limit, opt = max_size if over_tcp else min(max_size, MIN_UDP), b""
    version = 0
    if edns is not None:
        payload, version, dnssec_ok = edns
        limit = max_size if over_tcp else min(max_size, max(payload, MIN_UDP))
        opt = (_OPT_BADVERS if version else _OPT)[dnssec_ok]
    if version:
        flags_out, counts, body = NOERROR, (0, 0, 0), b""
    else:
        qtype, qclass = _TYPE_CLASS.unpack_from(query, end - 4)
        flags_out, counts, body = _answer(zones, query[HEADER : end - 4].lower(), offsets, qtype, qclass)
    flags_out |= QR | (flags & RD)
    question = query[HEADER:end]
    if HEADER + len(question) + len(body) + len(opt) > limit:
        flags_out, counts, body = flags_out | TC, (0, 0, 0), b""
    answers, authorities, additionals = counts
    header = _HEADER.pack(ident, flags_out, 1, answers, authorities, additionals + (edns is not None))
    return header + question + body + opt


def failure(query: bytes, rcode: int) -> bytes:
    """A bare header that says `rcode`, never longer than what was sent. `query`: at least a header."""
    flags = int.from_bytes(query[2:4], "big")
    return _HEADER.pack(int.from_bytes(query[:2], "big"), QR | flags & (OPCODE_MASK | RD) | rcode, 0, 0, 0, 0)


_Edns = tuple[int, int, int]  # payload size, version, DO flag


def _parse(query: bytes, sections: list[int]) -> tuple[list[int], int, _Edns | None]:
    """Where the labels of the name asked for start, where the question ends, and what EDNS says.

    Raises ValueError, IndexError or struct.error for what is no question.
    """
    questions, answers, authorities, additionals = sections
    if questions != 1 or answers or authorities or additionals > 2 or len(query) > MAX_UDP:
        raise ValueError("not one question, or a long one")
    offsets: list[int] = []
    position = HEADER
    while length := query[position]:
        if length > MAX_LABEL:
            raise ValueError("a compressed name, or a label of an unknown kind")
        offsets.append(position)
        position += 1 + length
    end = position + 5
    if end > len(query) or position + 1 - HEADER > MAX_NAME:
        raise ValueError("a question cut short, or too long a name")
    return offsets, end, _edns(query, end, additionals) if end != len(query) or additionals else None


def _edns(query: bytes, position: int, additionals: int) -> _Edns | None:
    """Payload size, version and DO flag of the OPT record, if there is one; other records are passed over.

    Raises ValueError, IndexError or struct.error for what is no additional section, or octets after it.
    """
    found = None
    for _ in range(additionals):
        owner = position
        position = skip_name(query, position)
        rtype, payload, ttl, length = _RECORD.unpack_from(query, position)
        position += _RECORD.size + length
        if rtype == OPT:
            if found is not None or query[owner] != 0:
                raise ValueError("two OPT records, or one that is not of the root")
            found = payload, ttl >> 16 & 0xFF, ttl & _DNSSEC_OK
    if position != len(query):
        raise ValueError("octets after the last record, or missing from it")
    return found


_Answer = tuple[int, tuple[int, int, int], bytes]  # flags with rcode; records per section; the sections


def _answer(zones: ZoneSet, name: bytes, offsets: list[int], qtype: int, qclass: int) -> _Answer:
    found = _zone_of(zones, name, offsets, qtype == DS) if qclass == IN else None
    if found is None or qtype in (AXFR, IXFR):
        return REFUSED, (0, 0, 0), b""
    zone, depth = found
    start = offsets[depth] - HEADER
    labels = name[:start]
    if zone.cuts:
        first = 1 if qtype == DS else 0  # a delegated name's DS is the parent's (RFC 4035 section 3.1.4.1)
        for offset in offsets[first:depth]:
            if name[offset - HEADER : start] in zone.cuts:
                return _referral(zone, name[offset - HEADER : start], offset)
    node = zone.find(labels, name[offsets[depth - 1] - HEADER : start] if depth else b"")
    if node is None:
        return AA | NXDOMAIN, (0, 1, 0), _pointer(offsets[depth]) + zone.negative
    for each in node:
        if each.rtype == qtype:
            return AA, (each.n, 0, 0), each.wire
    if qtype == ANY and node:
        return AA, (1, 0, 0), _ANY_ANSWER.wire
    return AA, (0, 1, 0), _pointer(offsets[depth]) + zone.negative


def _zone_of(zones: ZoneSet, name: bytes, offsets: list[int], above: bool) -> tuple[Zone, int] | None:
    """The zone with the longest apex that `name` ends in, and the label where the apex starts.

    above: where the name is itself an apex, the zone above is meant, if it is here.
    """
    apex = None
    for depth, offset in enumerate(offsets):
        zone = zones.by_apex.get(name[offset - HEADER :])
        if zone is not None:
            if depth or not above:
                return zone, depth
            apex = zone, depth
    return apex


def _referral(zone: Zone, cut: bytes, offset: int) -> _Answer:
    """The NS records of a cut, and the addresses that this zone holds of the servers they name."""
    apex = name_to_wire(zone.apex)
    authority = additional = b""
    n = glued = 0
    for ttl, host in zone.cuts[cut].rdatas():
        authority += _pointer(offset) + fixed(NS, ttl, host)
        n += 1
        labels = host.removesuffix(apex)
        node = zone.find(labels, last_label(labels)) if labels != host and labels else None
        for each in node or ():
            if each.rtype in (A, AAAA):
                additional += b"".join(host + fixed(each.rtype, ttl, address) for ttl, address in each.rdatas())
                glued += each.n
    return NOERROR, (0, n, glued), authority + additional


def _pointer(offset: int) -> bytes:
    return (_COMPRESSED | offset).to_bytes(2, "big")
