"""An authoritative answer from the octets of a question: no sockets, no clock, no DNS library.

A question costs a walk over its labels, a few dict look-ups and one concatenation, because zones keep their
answers rendered. Order and meaning of the checks: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS),
RFC 8482 (ANY), RFC 9715 (no fragments).
"""

from __future__ import annotations

import struct

from registry.dns.rrset import RRset, fixed, rrset
from registry.dns.wire import (
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
    SERVFAIL,
    TC,
    A,
    name_to_wire,
    skip_name,
)
from registry.zones.zone import Zone, ZoneSet, last_label

ANY_TTL = 3600  # seconds; RFC 8482 section 4.2 asks for a long one
MOST_ADDITIONAL = 2  # records beside the question: OPT and TSIG

_HEADER = struct.Struct("!HHHHHH")
_NUMBERS = struct.Struct("!HHHHH")  # of a header, without its id
_TYPE_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_OPTION = struct.Struct("!HH")
_COMPRESSED = 0xC000
_DNSSEC_OK = 0x8000
_ANY_ANSWER = rrset(HINFO, ANY_TTL, [b"\x07RFC8482\x00"])
_IN = IN.to_bytes(2, "big")
_ONE_QUESTION = b"\0\1\0\0\0\0"
_ROOT_OPT = b"\0" + OPT.to_bytes(2, "big")


def _opt(extended: int, flags: int) -> bytes:
    return b"\0" + _RECORD.pack(OPT, MAX_UDP, extended << 24 | flags, 0)


_OPT = {flags: _opt(0, flags) for flags in (0, _DNSSEC_OK)}
_OPT_BADVERS = _opt(BADVERS >> 4, 0)
_OPT_LENGTH = len(_OPT[0])
_INVOLVED = frozenset((NS, DS, ANY, AXFR, IXFR))  # types of which more is to be said
# What stands between id and question of most questions: the flags of the answer, and how many records may follow.
_PLAIN = {
    bytes([rd, adcd]) + _ONE_QUESTION + bytes([0, additionals]): (QR | AA | rd << 8, additionals)
    for rd in (0, 1)
    for adcd in (0, 0x10, 0x20, 0x30)
    for additionals in (0, 1)
}
# What follows the question of most: nothing, or OPT of a usual size. Octets for the answer; its OPT; records of it.
_ASKED = {b"": (MIN_UDP, b"", 0)} | {
    b"\0" + _RECORD.pack(OPT, size, flags, 0): (size, _OPT[flags], 1)
    for size in (512, 1220, 1232, 1280, 1400, 1410, 1432, 1452, 1472, 4000, 4096, 8192, 65535)
    for flags in (0, _DNSSEC_OK)
}


def respond(zones: ZoneSet, query: bytes, max_size: int, over_tcp: bool) -> bytes | None:
    """The answer to `query`, or None where none is owed (too short for a header, or itself an answer).

    max_size: octets that the transport carries; over UDP also what the asker said it takes (RFC 6891 section
    6.2.5), 512 where it said nothing. An answer that does not fit is cut to its question with TC set.
    """
    return usual(zones, query, max_size, over_tcp) or worked_out(zones, query, max_size, over_tcp)


def usual(zones: ZoneSet, query: bytes, max_size: int, over_tcp: bool) -> bytes | None:
    """What `worked_out` says, for a plain question to a zone that delegates nothing; None for all else.

    Most questions are such, and those for what is there need no walk over labels: what equals a published name is
    well-formed.
    """
    plain = _PLAIN.get(query[2:HEADER])
    end = query.find(0, HEADER) + 5  # no published label has an octet of 0
    asked = _ASKED.get(query[end:])
    if plain is None or asked is None:
        return None
    flags, announced = plain
    size, opt, additionals = asked
    if announced != additionals or query[end - 2 : end] != _IN:
        return None
    found = _found(zones, query, end)
    if found is None:
        return None
    rcode, n, authorities, body = found
    flags |= rcode
    if end + len(body) + len(opt) > (max_size if over_tcp or size > max_size else size):
        flags, n, authorities, body = flags | TC, 0, 0, b""
    return b"".join((query[:2], _NUMBERS.pack(flags, 1, n, authorities, additionals), query[HEADER:end], body, opt))


