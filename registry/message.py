"""DNS messages as an asker sends and reads them: strict, and no more than the walk needs."""

from __future__ import annotations

import struct
from typing import NamedTuple

from registry.errors import LookupFailed
from registry.wire import (
    HEADER,
    IN,
    MAX_TTL,
    OPCODE_MASK,
    QR,
    QUESTION_POINTER,
    RCODES,
    RRSIG,
    SOA,
    TC,
    labels_to_text,
    name_at,
    name_to_wire,
    skip_name,
)

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_SOA_NUMBERS = struct.Struct("!IIIII")


class Records(NamedTuple):
    """An RRset as received. ttl: seconds, the least of its records (RFC 2181 section 5.2)."""

    rdatas: tuple[bytes, ...]
    ttl: int


def question(name: str, rtype: int) -> bytes:
    """The question section for `name` (text) and type, class IN."""
    return name_to_wire(name) + _TYPE_CLASS.pack(rtype, IN)


def query(ident: int, asked: bytes) -> bytes:
    """A query without recursion for a question section."""
    return _HEADER.pack(ident, 0, 1, 0, 0, 0) + asked


def records(message: bytes, asked: bytes) -> Records:
    """The RRset that `message` answers the question section `asked` with.

    Raises LookupFailed: with `rcode` NXDOMAIN or NODATA (and `ttl_s`, how long that holds, where the message
    says so), with the server's own, or with rcode GARBAGE for what is no answer to `asked`.
    """
    try:
        return _records(message, asked)
    except (IndexError, struct.error, ValueError) as error:
        raise _garbage(asked, str(error)) from None


def _records(message: bytes, asked: bytes) -> Records:
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
    rdatas, ttl, position = _answers(message, asked, end, answers)
    if rcode == 0 and rdatas:
        return Records(tuple(rdatas), ttl)
    if rdatas:
        raise ValueError("it has records of a name that it says does not exist")
    name = "NXDOMAIN" if rcode == 3 else "NODATA"
    holds = _negative_ttl(message, position, authorities)
    raise LookupFailed(f"the name server has no such record: {name} for {_shown(asked)}", rcode=name, ttl_s=holds)


def _answers(message: bytes, asked: bytes, position: int, count: int) -> tuple[list[bytes], int, int]:
    """RDATA of the answer section's records, their least TTL, where the section ends."""
    rtype = int.from_bytes(asked[-4:-2], "big")
    rdatas = []
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
            rdatas.append(message[position - length : position])
            least = min(least, ttl if ttl <= MAX_TTL else 0)
        elif found != RRSIG:
            raise ValueError(f"it has a record of type {found} beside the ones asked for")
    return rdatas, least, position


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