def _found(zones: ZoneSet, query: bytes, end: int) -> tuple[int, int, int, bytes] | None:
    """Code, answer records, authority records and their octets, if its zone delegates nothing."""
    qtype = query[end - 4] << 8 | query[end - 3]
    name = query[HEADER : end - 4].lower()
    by_apex = zones.by_apex
    for length in zones.lengths:
        zone = by_apex.get(name[-length:])
        if zone is not None:
            break
    else:
        return None
    if zone.cuts or qtype in _INVOLVED:
        return None
    node = zone.published(name[:-length])
    for rtype, n, wire in node or ():
        if rtype == qtype:
            return NOERROR, n, 0, wire
    apex = end - 4 - length
    if node is None and not _is_name(query, apex):
        return None
    return NXDOMAIN if node is None else NOERROR, 0, 1, _pointer(apex) + zone.negative


def _is_name(query: bytes, apex: int) -> bool:
    """Whether the octets of the question up to `apex` are labels, and the name of no more octets than a name has."""
    position = HEADER
    while position < apex:
        if query[position] > MAX_LABEL:
            return False
        position += 1 + query[position]
    return position == apex and query.find(0, apex) - HEADER < MAX_NAME


def worked_out(zones: ZoneSet, query: bytes, max_size: int, over_tcp: bool) -> bytes | None:
    """`respond`, step by step."""
    if len(query) < HEADER:
        return None
    flags = query[2] << 8 | query[3]
    if flags & QR:
        return None
    if flags & OPCODE_MASK:
        return failure(query, NOTIMP)
    try:
        offsets, end = _question(query)
        edns = _edns(query, end)
    except (IndexError, struct.error, ValueError):
        return failure(query, FORMERR)
    limit, opt, version = MIN_UDP, b"", 0
    if edns is not None:
        payload, version, dnssec_ok = edns
        limit = max(payload, MIN_UDP)
        opt = _OPT_BADVERS if version else _OPT[dnssec_ok]
    if version:
        flags_out, counts, body = NOERROR, (0, 0, 0), b""
    else:
        qtype, qclass = _TYPE_CLASS.unpack_from(query, end - 4)
        flags_out, counts, body = _answer(zones, query[HEADER : end - 4].lower(), offsets, qtype, qclass)
    flags_out |= QR | (flags & RD)
    if end + len(body) + len(opt) > (max_size if over_tcp else min(max_size, limit)):
        flags_out, counts, body = flags_out | TC, (0, 0, 0), b""
    answers, authorities, additionals = counts
    numbers = _NUMBERS.pack(flags_out, 1, answers, authorities, additionals + (edns is not None))
    return query[:2] + numbers + query[HEADER:end] + body + opt


def truncated(answer: bytes) -> bytes:
    """An answer of `respond` cut to its question with TC set; what has no records stays as it is."""
    if answer[6:10] == bytes(4):
        return answer
    end = skip_name(answer, HEADER) + 4
    opt = answer[-_OPT_LENGTH:] if answer[-_OPT_LENGTH:].startswith(_ROOT_OPT) else b""
    additionals = b"\0\1" if opt else b"\0\0"
    flags = bytes([answer[2] | TC >> 8])
    return answer[:2] + flags + answer[3:6] + bytes(4) + additionals + answer[HEADER:end] + opt


def failure(query: bytes, rcode: int) -> bytes:
    """A bare header that says `rcode`, never longer than what was sent. `query`: at least a header."""
    flags = int.from_bytes(query[2:4], "big")
    return _HEADER.pack(int.from_bytes(query[:2], "big"), QR | flags & (OPCODE_MASK | RD) | rcode, 0, 0, 0, 0)


def _question(query: bytes) -> tuple[list[int], int]:
    """Where the labels of the name asked for start, and where the question ends.

    Raises ValueError or IndexError for what is no single question.
    """
    if query[4:10] != _ONE_QUESTION or query[10] or query[11] > MOST_ADDITIONAL or len(query) > MAX_UDP:
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
    return offsets, end


_Edns = tuple[int, int, int]  # payload size, version, DO flag


def _edns(query: bytes, end: int) -> _Edns | None:
    """What the OPT record after the question says, if there is one; other records are passed over.

    Raises ValueError, IndexError or struct.error for what is no additional section, or octets after it.
    """
    additionals = query[11]
    position = end
    found = None
    for _ in range(additionals):
        owner = position
        position = position + 1 if query[position] == 0 else skip_name(query, position)
        rtype, payload, ttl, length = _RECORD.unpack_from(query, position)
        position += _RECORD.size + length
        if rtype == OPT:
            if found is not None or query[owner] != 0:
                raise ValueError("two OPT records, or one that is not of the root")
            if length:
                _check_options(query, position - length, position)
            found = payload, ttl >> 16 & 0xFF, ttl & _DNSSEC_OK
    if position != len(query):
        raise ValueError("octets after the last record, or missing from it")
    return found


def _check_options(query: bytes, position: int, end: int) -> None:
    """RFC 6891 section 6.1.2: options fill the record. Raises ValueError or struct.error; none of them matters here."""
    while position < end:
        _, length = _OPTION.unpack_from(query, position)
        position += _OPTION.size + length
    if position != end:
        raise ValueError("an EDNS option that is longer than its record")


_Answer = tuple[int, tuple[int, int, int], bytes]  # flags with rcode; records per section; the sections


def _answer(zones: ZoneSet, name: bytes, offsets: list[int], qtype: int, qclass: int) -> _Answer:
    found = _zone_of(zones, name, offsets, qtype == DS) if qclass == IN else None
    if found is None or qtype in (AXFR, IXFR):
        return REFUSED, (0, 0, 0), b""
    zone, depth = found
    apex = offsets[depth]
    start = apex - HEADER
    if zone.cuts:
        first = 1 if qtype == DS else 0  # a delegated name's DS is the parent's (RFC 4035 section 3.1.4.1)
        for offset in offsets[first:depth]:
            if name[offset - HEADER : start] in zone.cuts:
                pending = name[offset - HEADER :] in zones.pending
                return (SERVFAIL, (0, 0, 0), b"") if pending else _referral(zone, name[offset - HEADER : start], offset)
    node = zone.find(name[:start], name[offsets[depth - 1] - HEADER : start] if depth else b"")
    if node is None:
        return AA | NXDOMAIN, (0, 1, 0), _pointer(apex) + zone.negative
    for each in node:
        if each.rtype == qtype:
            n, additional = _addresses(zone, each) if qtype == NS else (0, b"")
            return AA, (each.n, 0, n), each.wire + additional
    if qtype == ANY and node:
        return AA, (1, 0, 0), _ANY_ANSWER.wire
    return AA, (0, 1, 0), _pointer(apex) + zone.negative


def _zone_of(zones: ZoneSet, name: bytes, offsets: list[int], above: bool) -> tuple[Zone, int] | None:
    """The zone with the longest apex that `name` ends in, and the label where the apex starts.

    above: where the name is itself an apex, the zone above is meant, if it is here.
    """
    apex = None
    by_apex = zones.by_apex
    for length in zones.lengths:
        zone = by_apex.get(name[-length:])
        if zone is not None and HEADER + len(name) - length in offsets:
            depth = offsets.index(HEADER + len(name) - length)
            if depth or not above:
                return zone, depth
            apex = zone, depth
    return apex


def _referral(zone: Zone, cut: bytes, offset: int) -> _Answer:
    """The NS records of a cut, and the addresses of the servers they name."""
    servers = zone.cuts[cut]
    authority = b"".join([_pointer(offset) + fixed(NS, ttl, host) for ttl, host in servers.rdatas()])
    n, additional = _addresses(zone, servers)
    return NOERROR, (0, servers.n, n), authority + additional


def _addresses(zone: Zone, servers: RRset) -> tuple[int, bytes]:
    """How many address records this zone holds of the servers that NS records name, and those records."""
    apex = name_to_wire(zone.apex)
    additional = b""
    n = 0
    for _, host in servers.rdatas():
        labels = host.removesuffix(apex)
        node = zone.find(labels, last_label(labels)) if labels != host and labels else None
        for each in node or ():
            if each.rtype in (A, AAAA):
                additional += b"".join([host + fixed(each.rtype, ttl, address) for ttl, address in each.rdatas()])
                n += each.n
    return n, additional


def _pointer(offset: int) -> bytes:
    return (_COMPRESSED | offset).to_bytes(2, "big")
